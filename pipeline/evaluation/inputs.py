"""What an evaluation reads beside the model: the split's clips and queries, when each row happens, and what had to be left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.clips.recipe import recipe, recipe_name
from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core.layout import Layout
from pipeline.core.store import open_store, recipe_hash
from pipeline.datasets import time_line
from pipeline.evaluation.judged import Judgements, judgements
from pipeline.evaluation.moments import within
from pipeline.ranking import data
from pipeline.ranking.room import Room
from pipeline.ranking.split import Split


@dataclass(frozen=True)
class Inputs:
    """One split, ready to be ranked.

    Shapes: `split` videos V with the times of their rows, and queries Q (ranking.data); `queries` [Q] rows of the annotations, in the
    split's order; `annotated` [V] s as the annotations say, NaN when they do not; `moments` ragged (offsets [Q+1], values [n, 2] s), on the
    files' time line like the rows; `shards` names of the clip shards; `excluded_videos`, `excluded_queries` ids of the split that could not
    be used; `beyond` ids of queries with a moment after their video's end, which is left out;
    `gallery` name of the evaluation set where the dataset has several; `judged` queries, where a file names
    the videos that answer them.
    """

    split: Split
    queries: pd.DataFrame
    annotated: np.ndarray
    moments: tuple[np.ndarray, np.ndarray]
    shards: list[str]
    excluded_videos: list[str]
    excluded_queries: list[str]
    beyond: list[str]
    gallery: str
    judged: Judgements | None = None

    @property
    def scale(self) -> np.ndarray:
        """File seconds per annotated second: [V]."""
        return time_line.scale(self.annotated, self.split.durations)


def load_split(config: Config, experiment: str = "", split: str = "") -> data.Split:
    """A split of a workflow's results; by default that of the first experiment's evaluation. Errors: those of `load`."""
    chosen = config.experiment(experiment or next(iter(config.experiments)))
    return load(config.layout, chosen, split or chosen.evaluation.split).split


def load(layout: Layout, experiment: Experiment, split: str, texts: data.MadeBy | None = None, room: Room | None = None) -> Inputs:
    """Read a split, into the files of `room` where it has no memory for it.

    Its text files must say they were made by `texts`, values of their recipes by encoder.

    Errors: those of ranking.data.load; StoreError.
    """
    folder = layout.clips(recipe_name(experiment), "*").parent
    text = layout.text(experiment.text)
    teacher = layout.text(experiment.teacher) if experiment.teacher else None
    # Without any sentence vector (RoBERTa bundles) there is no foundation model to compare with.
    with open_store(text, stage="text") as store:
        has_teacher = teacher is not None or "sentence" in store.ragged("tokens", lazy=True).items
    read = data.load(
        split,
        annotations=layout.annotations,
        clips=folder,
        text=text,
        teacher=teacher,
        training=False,
        needs_teacher=has_teacher,
        room=room,
        made_by=recipe_hash(recipe(experiment)),
        texts_made_by=texts,
    )
    judged = experiment.evaluation.relevance
    known = read.annotations
    wanted = known.queries[known.queries["split"] == split]
    videos = set(read.ids)
    spans = [known.moments[query] for query in read.queries.ids]
    annotated = known.videos.set_index("video_id")["duration"].loc[read.ids].to_numpy(dtype=np.float64)
    offsets = np.cumsum([0, *(len(span) for span in spans)])
    owner = read.queries.video.numpy()
    factor = time_line.scale(annotated, read.durations)[owner]
    values = (np.concatenate(spans) if spans else np.zeros((0, 2))) * np.repeat(factor, np.diff(offsets))[:, None]
    offsets, values, lost = within(offsets, values, read.durations[owner])
    return Inputs(
        split=read,
        queries=wanted.set_index("query_id", drop=False).loc[read.queries.ids].reset_index(drop=True),
        annotated=annotated,
        moments=(offsets, values),
        shards=sorted(path.stem for path in folder.glob("*.h5")),
        excluded_videos=[video for video in dict.fromkeys(wanted["video_id"]) if video not in videos],
        excluded_queries=sorted(set(wanted["query_id"]) - set(read.queries.ids)),
        beyond=[query for query, gone in zip(read.queries.ids, lost, strict=True) if gone],
        gallery=known.gallery,
        judged=judgements(str(layout.relevance(judged)) if judged else None, known, read),
    )
