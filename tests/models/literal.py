"""Elementary layers and losses, one row at a time in float64, straight from the equations: what the fast forms are held to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def normalised(row: Tensor, norm: nn.LayerNorm) -> Tensor:
    """LayerNorm of one row."""
    mean = row.sum() / len(row)
    variance = ((row - mean) ** 2).sum() / len(row)
    return (row - mean) / (variance + 1e-5).sqrt() * norm.weight + norm.bias


def linear(row: Tensor, layer: nn.Linear) -> Tensor:
    """One row through a linear layer."""
    return (layer.weight * row).sum(1) + layer.bias


def projected(row: Tensor, projection: nn.Module) -> Tensor:
    """InputProjection: LayerNorm, linear, ReLU."""
    return linear(normalised(row, projection.norm), projection.linear).clamp_min(0)


def placed(rows: Sequence[Tensor], positions: nn.Module) -> list[Tensor]:
    """LearnedPositionalEncoding: the position's vector added, LayerNorm."""
    return [normalised(row + positions.table.weight[i], positions.norm) for i, row in enumerate(rows)]


def attended(rows: Sequence[Tensor], layer: nn.Module, windows: Sequence[Tensor] | None = None) -> list[Tensor]:
    """EncoderLayer-A over real rows only; `windows`: for each head what multiplies the logit of every key."""
    attention, outputs = layer.attention, []
    heads, width = attention.heads, len(rows[0]) // attention.heads
    queries, keys, values = ([linear(row, part) for row in rows] for part in (attention.query, attention.key, attention.value))
    for i, row in enumerate(rows):
        context = []
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            logits = [(queries[i][part] * key[part]).sum() / math.sqrt(width) for key in keys]
            if windows is not None:
                logits = [logit * windows[head][j] for j, logit in enumerate(logits)]
            total = sum(logit.exp() for logit in logits)
            context.append(sum(logit.exp() / total * value[part] for logit, value in zip(logits, values, strict=True)))
        outputs.append(normalised(row + linear(torch.cat(context), layer.output), layer.norm))
    return outputs


def pooled(rows: Sequence[Tensor], pooling: nn.Module) -> Tensor:
    """AttentionPooling over real words."""
    logits = [(pooling.linear.weight[0] * row).sum() for row in rows]
    total = sum(logit.exp() for logit in logits)
    return sum((logit.exp() / total * row for logit, row in zip(logits, rows, strict=True)), torch.zeros_like(rows[0]))


def dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())


def logsumexp(values: Sequence[Tensor]) -> Tensor:
    return torch.stack([value.exp() for value in values]).sum().log()


def nce(dots: Sequence[Sequence[Tensor]], labels: Sequence[int]) -> Tensor:
    """Multi-positive InfoNCE. Source: docs/method.md 6.2."""
    videos = len(dots[0])
    by_query = [logsumexp(row) - row[own] for row, own in zip(dots, labels, strict=True)]
    by_video = [
        logsumexp([row[v] for row in dots]) - logsumexp([row[v] for row, own in zip(dots, labels, strict=True) if own == v])
        for v in range(videos)
    ]
    return sum(by_query) / len(by_query) + sum(by_video) / videos


def triplet(cosines: Sequence[Sequence[Tensor]], labels: Sequence[int], margin: float) -> Tensor:
    """The triplet with the hardest negatives on both sides (a pool of one). Source: docs/method.md 6.3."""
    videos, terms = len(cosines[0]), []
    for v in range(videos):
        positives = [row[v] for row, own in zip(cosines, labels, strict=True) if own == v]
        hardest = max(row[v] for row, own in zip(cosines, labels, strict=True) if own != v)
        terms.append((margin + hardest - sum(positives) / len(positives)).clamp_min(0) / videos)
    for row, own in zip(cosines, labels, strict=True):
        hardest = max(value for v, value in enumerate(row) if v != own)
        terms.append((margin + hardest - row[own]).clamp_min(0) / len(labels))
    return sum(terms, torch.zeros((), dtype=torch.float64))
