"""A split's clips and queries, read from the store in a few reads and kept in memory as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.clips.pooling import average_to_fixed_length, padded
from pipeline.core.errors import TrainingError
from pipeline.core.store import AGAIN, Ragged, Reader, open_store
from pipeline.datasets import table, time_line
from pipeline.ranking import shards
from pipeline.ranking.room import Room
from pipeline.ranking.split import PooledVideos, Queries, Split, normalised
from pipeline.ranking.windows import Windows, showing

MadeBy = Mapping[str, Mapping[str, Any]]  # text encoder -> what of its recipe its file must say of itself


def load(
    name: str,
    *,
    annotations: Path,
    clips: Path,
    text: Path,
    teacher: Path | None = None,
    teacher_clips: Path | None = None,
    training: bool,
    needs_teacher: bool = True,
    room: Room | None = None,
    made_by: str | None = None,
    teacher_made_by: str | None = None,
    texts_made_by: MadeBy | None = None,
) -> Split:
    """Read one split.

    `clips` is the folder of the clip shards, `text` the query encoder's file, `teacher` another text encoder's (None: the query encoder's
    own last token), `teacher_clips` the folder of the rows of a teacher of frames, whose sentences are then read from `teacher`, or from
    `text`. Videos without clips (quarantined, or not on disk) are left out with their queries and counted. For `training`, videos
    that no query asks for are left out too; otherwise they are part of the gallery. With `clips.window` a query is learnt from the window
    that shows most of its moments; windows no query asks for are left out of training, and queries of which no moment is known. Arrays
    that `room` has no memory for lie in its files (None: all in memory). `made_by` and `teacher_made_by` are the hashes of the recipes the
    clips must be of, `texts_made_by` values of those of the text files.

    Errors: TrainingError when nothing is left, a query has no text, a video is in two shards, or TCPL has no teacher; StoreError.
    """
    known = table.load(annotations)
    queries = known.queries[known.queries["split"] == name]
    asked = (
        set(queries["video_id"]) if training else set(known.videos["video_id"][known.videos["split"] == name]) | set(queries["video_id"])
    )
    wanted = [video for video in known.videos["video_id"] if video in asked]
    units = shards.units(clips, wanted, made_by)
    windows = Windows(list(units["video_id"]))
    place = {video: i for i, video in enumerate(windows.ids)}
    usable = queries[queries["video_id"].isin(place)]
    owner = np.array([place[video] for video in usable["video_id"]], dtype=np.int64)
    if training and not windows.single:
        owner = _shown(usable, owner, windows, units, known)
        usable, owner = usable[owner >= 0], owner[owner >= 0]
        kept, owner = np.unique(owner, return_inverse=True)
        units = units.iloc[kept].reset_index(drop=True)
    dropped = {"videos": len(wanted) - len(windows.ids), "queries": len(queries) - len(usable)}
    if not len(usable):
        raise _nothing(name, known, annotations, moments=bool(place) and not len(units))
    ids = [str(query) for query in usable["query_id"]]
    stated = texts_made_by or {}
    videos = shards.pooled(units, clips, f"the clips of {name!r}", room)
    asked_for = _queries(ids, torch.from_numpy(owner), text, teacher, stated, needs_teacher=needs_teacher)
    if teacher_clips is not None:
        seen, mapped = _teacher_rows(units, videos, teacher_clips, name, room, teacher_made_by)
        said = _teacher_sentences(ids, teacher or text, seen.shape[2], teacher_clips, stated)
        videos, asked_for = replace(videos, teacher=seen, mapped=(*videos.mapped, *mapped)), replace(asked_for, teacher_sentence=said)
    return Split(name, videos, asked_for, known, dropped)


def _shown(usable: pd.DataFrame, owner: np.ndarray, windows: Windows, units: pd.DataFrame, known: table.Annotations) -> np.ndarray:
    """The window each query is learnt from, the one that shows most of its moments; -1 where that is not known.

    A video of one window shows all of itself. Shapes: `owner` [Q] index of each query's video -> int64 [Q].
    """
    start, end = units["start"].to_numpy(), units["end"].to_numpy()
    annotated = known.videos.set_index("video_id")["duration"].loc[windows.ids].to_numpy(dtype=np.float64)
    factor = time_line.scale(annotated, windows.of_videos(units["duration"].to_numpy(dtype=np.float64)))
    first = windows.first.tolist()
    found = np.empty(len(owner), np.int64)
    for i, (query, video) in enumerate(zip(usable["query_id"], owner.tolist(), strict=True)):
        theirs = slice(first[video], first[video + 1])
        moments = known.moments[query] * factor[video]
        number = 0 if theirs.stop - theirs.start == 1 else showing(moments, start[theirs], end[theirs]) if len(moments) else -1
        found[i] = theirs.start + number if number >= 0 else -1
    return found


def _nothing(name: str, known: table.Annotations, annotations: Path, *, moments: bool) -> TrainingError:
    """The error for a split of which nothing can be used."""
    if moments:
        return TrainingError(
            f"no query of split {name!r} says when in its video it is answered, and a window of a video is learnt from what it shows",
            where=annotations,
            fix="give the queries `start` and `end`, or leave clips.window null",
        )
    splits = ", ".join(f"{split} ({count})" for split, count in known.queries["split"].value_counts().items())
    return TrainingError(
        f"split {name!r} has no query whose video has clips; queries per split: {splits}",
        where=annotations,
        fix="name another split in training.selection_split or evaluation.split, or give the annotations such a split",
    )


def _text(path: Path, stated: MadeBy) -> AbstractContextManager[Reader]:
    """A file of query states; refused by its content when it is another encoder's, or was made by other settings or weights."""
    return open_store(path, stage="text", encoder=path.stem, recipe=stated.get(path.stem))


def _queries(ids: list[str], owner: Tensor, text: Path, teacher: Path | None, stated: MadeBy, *, needs_teacher: bool) -> Queries:
    """The states of these queries, in this order. Shapes: `owner` [Q] int64 index of each query's video."""
    with _text(text, stated) as store:
        tokens = store.ragged("tokens")
        imported = str(store.attrs.get("architecture", "")).startswith("published:")
        last = not imported and store.attrs.get("teacher", "last") == "last"
    sentences = tokens.items.get("sentence")
    rows = _order(tokens, ids, text)
    lengths = torch.from_numpy(np.diff(tokens.offsets)[rows])
    source = np.concatenate([np.arange(tokens.offsets[i], tokens.offsets[i + 1]) for i in rows])
    return Queries(
        ids,
        owner,
        words=torch.from_numpy(np.ascontiguousarray(tokens.values[source])),
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        teacher=_teacher(ids, tokens, rows, text, teacher, last, stated) if needs_teacher else None,
        sentence=None if sentences is None else torch.from_numpy(np.asarray(sentences, dtype=np.float32)[rows]),
    )


def _teacher_rows(
    units: pd.DataFrame, videos: PooledVideos, folder: Path, split: str, room: Room | None, made_by: str | None
) -> tuple[Tensor, tuple[np.ndarray, ...]]:
    """The rows a teacher of frames has of these units, and what of them lies in a file. Shapes: -> [V, F, T]."""
    theirs = shards.units(folder, list(dict.fromkeys(units["video_id"])), made_by)
    key = ["video_id", "number"]
    matched = units[key].merge(theirs, on=key, how="left")
    if absent := list(dict.fromkeys(matched["video_id"][matched["row"].isna()])):
        raise TrainingError(
            f"the teacher has no rows of {len(absent)} videos, the first is {absent[0]!r}",
            where=folder,
            fix="run the workflow again: it encodes what is missing; of imported features, import the complete bundle",
        )
    chosen = matched.astype({"row": int})
    found = shards.arrays(chosen, folder, f"what the teacher sees of {split!r}", room, ("frames", "frame_count"))
    rows = beside(found["frames"], found["frame_count"], videos.frame_count.numpy())
    return torch.from_numpy(rows), shards.mapped(found, ["frames"])


def beside(frames: np.ndarray, count: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A teacher's rows, one beside each frame of the student: where their numbers differ, pooled to the student's as rows are everywhere.

    Shapes: `frames` [V, F, T], of which `count` [V] are no padding; `wanted` [V] -> `frames`, changed in place.
    """
    for i in np.flatnonzero(count != wanted):
        frames[i] = padded(average_to_fixed_length(frames[i, : count[i]].astype(np.float32), int(wanted[i])), frames.shape[1])
    return frames


def _teacher_sentences(ids: list[str], text: Path, width: int, folder: Path, stated: MadeBy) -> Tensor:
    """The sentence vectors of these queries in the space of the teacher's rows. Shapes: -> float32 [Q, T]."""
    with _text(text, stated) as store:
        tokens = store.ragged("tokens", lazy=True)
    if "sentence" not in tokens.items:
        raise TrainingError(
            "a teacher of frames needs a sentence vector of every query, and this import declared none",
            where=text,
            fix="name an encoder of images and sentences as `teacher`",
        )
    sentences = np.asarray(tokens.items["sentence"], dtype=np.float32)
    if sentences.shape[1] != width:
        raise TrainingError(
            f"the teacher's sentences have {sentences.shape[1]} values, its rows {width}: they are not of one space",
            where=folder,
            fix="name an encoder of images and sentences as `teacher`, such as CLIP",
        )
    return torch.from_numpy(sentences[_order(tokens, ids, text)])


def _order(data: Ragged, ids: list[str], path: Path) -> list[int]:
    if missing := [query for query in ids if query not in data]:
        raise TrainingError(
            f"{len(missing)} queries have no text states, the first is {missing[0]!r}",
            where=path,
            fix=AGAIN,
        )
    return [data.index[query] for query in ids]


def _teacher(ids: list[str], tokens: Ragged, rows: list[int], text: Path, teacher: Path | None, last: bool, stated: MadeBy) -> Tensor:
    """The frozen sentence vectors TCPL keeps the relations of.

    Another encoder's are its sentence vectors. The query encoder's own are its `last` token states ([EOS], even of a caption longer than
    `max_words`) where its sentences are made from those, as CLIP's, else its sentence vectors; in an imported text file, what the import
    declared. Shapes: [Q, T] float32, unit length. Source: docs/method.md 6.4, 10.
    """
    if teacher is None and last:
        return normalised(torch.from_numpy(tokens.values[tokens.offsets[np.asarray(rows) + 1] - 1]))
    path = teacher or text
    with _text(path, stated) as store:
        other = store.ragged("tokens", lazy=True)
    if "sentence" not in other.items:
        raise TrainingError(
            "TCPL needs a sentence vector of every query, and this import declared none",
            where=path,
            fix="name a `teacher` encoder, or set objectives.tcpl.distance and .angle to 0",
        )
    return normalised(torch.from_numpy(np.asarray(other.items["sentence"])[_order(other, ids, path)]))
