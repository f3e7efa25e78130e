"""MS-SL's scores and losses, and BGM-Net's matching (docs/methods.md), written out literally: a proposal, a query, a pair at a time.

Own code on this project's parameters, for two uses only: the tests compare values and gradients against it, the benchmarks compare time
and memory.
"""

from __future__ import annotations

import itertools
import random

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import literal
from pipeline.models.bgm_net import BipartiteMatching


def proposals(clips: Tensor) -> Tensor:
    """Average pooling with windows 1..C, stride 1. Shapes: [C, H] -> [M, H]."""
    count = len(clips)
    return torch.stack([clips[first : first + size].mean(0) for size in range(1, count + 1) for first in range(count - size + 1)])


def matching(cosine: Tensor) -> list[int]:
    """The one-to-one choice of proposals with the largest sum, by trying all. Shapes: [n, M] -> n indices."""
    best = max(
        itertools.permutations(range(cosine.shape[1]), len(cosine)), key=lambda chosen: sum(cosine[i, m] for i, m in enumerate(chosen))
    )
    return list(best)


def attended(model: BipartiteMatching, frames: Tensor, mask: Tensor, proposal: Tensor) -> Tensor:
    """Key-clip guided attention of one query over one video. Shapes: `frames` [F, H], `proposal` [H] -> [H]."""
    logits = [
        model.key_clip.guide.weight @ frame @ proposal if real else torch.tensor(-1e9, dtype=frames.dtype)
        for frame, real in zip(frames, mask, strict=True)
    ]
    weights = torch.stack(logits).softmax(0)
    return sum(w * (model.key_clip.value.weight @ frame) for w, frame in zip(weights, frames, strict=True))


def pairwise_nce(dot: Tensor) -> Tensor:
    """docs/methods.md, MS-SL."""
    return torch.stack([torch.log(dot[i].exp().sum() + dot[:, i].exp().sum()) - dot[i, i] for i in range(len(dot))]).mean()


def pairwise_triplet(cosine: Tensor, margin: float, pool: int) -> Tensor:
    """Hard negatives among the `pool` largest, on rows and on columns."""
    losses = []
    for matrix in (cosine, cosine.T):
        rows = []
        for i in range(len(matrix)):
            others = torch.stack([matrix[i, j] for j in range(len(matrix)) if j != i]).sort(descending=True).values
            rows.append((margin + others[random.randrange(min(pool, len(others)))] - matrix[i, i]).clamp_min(0))
        losses.append(torch.stack(rows).mean())
    return losses[0] + losses[1]


def terms(
    model: BipartiteMatching, encoded: dict[str, Tensor], query: Tensor, labels: Tensor, *, margin: float, pool: int
) -> dict[str, Tensor]:
    """Every raw term while matching, with hard negatives."""
    every = [proposals(clips) for clips in encoded["clips"]]
    cosine = torch.stack([torch.stack([F.cosine_similarity(q[None], p).max() for p in every]) for q in query])
    dot = torch.stack([torch.stack([(p @ q).max() for p in every]) for q in query])
    key = {}
    for video in set(labels.tolist()):
        owned = [i for i, label in enumerate(labels.tolist()) if label == video]
        table = torch.stack([F.cosine_similarity(query[i][None], every[video]) for i in owned])
        key |= dict(zip(owned, matching(table.detach()), strict=True))
    matched = torch.stack([every[int(label)][key[i]] for i, label in enumerate(labels)])
    rows_cosine, rows_dot = [], []
    for i, label in enumerate(labels.tolist()):
        rows_cosine.append(
            torch.stack([F.cosine_similarity(query[i], matched[i], dim=0) if v == label else cosine[i, v] for v in range(len(every))])
        )
        rows_dot.append(torch.stack([query[i] @ matched[i] if v == label else dot[i, v] for v in range(len(every))]))
    said = torch.stack([attended(model, encoded["frames"][int(v)], encoded["mask"][int(v)], matched[i]) for i, v in enumerate(labels)])
    frame_cosine = torch.stack([torch.stack([F.cosine_similarity(q, r, dim=0) for r in said]) for q in query])
    frame_dot = torch.stack([torch.stack([q @ r for r in said]) for q in query])
    pairs = [
        (F.cosine_similarity(query[i], query[j], dim=0) - F.cosine_similarity(matched[i], matched[j], dim=0)).abs()
        for i in range(len(query))
        for j in range(len(query))
    ]
    return {
        "nce_clip": literal.nce(torch.stack(rows_dot), labels),
        "nce_frame": pairwise_nce(frame_dot),
        "triplet_clip": literal.triplet(torch.stack(rows_cosine), labels, margin, True, pool),
        "triplet_frame": pairwise_triplet(frame_cosine, margin, pool),
        "relations": torch.stack(pairs).mean(),
    }
