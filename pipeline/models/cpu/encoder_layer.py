"""The encoder layer on a CPU: attention, residual, LayerNorm, feed-forward, residual, LayerNorm (docs/method.md 5.3).

The same values as `blocks.EncoderLayer`'s plain form. Query, key and value are one product; kept for the backward pass are the
projections, the attention, the inner activations (whose zeros are also the ReLU's and the dropout's mask) and the two LayerNorm inputs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.models.cpu.attention import Attended, attend, attend_backward, masked, parted, stacked
from pipeline.models.cpu.chunked import Layer
from pipeline.models.cpu.kernels import EPSILON, Masks, multiply


class Weights(NamedTuple):
    """One layer's parameters in the order of the function's arguments. Shapes: projections [H, H], expand [I, H], contract [H, I]."""

    query: Tensor
    query_bias: Tensor
    key: Tensor
    key_bias: Tensor
    value: Tensor
    value_bias: Tensor
    norm1: Tensor
    norm1_bias: Tensor
    expand: Tensor
    expand_bias: Tensor
    contract: Tensor
    contract_bias: Tensor
    norm2: Tensor
    norm2_bias: Tensor


class _Prepared(NamedTuple):
    """What every chunk multiplies with: projections stacked, the 1/sqrt(d) and the inner dropout's scale folded in, in the compute type."""

    qkv: Tensor
    qkv_bias: Tensor
    expand: Tensor
    expand_bias: Tensor
    contract: Tensor
    contract_bias: Tensor


class _Kept(NamedTuple):
    """What one chunk leaves for its backward pass: first what `Attended` has."""

    qkv: Tensor
    attention: Tensor
    attention_mask: Tensor | None
    mask1: Tensor | None
    residual1: Tensor  # [N, H]
    mean1: Tensor
    rstd1: Tensor
    inner: Tensor  # [N, I], after ReLU and dropout, unscaled
    mask2: Tensor | None
    residual2: Tensor
    mean2: Tensor
    rstd2: Tensor


def _prepare(w: Weights, heads: int, inner_scale: float, dtype: torch.dtype) -> _Prepared:
    qkv = stacked(w.query, w.key, w.value, heads).to(dtype)
    bias = stacked(w.query_bias, w.key_bias, w.value_bias, heads).to(dtype)
    contract = (w.contract * inner_scale).to(dtype)
    return _Prepared(qkv, bias, w.expand.to(dtype), w.expand_bias.to(dtype), contract, w.contract_bias.to(dtype))


def _forward(
    x: Tensor, window: Tensor | None, bias: Tensor | None, w: Weights, p: _Prepared, heads: int, masks: Masks
) -> tuple[Tensor, _Kept]:
    hidden = x.shape[2]
    rows = x.reshape(-1, hidden)
    attended, state = attend(x, window, bias, p.qkv, p.qkv_bias, heads, masks)
    mask1 = masks.draw(*rows.shape)
    residual1 = rows + masked(attended, mask1).mul_(masks.scale**2)
    tokens, mean1, rstd1 = torch.native_layer_norm(residual1, [hidden], w.norm1, w.norm1_bias, EPSILON)
    inner = multiply(tokens.to(p.expand.dtype), p.expand, p.expand_bias, relu=True)
    masked(inner, masks.draw(*inner.shape))
    changed = multiply(inner, p.contract, p.contract_bias)
    mask2 = masks.draw(*rows.shape)
    residual2 = tokens.add_(masked(changed, mask2), alpha=masks.scale)
    output, mean2, rstd2 = torch.native_layer_norm(residual2, [hidden], w.norm2, w.norm2_bias, EPSILON)
    return output.view_as(x), _Kept(*state, mask1, residual1, mean1, rstd1, inner, mask2, residual2, mean2, rstd2)


def _backward(
    gradient: Tensor, x: Tensor, window: Tensor | None, w: Weights, p: _Prepared, k: _Kept, scale: float, sums: list[Tensor]
) -> Tensor:
    """The gradient of one chunk's input; adds the parameters' gradients to `sums` (qkv^T, its bias, norm1, expand^T, contract, norm2)."""
    n, _, hidden = x.shape
    dtype = p.qkv.dtype
    rows = x.reshape(-1, hidden)
    d_residual2, d_norm2, d_norm2_bias = torch.ops.aten.native_layer_norm_backward(
        gradient.reshape(-1, hidden), k.residual2, [hidden], k.mean2, k.rstd2, w.norm2, w.norm2_bias, [True, True, True]
    )
    d_changed = (d_residual2.mul(scale) if k.mask2 is None else d_residual2.mul(k.mask2).mul_(scale)).to(dtype)
    d_inner = torch.ops.aten.threshold_backward(multiply(d_changed, p.contract.t()), k.inner, 0)
    tokens = torch.native_layer_norm(k.residual1, [hidden], w.norm1, w.norm1_bias, EPSILON)[0].to(dtype)
    d_tokens = d_residual2.add_(multiply(d_inner, p.expand.t()))
    d_residual1, d_norm1, d_norm1_bias = torch.ops.aten.native_layer_norm_backward(
        d_tokens, k.residual1, [hidden], k.mean1, k.rstd1, w.norm1, w.norm1_bias, [True, True, True]
    )
    d_attended = masked(d_residual1.mul(scale**2), k.mask1).to(dtype)
    d_qkv, _ = attend_backward(d_attended, window, Attended(*k[:3]), n)
    # Of the two factors of a weight's gradient the narrower one is copied transposed; the product's own transpose is undone at the end.
    parts = (
        multiply(rows.to(dtype).t().contiguous(), d_qkv.t()),
        d_qkv.sum(0, dtype=torch.float32 if dtype == torch.bfloat16 else dtype),
        d_norm1,
        d_norm1_bias,
        multiply(tokens.t().contiguous(), d_inner.t()),
        d_inner.sum(0, dtype=torch.float32 if dtype == torch.bfloat16 else dtype),
        multiply(d_changed.t().contiguous(), k.inner.t()),
        d_changed.sum(0, dtype=torch.float32 if dtype == torch.bfloat16 else dtype),
        d_norm2,
        d_norm2_bias,
    )
    for total, part in zip(sums, parts, strict=True):
        total.add_(part)
    return d_residual1.add_(multiply(d_qkv, p.qkv.t())).view_as(x)


def _sums(w: Weights) -> list[tuple[int, ...]]:
    inner, hidden = w.expand.shape
    wide = [(hidden, 3 * hidden), (3 * hidden,), (hidden,), (hidden,), (hidden, inner), (inner,), (hidden, inner)]
    return [*wide, (hidden,), (hidden,), (hidden,)]


def _gradients(sums: list[Tensor], heads: int, scale: float) -> tuple[Tensor, ...]:
    qkv, bias, norm1, norm1_bias, expand, expand_bias, contract, *rest = sums
    return *parted(qkv, bias, heads), norm1, norm1_bias, expand.t(), expand_bias, contract * scale, *rest


def _width(w: Weights, heads: int, length: int) -> int:
    return max(w.expand.shape[0], heads * length)


LAYER = Layer(Weights, _Kept, _prepare, _forward, _backward, _sums, _gradients, _width)
