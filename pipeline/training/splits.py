"""The videos and queries a run learns from and is chosen by, as the stages before left them: in memory, or mapped where they do not fit."""

from __future__ import annotations

import hashlib
from typing import Any

import torch

from pipeline.clips.recipe import recipe as clips_recipe
from pipeline.clips.recipe import recipe_name
from pipeline.config.method import Experiment
from pipeline.core.layout import Layout
from pipeline.core.store import recipe_hash
from pipeline.objectives.base import TEACHER
from pipeline.objectives.total import Total
from pipeline.ranking import data
from pipeline.ranking.room import SHARE, Room
from pipeline.ranking.split import Split


def splits(chosen: Experiment, layout: Layout, room: Room, texts: data.MadeBy | None) -> tuple[Split, Split]:
    """The training split, and the one that chooses the epoch; in memory as far as there is room, the training split before the other."""
    train = train_split(chosen, layout, room, texts)
    files = _files(chosen, layout, texts)
    return train, data.load(chosen.training.selection_split, **files, room=room, training=False, needs_teacher=False)


def train_split(chosen: Experiment, layout: Layout, room: Room | None = None, texts: data.MadeBy | None = None) -> Split:
    """The videos that are trained on, with what the objectives learn from."""
    teaching = chosen.teaching
    return data.load(
        "train",
        **_files(chosen, layout, texts),
        room=room,
        training=True,
        teacher=layout.text(chosen.teacher) if chosen.teacher else None,
        needs_teacher=TEACHER in Total(chosen.objectives).needs,
        teacher_clips=layout.clips(recipe_name(teaching), "*").parent if teaching else None,
        teacher_made_by=recipe_hash(clips_recipe(teaching)) if teaching else None,
    )


def _files(chosen: Experiment, layout: Layout, texts: data.MadeBy | None) -> dict[str, Any]:
    clips = layout.clips(recipe_name(chosen), "*").parent
    made_by = recipe_hash(clips_recipe(chosen))
    text = {"text": layout.text(chosen.text), "texts_made_by": texts}
    return {"annotations": layout.annotations, "clips": clips, "made_by": made_by, **text}


def resident(split: Split, device: torch.device) -> Split:
    """The split on the GPU when it fits there, so that a batch is gathered without a copy."""
    if device.type != "cuda":
        return split
    free, _ = torch.cuda.mem_get_info(device)
    return split.to(device) if split.bytes < SHARE * free else split


def digest(split: Split) -> str:
    """What the split holds: its ids, how every video was merged, some of its rows, and [EOS] of every query, which has seen its words."""
    videos, queries = split.videos, split.queries
    made = hashlib.sha256(repr((videos.ids, queries.ids)).encode())
    of_videos = (videos.frames[:, 0], videos.frame_count, videos.clips[:, -1], videos.frame_to_clip, videos.context)
    of_teacher = (videos.teacher[:, 0], queries.teacher_sentence) if videos.teacher is not None else ()
    for rows in (*of_videos, *of_teacher, queries.words[queries.offsets[1:] - 1]):
        made.update(rows.contiguous().numpy().tobytes())
    return made.hexdigest()[:12]
