"""MS-SL (docs/methods.md) written out literally: every window, every query's own video, every pair by itself.

Own code on this project's parameters, for two uses only: the tests compare values and gradients against it, the benchmarks compare time and
memory. The batch is that of benchmarks/literal_methods.py.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import literal, literal_gmmformer
from benchmarks.literal_model import _linear, _position, _project, _scores
from pipeline.config.method import Experiment

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]


def retrieval(scores: tuple[Tensor, Tensor], labels: Tensor, settings: Experiment, branch: str) -> Terms:
    """InfoNCE and triplet of a branch; hard negatives on."""
    cosine, dot = scores
    triplet, weights = settings.objectives.triplet, settings.objectives.nce.weights
    ranked = literal.triplet(cosine, labels, triplet.margin, True, triplet.hard_pool)
    return {f"nce_{branch}": weights[branch] * literal.nce(dot, labels), f"triplet_{branch}": triplet.weight * ranked}


def proposals(clips: Tensor) -> Tensor:
    """docs/methods.md, MS-SL 2: the mean of every window, one after another. Shapes: [B, C, H] -> [B, C(C+1)/2, H]."""
    count, found = clips.shape[1], []
    for width in range(1, count + 1):
        for start in range(count - width + 1):
            found.append(clips[:, start : start + width].mean(dim=1))
    return torch.stack(found, dim=1)


def ms_sl(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, MS-SL 1-4: the key clip of a query is its best proposal."""
    query, clips, frames = encode(model, batch)
    keys = [
        clips[label][F.cosine_similarity(q[None], clips[label], dim=1).argmax()] for q, label in zip(query, batch["labels"], strict=True)
    ]
    return terms(model, query, _scores(query, clips), torch.stack(keys), frames, batch, settings)


def encode(model: Any, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, proposals and frames. Shapes: [Q, H], [B, M, H], [B, F, H]."""
    frames = _row(model.frame, batch["frames"], batch["frame_mask"])
    return literal_gmmformer.encode_query(model, batch), proposals(_row(model.clip, batch["clips"], None)), frames


def terms(
    model: Any, query: Tensor, scores: tuple[Tensor, Tensor], keys: Tensor, frames: Tensor, batch: Batch, settings: Experiment
) -> Terms:
    """Every weighted term, from the clip branch's scores and each query's key clip [Q, H]."""
    said, part = [], model.key_clip
    for key, label in zip(keys, batch["labels"].tolist(), strict=True):  # a query's own video
        logits = _linear(part.guide, frames[label]) @ key + (1 - batch["frame_mask"][label]) * -1e9
        said.append(torch.softmax(logits, dim=0) @ _linear(part.value, frames[label]))
    rows = torch.stack(said)
    square = torch.matmul(F.normalize(query, dim=-1), F.normalize(rows, dim=-1).t())
    found = retrieval(scores, batch["labels"], settings, "clip")
    triplet, weights = settings.objectives.triplet, settings.objectives.nce.weights
    found["nce_frame"] = weights["frame"] * pairwise_nce(torch.matmul(query, rows.t()))
    found["triplet_frame"] = triplet.weight * pairwise_triplet(square, triplet.margin, triplet.hard_pool)
    return found


def _row(part: Any, rows: Tensor, mask: Tensor | None) -> Tensor:
    tokens = _position(part.positions, _project(part.projection, rows))
    return literal_gmmformer.attention_layer(part.layer, tokens, mask, None)


def pairwise_nce(dot: Tensor) -> Tensor:
    """One query at a time: its row and its column. Shapes: [Q, Q] -> scalar."""
    return torch.stack([torch.cat([dot[i], dot[:, i]]).logsumexp(0) - dot[i, i] for i in range(len(dot))]).mean()


def pairwise_triplet(cosine: Tensor, margin: float, pool: int) -> Tensor:
    """Rows and columns, a query at a time; the negative is drawn from the hardest. Shapes: [Q, Q] -> scalar."""
    total = torch.zeros((), dtype=cosine.dtype)
    for matrix in (cosine, cosine.t()):
        losses = []
        for i, row in enumerate(matrix):
            others = torch.cat([row[:i], row[i + 1 :]]).sort(descending=True).values
            drawn = others[int(torch.randint(min(pool, len(others)), (1,)))]
            losses.append((margin + drawn - row[i]).clamp_min(0))
        total = total + torch.stack(losses).mean()
    return total
