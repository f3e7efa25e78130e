"""The attention layer on a CPU: attention, output projection, residual, LayerNorm (docs/methods.md).

The same values as `blocks.AttentionLayer`'s plain form, and for the same reasons faster as the encoder layer.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models.cpu.attention import Attended, attend, attend_backward, masked, parted, rows_of, stacked
from pipeline.models.cpu.chunked import Layer
from pipeline.models.cpu.kernels import EPSILON, Masks, multiply


class Weights(NamedTuple):
    """One layer's parameters in the order of the function's arguments. Shapes: projections and output [H, H]."""

    query: Tensor
    query_bias: Tensor
    key: Tensor
    key_bias: Tensor
    value: Tensor
    value_bias: Tensor
    output: Tensor
    output_bias: Tensor
    norm: Tensor
    norm_bias: Tensor


class _Prepared(NamedTuple):
    """What every chunk multiplies with: projections stacked, the 1/sqrt(d) and the attention dropout's scale folded in."""

    qkv: Tensor
    qkv_bias: Tensor
    output: Tensor
    output_bias: Tensor


class _Kept(NamedTuple):
    """What one chunk leaves for its backward pass: first what `Attended` has."""

    qkv: Tensor
    attention: Tensor
    attention_mask: Tensor | None
    mask: Tensor | None
    residual: Tensor  # [N, H]
    mean: Tensor
    rstd: Tensor


def _prepare(w: Weights, heads: int, scale: float, dtype: torch.dtype) -> _Prepared:
    qkv = stacked(w.query, w.key, w.value, heads).to(dtype)
    bias = stacked(w.query_bias, w.key_bias, w.value_bias, heads).to(dtype)
    return _Prepared(qkv, bias, (w.output * scale).to(dtype), w.output_bias.to(dtype))


def _forward(
    x: Tensor, window: Tensor | None, bias: Tensor | None, w: Weights, p: _Prepared, heads: int, masks: Masks
) -> tuple[Tensor, _Kept]:
    rows = x.reshape(-1, x.shape[2])
    attended, state = attend(x, window, bias, p.qkv, p.qkv_bias, heads, masks)
    changed = multiply(attended, p.output, p.output_bias)
    mask = masks.draw(*rows.shape)
    residual = rows.add(masked(changed, mask), alpha=masks.scale)
    output, mean, rstd = torch.native_layer_norm(residual, [rows.shape[1]], w.norm, w.norm_bias, EPSILON)
    return output.view_as(x), _Kept(*state, mask, residual, mean, rstd)


def _backward(
    gradient: Tensor, x: Tensor, window: Tensor | None, w: Weights, p: _Prepared, k: _Kept, scale: float, sums: list[Tensor]
) -> Tensor:
    """The gradient of one chunk's input; adds the parameters' gradients to `sums` (qkv^T, its bias, output^T, its bias, norm)."""
    n, _, hidden = x.shape
    dtype = p.qkv.dtype
    d_residual, d_norm, d_norm_bias = torch.ops.aten.native_layer_norm_backward(
        gradient.reshape(-1, hidden), k.residual, [hidden], k.mean, k.rstd, w.norm, w.norm_bias, [True, True, True]
    )
    d_changed = (d_residual if k.mask is None else d_residual.mul(k.mask).mul_(scale)).to(dtype)
    d_qkv, dropped = attend_backward(multiply(d_changed, p.output.t()), window, Attended(*k[:3]), n)
    attended = rows_of(torch.bmm(dropped, k.qkv[2]), n)
    wide = torch.float32 if dtype == torch.bfloat16 else dtype
    parts = (
        multiply(x.reshape(-1, hidden).to(dtype).t().contiguous(), d_qkv.t()),
        d_qkv.sum(0, dtype=wide),
        multiply(attended.t().contiguous(), d_changed.t()),
        d_changed.sum(0, dtype=wide),
        d_norm,
        d_norm_bias,
    )
    for total, part in zip(sums, parts, strict=True):
        total.add_(part)
    return d_residual.add_(multiply(d_qkv, p.qkv.t())).view_as(x)


def _sums(w: Weights) -> list[tuple[int, ...]]:
    hidden = len(w.output)
    return [(hidden, 3 * hidden), (3 * hidden,), (hidden, hidden), (hidden,), (hidden,), (hidden,)]


def _gradients(sums: list[Tensor], heads: int, scale: float) -> tuple[Tensor, ...]:
    qkv, bias, output, *rest = sums
    return *parted(qkv, bias, heads), output.t() * scale, *rest


def _width(w: Weights, heads: int, length: int) -> int:
    return max(3 * len(w.output), heads * length)


LAYER = Layer(Weights, _Kept, _prepare, _forward, _backward, _sums, _gradients, _width)
