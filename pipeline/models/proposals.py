"""The proposals of MS-SL: every run of neighbouring clips, averaged; and the best of them for a query, without making them one by one.

A proposal is a mean of clips, so its dot product with a query is the same mean of the clips' dot products, and its length follows from the
clips' products with each other. Only products with the C clips are ever taken; the C(C + 1)/2 proposals are means of numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.models.scores import TINY

PAIRS = 8192  # of a query and a video whose proposals are looked at together: 17 MB with 32 clips


class BestProposal(NamedTuple):
    """The largest cosine and the largest dot product (not always of one proposal), and the proposal of the former. Shapes: [Q, B] each."""

    cosine: Tensor
    dot: Tensor
    key: Tensor


def runs(clips: int) -> Tensor:
    """What averages clips to proposals: all runs of one clip, then of two, up to all; each length by its start.

    Shapes: -> [M, C], M = C(C + 1)/2, rows adding up to 1. Source: docs/methods.md, MS-SL (average pooling of windows 1..C, stride 1).
    """
    place = np.arange(clips)
    length, begin = np.meshgrid(place + 1, place, indexing="ij")
    inside = begin + length <= clips
    length, begin = length[inside][:, None], begin[inside][:, None]
    return torch.from_numpy((((place >= begin) & (place < begin + length)) / length).astype(np.float32))


def lengths(clips: Tensor, averages: Tensor) -> Tensor:
    """The Euclidean length of every proposal. Shapes: `clips` [B, C, H], `averages` [M, C], of `runs` -> [B, M].

    The sum of the clips' products with each other over a square is four corners of their sums from the first on.
    """
    taken = averages > 0
    begin = taken.byte().argmax(1)
    end = begin + taken.sum(1)
    # The mean of many clips is short against them: what cancels needs the digits.
    exact = clips.double()
    first = exact.new_ones(clips.shape[1] + 1, clips.shape[1]).tril(-1)  # a product: on a GPU cumsum's order is not fixed
    sums = first @ (exact @ exact.mT) @ first.T
    squares = (sums[:, end, end] - sums[:, begin, end] - sums[:, end, begin] + sums[:, begin, begin]) * averages.double().amax(1) ** 2
    return squares.clamp_min(TINY**2).sqrt().to(clips.dtype)


def best_proposal(query: Tensor, clips: Tensor, averages: Tensor) -> BestProposal:
    """Score every video by the proposal that answers a query best, with gradients.

    Shapes: `query` [Q, H], `clips` [B, C, H], `averages` [M, C] -> [Q, B] each. Memory: PAIRS x M numbers beside a few of [Q, B, C].
    """
    products = (query @ clips.flatten(0, 1).T).unflatten(1, clips.shape[:2])  # [Q, B, C]
    norm = lengths(clips, averages)
    by_cosine, by_dot = _best(products.detach(), norm.detach(), averages)
    # Only the chosen proposals have a gradient, and each is a mean of a few products.
    dot = (products * averages[by_dot]).sum(-1)
    videos = torch.arange(len(clips), device=clips.device)
    cosine = (products * averages[by_cosine]).sum(-1) / norm[videos, by_cosine] / query.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return BestProposal(cosine, dot, by_cosine)


@torch.no_grad()
def _best(products: Tensor, norm: Tensor, averages: Tensor) -> tuple[Tensor, Tensor]:
    """The proposal of largest cosine, and that of largest dot product. Shapes: [Q, B, C], [B, M], [M, C] -> int64 [Q, B] twice."""
    chosen = [
        ((dots := some @ averages.T).argmax(-1), dots.div_(norm).argmax(-1)) for some in products.split(max(1, PAIRS // products.shape[1]))
    ]
    return torch.cat([by_cosine for _, by_cosine in chosen]), torch.cat([by_dot for by_dot, _ in chosen])
