"""Batches of videos with all their queries: every loss depends on that grouping (docs/method.md 7.3)."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from pipeline.models.base import Videos, Words
from pipeline.ranking.split import Split

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """What one step sees: videos and all their queries.

    Shapes: `labels` [Q] index of the query's video in the batch; `teacher` [Q, T] or None; `ids` of the videos; `teacher_frames` [B, F, T]
    and `teacher_sentences` [Q, T], or None.
    """

    videos: Videos
    words: Words
    labels: Tensor
    teacher: Tensor | None
    ids: list[str]
    teacher_frames: Tensor | None = None
    teacher_sentences: Tensor | None = None


class Sampler:
    """Shuffles the videos of each epoch with its own seeded generator; the last batch may be smaller.

    `state` is the generator's, for an exact resume.
    """

    def __init__(self, videos: int, size: int, seed: int) -> None:
        self.videos, self.size = videos, size
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-self.videos // self.size)

    def epoch(self) -> Iterator[Tensor]:
        """Indices of the videos of each batch, int64 [<= size]."""
        yield from torch.randperm(self.videos, generator=self.generator).split(self.size)

    @property
    def state(self) -> Tensor:
        return self.generator.get_state()

    @state.setter
    def state(self, state: Tensor) -> None:
        self.generator.set_state(state)


class Batches:
    """Gathers batches from a split, without a loop over videos or queries; with `raw` video rows keep their length."""

    def __init__(self, split: Split, max_words: int, device: torch.device, *, raw: bool = False) -> None:
        self.split, self.max_words, self.device, self.raw = split, max_words, device, raw
        # Queries sorted by video, so that a video's queries are one range.
        self._by_video = torch.argsort(split.queries.video, stable=True)
        counts = torch.bincount(split.queries.video, minlength=len(split.videos))
        self._starts, self._counts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])[:-1], counts

    def epoch(self, sampler: Sampler) -> Iterator[Batch]:
        """The batches of an epoch; of a split that is not on the GPU the next one is gathered while the caller works with the last."""
        made = (self.gather(chosen) for chosen in sampler.epoch())
        return ahead(made) if self.split.videos.frames.device.type == "cpu" else made

    def gather(self, chosen: Tensor) -> Batch:
        """The batch of these videos. Shapes: `chosen` [B] int64, on the CPU."""
        videos, queries, device = self.split.videos, self.split.queries, self.device
        counts = self._counts[chosen]
        labels = torch.repeat_interleave(torch.arange(len(chosen)), counts)
        first = counts.cumsum(0) - counts
        asked = self._by_video[self._starts[chosen][labels] + torch.arange(len(labels)) - first[labels]]
        return Batch(
            videos=videos.gather(chosen.to(videos.frames.device), device, raw=self.raw),
            words=queries.padded(asked, self.max_words, device),
            labels=labels.to(device),
            teacher=_chosen(queries.teacher, asked, device),
            ids=[videos.ids[i] for i in chosen.tolist()],
            teacher_frames=_chosen(videos.teacher, chosen, device),
            teacher_sentences=_chosen(queries.teacher_sentence, asked, device),
        )


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The items, each made by a thread while the caller works with the one before. What making one raises, asking for it raises."""
    with ThreadPoolExecutor(1) as thread:
        following = thread.submit(next, items, None)
        while (item := following.result()) is not None:
            following = thread.submit(next, items, None)
            yield item


def _chosen(rows: Tensor | None, chosen: Tensor, device: torch.device) -> Tensor | None:
    return None if rows is None else rows[chosen.to(rows.device)].to(device).float()
