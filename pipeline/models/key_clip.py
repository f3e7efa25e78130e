"""Key-clip guided attention of MS-SL: what the frames of a video say to a query, weighed by the proposal that answers it best.

A query's key proposal attends to the frames: r = W2 sum_j softmax_j(W1 f_j . p) f_j. In training a query looks at its own video alone. In
ranking it looks at all of them, and r depends on the query through its key proposal only, of which a video has a few hundred.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.models.scores import TINY

MASKED = -1e9  # the logit of padding


def attend(keys: Tensor, frames: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of a video's frames by their softmax-weighted answer to each key, and the weights.

    Shapes: `keys` [B, K, H] through W1, `frames` [B, F, H], `mask` [B, F], 0 at padding -> [B, K, H], [B, K, F].
    """
    weights = shares(keys @ frames.mT, mask)
    return weights @ frames, weights


def shares(logits: Tensor, mask: Tensor) -> Tensor:
    """What every frame counts to a key. Shapes: `logits` [B, K, F], `mask` [B, F] -> [B, K, F], adding up to 1."""
    return logits.masked_fill(mask[:, None] == 0, MASKED).softmax(-1)


class Hearings(NamedTuple):
    """How each proposal of a video attends to its frames, and the length of what it hears. Shapes: [B, M, F], [B, M]."""

    weights: Tensor
    norm: Tensor


class Places(NamedTuple):
    """Queries sorted into rows of videos. Shapes: `video`, `slot` [Q] int64; `slots` most queries of a video."""

    video: Tensor
    slot: Tensor
    slots: int

    def pack(self, values: Tensor, videos: int) -> Tensor:
        """Shapes: [Q, ...] -> [videos, slots, ...], zeros where a video has fewer queries."""
        packed = values.new_zeros(videos, self.slots, *values.shape[1:])
        return packed.index_put((self.video, self.slot), values)

    def unpack(self, values: Tensor) -> Tensor:
        """Shapes: [videos, slots, ...] -> [Q, ...]."""
        return values[self.video, self.slot]


def places(labels: Tensor) -> Places:
    """The place of each query among those of its video. Shapes: `labels` [Q] the query's video."""
    order, counts = torch.argsort(labels, stable=True), torch.bincount(labels)
    first = counts.cumsum(0) - counts
    ranks = torch.arange(len(labels), device=labels.device) - first[labels[order]]
    return Places(labels, torch.empty_like(labels).index_copy_(0, order, ranks), int(counts.max()))


class KeyClipAttention(nn.Module):
    """W1 and W2 of the attention, and what videos say to queries.

    Shapes: `key` the queries' key proposals, rows of `averages` [M, C] (`proposals.runs`); `clips` [B, C, H], `frames` [B, F, H], `mask`
    [B, F]. Source: docs/methods.md, MS-SL.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.guide = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden, bias=False)

    def own_videos(self, labels: Tensor, key: Tensor, averages: Tensor, clips: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
        """What each query's own video says to it. Shapes: `labels` [Q] the query's video, `key` [Q] -> [Q, H]."""
        where = places(labels)
        keys = where.pack(averages[key], len(clips)) @ clips  # one product a video serves all its queries
        # (W1 f) . p = f . (W1^T p): of queries there are fewer than of frames.
        said, _ = attend(keys @ self.guide.weight, frames, mask)
        return self.value(where.unpack(said))  # type: ignore[no-any-return]

    def hearings(self, averages: Tensor, clips: Tensor, frames: Tensor, mask: Tensor) -> Hearings:
        """What videos say to each of their own proposals, whatever the query. Memory: B M (F + 2H) numbers."""
        # By proposals the logits are means of those by clips.
        weights = shares(averages @ ((clips @ self.guide.weight) @ frames.mT), mask)
        return Hearings(weights, self.value(weights @ frames).norm(dim=-1).clamp_min(TINY))

    def every_video(self, query: Tensor, key: Tensor, heard: Hearings, frames: Tensor) -> tuple[Tensor, Tensor]:
        """The cosine and the dot product of every query with what every video says to it.

        Shapes: `query` [Q, H], `key` [Q, B] -> [Q, B] twice. Memory: a few of [Q, B, F].
        """
        videos = torch.arange(len(frames), device=frames.device)
        products = torch.einsum("qh,bfh->qbf", query @ self.value.weight, frames)
        dot = (products * heard.weights[videos, key]).sum(-1)
        return dot / heard.norm[videos, key] / query.norm(dim=-1, keepdim=True).clamp_min(TINY), dot

    def every_video_at_once(
        self, query: Tensor, key: Tensor, averages: Tensor, clips: Tensor, frames: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same without `hearings`, for queries of which there are fewer than proposals: of a video only their key proposals listen.

        Shapes: `query` [Q, H], `key` [Q, B] rows of `averages` -> [Q, B] twice. Memory: a few of [B, Q, H] and [B, Q, F].
        """
        said, _ = attend(averages[key.T] @ clips @ self.guide.weight, frames, mask)
        heard = self.value(said)  # [B, Q, H]
        dot = (heard * query).sum(-1).T
        return dot / heard.norm(dim=-1).clamp_min(TINY).T / query.norm(dim=-1, keepdim=True).clamp_min(TINY), dot
