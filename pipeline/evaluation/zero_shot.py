"""The reference row: the foundation model's own max-sim between a query's sentence and a video's images, without any training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.clips.pooling import average_to_fixed_length
from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core.layout import Layout
from pipeline.core.store import open_store
from pipeline.models.scores import max_cosine, token_cosines

VIDEOS_AT_ONCE = 64


@dataclass(frozen=True)
class ZeroShot:
    """Scores by max-sim over every stored row and over 128 pooled rows, and the middle of the best row in each query's own video.

    Shapes: `rows`, `pooled` [Q, V]; `best_time` [Q] s, NaN where rows carry no times.
    """

    rows: Tensor
    pooled: Tensor
    best_time: np.ndarray


def encoder_of(config: Config, experiment: Experiment) -> str | None:
    """The encoder whose images live in the query encoder's joint space: the text encoder's own image tower, if any experiment uses it."""
    used = {name for other in config.experiments for name in config.experiment(other).encoders} | set(experiment.encoders)
    return experiment.text if experiment.text in used else None


def stored_rows(layout: Layout, encoder: str, shards: Sequence[str], wanted: Sequence[str]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(video id, rows [T, E], middle of each row [T] s) of the `wanted` videos that are stored."""
    asked = set(wanted)
    for shard in shards:
        with open_store(layout.features(encoder, shard), stage="features", encoder=encoder, shard=shard) as store:
            if "features" not in store:
                continue  # a shard without a usable video
            data = store.ragged("features", lazy=True)
            for video in data.ids:
                if video in asked:
                    place = data.rows(video)
                    middle = (data.columns["start"][place] + data.columns["end"][place]) / 2
                    yield video, data[video].astype(np.float32), middle


def width(layout: Layout, encoder: str, shards: Sequence[str]) -> int:
    """Columns of an encoder's rows, 0 when no video is stored."""
    for shard in shards:
        with open_store(layout.features(encoder, shard), stage="features", encoder=encoder, shard=shard) as store:
            if "features" in store:
                return int(store.ragged("features", lazy=True).values.shape[1])
    return 0


def _padded(rows: list[np.ndarray]) -> Tensor:
    """Rows of several videos as [B, T, E] of unit length; copies of its first row fill up a short one, which changes no maximum."""
    longest = max(len(array) for array in rows)
    filled = [np.concatenate([array, np.repeat(array[:1], longest - len(array), axis=0)]) for array in rows]
    return F.normalize(torch.from_numpy(np.stack(filled)), dim=-1)


def max_sim(
    sentences: Tensor,
    truth: Tensor,
    videos: Sequence[str],
    rows: Iterator[tuple[str, np.ndarray, np.ndarray]],
    *,
    pooled: int = 128,
    device: torch.device | str = "cpu",
) -> ZeroShot:
    """Score queries against videos by the best cosine between the sentence and any row; computed on `device`, returned on the CPU.

    Shapes: `sentences` [Q, E] projected [EOS], `truth` [Q] index of each one's video in `videos`; `rows` may come in any order; a video
    without rows scores -1 everywhere. Source: docs/method.md 8.3.
    """
    index = {video: i for i, video in enumerate(videos)}
    by_row = torch.full((len(sentences), len(videos)), -1.0)
    by_pool = by_row.clone()
    best_time = np.full(len(sentences), np.nan)
    sentences = sentences.to(device)
    waiting: list[tuple[str, np.ndarray, np.ndarray]] = []

    def score() -> None:
        columns = torch.tensor([index[video] for video, _, _ in waiting])
        tokens = _padded([values for _, values, _ in waiting]).to(device)
        by_row[:, columns] = max_cosine(sentences, tokens).cpu()
        means = np.stack([average_to_fixed_length(values, pooled) for _, values, _ in waiting])
        by_pool[:, columns] = max_cosine(sentences, F.normalize(torch.from_numpy(means), dim=-1).to(device)).cpu()
        position = torch.full((len(videos),), -1)
        position[columns] = torch.arange(len(columns))
        own = torch.nonzero(position[truth] >= 0)[:, 0]
        if len(own):
            local = position[truth[own]]
            similarity = token_cosines(sentences[own.to(device)], tokens[local.to(device)])
            # Of equal rows the first, which argmax does not promise.
            best = (similarity == similarity.amax(-1, keepdim=True)).int().cummax(-1).values.logical_not().sum(-1).cpu()
            # A copy of the first row may come out a last bit higher than the row itself, and stands for it.
            best = torch.where(best < torch.tensor([len(values) for _, values, _ in waiting])[local], best, 0)
            best_time[own.numpy()] = [waiting[v][2][row] for v, row in zip(local.tolist(), best.tolist(), strict=True)]
        waiting.clear()

    for item in rows:
        waiting.append(item)
        if len(waiting) == VIDEOS_AT_ONCE:
            score()
    if waiting:
        score()
    return ZeroShot(by_row, by_pool, best_time)
