"""Windows of long videos as units that are ranked, and what that says of their videos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Windows:
    """Which rows of a gallery are windows of which video: those of a video lie one after the other.

    `ids` [U] the video of each; videos V in the order of their first window. ValueError when a video's windows lie apart.
    """

    def __init__(self, ids: Sequence[str]) -> None:
        begins = [i for i, video in enumerate(ids) if i == 0 or ids[i - 1] != video]
        self.ids = [ids[i] for i in begins]
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("the windows of a video do not lie one after the other")
        self.first = torch.tensor([*begins, len(ids)])

    @property
    def single(self) -> bool:
        """Whether every video is one window."""
        return len(self.ids) == int(self.first[-1])

    @property
    def video(self) -> Tensor:
        """The video of each window. Shapes: int64 [U]."""
        return torch.repeat_interleave(torch.arange(len(self.ids)), self.first.diff())

    def best(self, scores: Tensor) -> Tensor:
        """The score of every video, that of its best window. Shapes: [Q, U] -> [Q, V]."""
        if self.single:
            return scores
        owner = self.video.to(scores.device).expand(len(scores), -1)
        return scores.new_full((len(scores), len(self.ids)), float("-inf")).scatter_reduce(1, owner, scores, "amax")

    def found(self, scores: Tensor, videos: Tensor) -> Tensor:
        """The best window of one video a query, of equal ones the first. Shapes: `scores` [Q, U], `videos` [Q] -> int64 [Q]."""
        if self.single:
            return videos
        first = self.first.to(scores.device)
        begin, count = first[videos], first[videos + 1] - first[videos]
        place = torch.arange(int(count.max()), device=scores.device)
        theirs = scores.gather(1, (begin[:, None] + place).clamp_max(scores.shape[1] - 1))
        return begin + theirs.masked_fill(place >= count[:, None], float("-inf")).argmax(1)

    def of_videos(self, values: np.ndarray) -> np.ndarray:
        """What all windows of a video say alike, once for each video. Shapes: [U] -> [V]."""
        return values[self.first[:-1].numpy()]


def showing(moments: np.ndarray, start: np.ndarray, end: np.ndarray) -> int:
    """The window that shows most of a query's moments, of equal ones that in whose middle they lie; -1 when none shows any.

    Shapes: `moments` [n, 2], `start`, `end` [W] s.
    """
    shared = np.minimum(moments[:, 1:], end) - np.maximum(moments[:, :1], start)
    shown = np.clip(shared, 0, None).sum(0)
    inside = shared.max(0, initial=-np.inf) >= 0  # a moment may be one instant
    if not inside.any():
        return -1
    away = np.abs((start + end) / 2 - moments.mean())
    return int(np.lexsort((away, -shown, ~inside))[0])
