"""A split in memory: its videos, or their windows, as the clips stage stores them, its queries, and what a model is given of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pipeline.datasets import table
from pipeline.models.base import Videos, Words
from pipeline.ranking.room import want
from pipeline.ranking.windows import Windows

_TINY = 1e-5
ARRAYS = ("frames", "frame_count", "clips", "sizes", "frame_to_clip", "context")
TIMES = ("start", "end")


def normalised(rows: Tensor) -> Tensor:
    """Rows divided by their length plus 1e-5, in float32. Shapes: [..., D] -> same. Source: docs/method.md 2.4."""
    rows = rows.float()
    return rows / (rows.norm(dim=-1, keepdim=True) + _TINY)


def real_rows(count: Tensor, length: int) -> Tensor:
    """Which rows are a video's own and not padding. Shapes: `count` [V] -> bool [V, length]."""
    return torch.arange(length, device=count.device) < count.long()[:, None]


@dataclass(frozen=True)
class PooledVideos:
    """Pooled videos as the clips stage stores them; with `clips.window` V counts windows, and `ids` names the video of each.

    Shapes: `frames` [V, F, D], `clips` [V, C, D], not normalised; `frame_count` [V] int32, rows of `frames` that are not padding;
    `sizes` [V, C] float32; `frame_to_clip` [V, F], `context` [V, C] uint8;
    `start`, `end` [V, F] and `duration` [V] of the whole video in seconds, NaN where unknown; `teacher` [V, F, T] the rows of a teacher of
    frames, as they are, or None when no objective needs them; `mapped` those arrays that lie in a file.
    """

    ids: list[str]
    frames: Tensor
    frame_count: Tensor
    clips: Tensor
    sizes: Tensor
    frame_to_clip: Tensor
    context: Tensor
    start: np.ndarray
    end: np.ndarray
    duration: np.ndarray
    teacher: Tensor | None = None
    mapped: tuple[np.ndarray, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    def gather(self, chosen: Tensor | slice, device: torch.device, *, raw: bool = False) -> Videos:
        """Some videos as a model sees them, on `device`; with `raw` rows keep their length.

        Shapes: `chosen` [B] int64, where the arrays are, or a slice.
        """
        for array in self.mapped:
            want(array, range(len(self))[chosen] if isinstance(chosen, slice) else chosen.tolist())
        scaled = Tensor.float if raw else normalised
        return Videos(
            frames=scaled(self.frames[chosen].to(device)),
            clips=scaled(self.clips[chosen].to(device)),
            sizes=self.sizes[chosen].to(device),
            frame_to_clip=self.frame_to_clip[chosen].to(device),
            context=self.context[chosen].to(device),
            mask=real_rows(self.frame_count[chosen].to(device), self.frames.shape[1]).float(),
        )

    def batches(self, size: int, device: torch.device, *, raw: bool = False) -> Iterator[Videos]:
        """`size` videos at a time, in order."""
        for start in range(0, len(self), size):
            yield self.gather(slice(start, start + size), device, raw=raw)


@dataclass(frozen=True)
class Queries:
    """Token states of the queries, flat, and the video each belongs to.

    Shapes: `words` [N, Dt], query i is rows offsets[i]:offsets[i+1]; `offsets` [Q+1] int64; `video` [Q] int64, index into `Split.ids` of
    a split that is ranked, into `PooledVideos` of one that is trained on: the same where a video is one window;
    `teacher` [Q, T] float32 of unit length, or None when no objective needs it; `sentence` [Q, E] float32, the encoder's own sentence
    vectors, or None where the file holds none; `teacher_sentence` [Q, T] float32, those of a teacher of frames, or None when no objective
    needs them.
    """

    ids: list[str]
    video: Tensor
    words: Tensor
    offsets: Tensor
    teacher: Tensor | None
    sentence: Tensor | None = None
    teacher_sentence: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def padded(self, chosen: Tensor, max_words: int, device: torch.device) -> Words:
        """Words of some queries, rows normalised, cut to `max_words` and zero padded to the longest; the mask of real words; sentences.

        Shapes: `chosen` [n] int64 -> [n, L, Dt], [n, L] float32, [n, E] float32 or None, on `device`.
        """
        starts, lengths = self.offsets[chosen], (self.offsets[chosen + 1] - self.offsets[chosen]).clamp_max(max_words)
        position = torch.arange(int(lengths.max()))
        mask = position < lengths[:, None]
        rows = self.words[((starts[:, None] + position) * mask).to(self.words.device)].to(device)
        mask = mask.to(device)
        sentence = None if self.sentence is None else self.sentence[chosen.to(self.sentence.device)].to(device)
        return Words(normalised(rows) * mask[..., None], mask.float(), sentence)


@dataclass(frozen=True)
class Split:
    """What is trained on, or ranked: videos, the queries about them, what had to be left out, and the annotations they come from."""

    name: str
    videos: PooledVideos
    queries: Queries
    annotations: table.Annotations
    dropped: dict[str, int] = field(default_factory=dict)

    @cached_property
    def windows(self) -> Windows:
        """Which of `videos` are windows of which video."""
        return Windows(self.videos.ids)

    @property
    def ids(self) -> list[str]:
        """The videos."""
        return self.windows.ids

    @property
    def durations(self) -> np.ndarray:
        """How long each is, NaN unknown. Shapes: [V] s."""
        return self.windows.of_videos(self.videos.duration)

    def to(self, device: torch.device) -> Split:
        """The same with its arrays on a device."""
        videos, queries = self.videos, self.queries
        optional = {"teacher", "teacher_sentence", "sentence"}
        moved = {key: value.to(device) for key in optional if (value := getattr(queries, key)) is not None}
        seen = None if videos.teacher is None else videos.teacher.to(device)
        videos = replace(videos, **{k: getattr(videos, k).to(device) for k in ARRAYS}, teacher=seen, mapped=())
        return replace(self, videos=videos, queries=replace(queries, words=queries.words.to(device), **moved))

    @property
    def bytes(self) -> int:
        """Memory of the arrays."""
        arrays = [self.videos.frames, self.videos.clips, self.videos.teacher, self.queries.words]
        return sum(array.numel() * array.element_size() for array in arrays if array is not None)
