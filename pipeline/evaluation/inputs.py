"""What an evaluation reads beside the model: the split's clips and queries, when each row happens, and what had to be left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.clips.recipe import recipe_name
from pipeline.config.method import Experiment
from pipeline.core.layout import Layout
from pipeline.core.store import open_store
from pipeline.datasets import table
from pipeline.evaluation import time_line
from pipeline.ranking import data

QUERIES_AT_ONCE = 512
VIDEOS_AT_ONCE = 32


@dataclass(frozen=True)
class Inputs:
    """One split, ready to be ranked.

    Shapes: `split` videos V and queries Q (training.data); `queries` [Q] rows of the annotations, in the split's order; `start`, `end`
    [V, F] s of the pooled rows and `duration` [V] s, NaN when unknown; `annotated` [V] s as the annotations say, NaN when they do not;
    `moments` ragged (offsets [Q+1], values [n, 2] s), on the files' time line like the rows; `sentence` [Q, E] the foundation model's own
    text embedding, or None; `shards` names of the clip shards; `excluded_videos`, `excluded_queries` ids of the split that could not be
    used; `gallery` name of the evaluation set where the dataset has several.
    """

    split: data.Split
    queries: pd.DataFrame
    start: np.ndarray
    end: np.ndarray
    duration: np.ndarray
    annotated: np.ndarray
    moments: tuple[np.ndarray, np.ndarray]
    sentence: Tensor | None
    shards: list[str]
    excluded_videos: list[str]
    excluded_queries: list[str]
    gallery: str

    @property
    def scale(self) -> np.ndarray:
        """File seconds per annotated second: [V]."""
        return time_line.scale(self.annotated, self.duration)

    def video_batches(self, device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """(frames, clips, sizes) batches in order."""
        return self.split.videos.batches(VIDEOS_AT_ONCE, device)

    def query_batches(self, max_words: int, device: torch.device) -> tuple[Tensor, Iterator[tuple[Tensor, Tensor]]]:
        """The order the queries are read in, shortest first so that little is padded, and their (words, mask) batches: order [Q] int64."""
        queries = self.split.queries
        order = torch.argsort(queries.offsets[1:] - queries.offsets[:-1], stable=True)
        return order, (queries.padded(chosen, max_words, device) for chosen in order.split(QUERIES_AT_ONCE))


def load(layout: Layout, experiment: Experiment, split: str) -> Inputs:
    """Read a split. Errors: those of training.data.load; StoreError."""
    folder = layout.clips(recipe_name(experiment), "*").parent
    text = layout.text(experiment.text)
    with open_store(text, stage="text") as store:
        tokens = store.ragged("tokens", lazy=True)
        sentences = tokens.items.get("sentence")
    teacher = layout.text(experiment.teacher) if experiment.teacher else None
    # Without any sentence vector (RoBERTa bundles) there is no foundation model to compare with.
    has_teacher = teacher is not None or sentences is not None
    found = data.load(split, annotations=layout.annotations, clips=folder, text=text, teacher=teacher, needs_teacher=has_teacher)
    known = table.load(layout.annotations)
    wanted = known.queries[known.queries["split"] == split]
    videos = set(found.videos.ids)
    queries = wanted.set_index("query_id", drop=False).loc[found.queries.ids].reset_index(drop=True)
    spans = [known.moments[query] for query in found.queries.ids]
    start, end, duration = _times(folder, found.videos.ids)
    annotated = known.videos.set_index("video_id")["duration"].loc[found.videos.ids].to_numpy(dtype=np.float64)
    offsets = np.cumsum([0, *(len(span) for span in spans)])
    scale = time_line.scale(annotated, duration)[found.queries.video.numpy()]
    rows = [tokens.index[query] for query in found.queries.ids]
    return Inputs(
        split=found,
        queries=queries,
        start=start,
        end=end,
        duration=duration,
        annotated=annotated,
        moments=(offsets, (np.concatenate(spans) if spans else np.zeros((0, 2))) * np.repeat(scale, np.diff(offsets))[:, None]),
        sentence=None if sentences is None else torch.from_numpy(np.asarray(sentences, dtype=np.float32)[rows]),
        shards=sorted(path.stem for path in folder.glob("*.h5")),
        excluded_videos=[video for video in dict.fromkeys(wanted["video_id"]) if video not in videos],
        excluded_queries=sorted(set(wanted["query_id"]) - set(found.queries.ids)),
        gallery=known.gallery,
    )


def _times(folder: Path, ids: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and end (s) of every pooled row and the duration (s) of each video, in the order of `ids`."""
    place = {video: i for i, video in enumerate(ids)}
    start = end = np.zeros((0, 0))
    duration = np.full(len(ids), np.nan)
    for path in sorted(folder.glob("*.h5")):
        with open_store(path, stage="clips") as store:
            videos, starts, ends = store.table("videos"), store.array("start"), store.array("end")
        if not start.size:
            start, end = np.full((len(ids), starts.shape[1]), np.nan), np.full((len(ids), starts.shape[1]), np.nan)
        rows = [(i, place[video]) for i, video in enumerate(videos["video_id"]) if video in place]
        if rows:
            source, target = (list(side) for side in zip(*rows, strict=True))
            start[target], end[target] = starts[source], ends[source]
            duration[target] = videos["duration"].to_numpy(dtype=np.float64)[source]
    return start, end, duration
