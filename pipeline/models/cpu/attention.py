"""Multi-head attention of a few videos, and its backward pass written by hand: what both layers are made of."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models.cpu.kernels import Masks, multiply


class Attended(NamedTuple):
    """What the attention of one chunk leaves for its backward pass."""

    qkv: Tensor  # [3, n*heads, L, d]
    attention: Tensor  # [n*heads, L, L], before dropout
    attention_mask: Tensor | None


def stacked(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """Weights or biases of the three projections as one, 1/sqrt(d) folded into the query's. Shapes: [H, ...] each -> [3*H, ...]."""
    return torch.cat([query * (1 / math.sqrt(len(query) // heads)), key, value])


def parted(weight: Tensor, bias: Tensor, heads: int) -> tuple[Tensor, ...]:
    """The gradients of the three projections from those of the stacked ones, weight before bias. Shapes: [H, 3*H] transposed, [3*H]."""
    hidden = len(weight)
    root = 1 / math.sqrt(hidden // heads)
    query, key, value = weight.t().split(hidden)
    query_bias, key_bias, value_bias = bias.split(hidden)
    return query * root, query_bias * root, key, key_bias, value, value_bias


def masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values.mul_(mask)


def attend(
    x: Tensor, window: Tensor | None, bias: Tensor | None, qkv_weight: Tensor, qkv_bias: Tensor, heads: int, masks: Masks
) -> tuple[Tensor, Attended]:
    """The attention of one chunk, what dropout keeps not scaled up. Shapes: `x` [n, L, H], weights of the three projections -> [n*L, H]."""
    n, length, hidden = x.shape
    qkv = multiply(x.reshape(-1, hidden).to(qkv_weight.dtype), qkv_weight, qkv_bias)
    qkv = qkv.view(n, length, 3, heads, -1).permute(2, 0, 3, 1, 4).reshape(3, n * heads, length, -1)
    logits = torch.bmm(qkv[0], qkv[1].transpose(1, 2))
    if window is not None:
        logits.mul_(window)
    if bias is not None:
        logits.view(n, heads, length, length).add_(bias[:, None, None, :])
    attention = logits.softmax(-1)
    mask = masks.draw(*attention.shape)
    attended = torch.bmm(attention if mask is None else torch.mul(attention, mask, out=logits), qkv[2])
    return rows_of(attended, n), Attended(qkv, attention, mask)


def rows_of(by_head: Tensor, n: int) -> Tensor:
    """Shapes: [n*heads, L, d] -> [n*L, H]."""
    _, length, width = by_head.shape
    return by_head.view(n, -1, length, width).transpose(1, 2).reshape(n * length, -1)


def attend_backward(d_attended: Tensor, window: Tensor | None, k: Attended, n: int) -> tuple[Tensor, Tensor]:
    """The gradient of the three projections of one chunk, and the dropped attention, which is needed again.

    Shapes: `d_attended` [n*L, H] -> [n*L, 3*H], [n*heads, L, L].
    """
    query, key, value = k.qkv
    heads, length = query.shape[0] // n, query.shape[1]
    d_attended = d_attended.view(n, length, heads, -1).transpose(1, 2).reshape(n * heads, length, -1)
    dropped = k.attention if k.attention_mask is None else k.attention * k.attention_mask
    d_qkv = torch.empty_like(k.qkv)
    torch.bmm(dropped.transpose(1, 2), d_attended, out=d_qkv[2])
    d_attention = masked(torch.bmm(d_attended, value.transpose(1, 2)), k.attention_mask)
    d_logits = torch._softmax_backward_data(d_attention, k.attention, -1, k.attention.dtype)
    if window is not None:
        d_logits.mul_(window)
    torch.bmm(d_logits, key, out=d_qkv[0])
    torch.bmm(d_logits.transpose(1, 2), query, out=d_qkv[1])
    return d_qkv.view(3, n, heads, length, -1).permute(1, 3, 0, 2, 4).reshape(n * length, -1), dropped
