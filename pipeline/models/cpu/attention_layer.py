"""The attention layer without a feed-forward part as one function with a hand-written backward, a few videos at a time.

The same values as `blocks.AttentionLayer`'s plain form, and for the same reasons faster as `fused.encoder_layer`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from pipeline.models.cpu.fused import EPSILON, Attended, attend, attend_backward, masked, rows_of, videos_per_chunk
from pipeline.models.cpu.kernels import Masks, multiply


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
    root = 1 / math.sqrt(w.query.shape[0] // heads)
    qkv = torch.cat([w.query * root, w.key, w.value]).to(dtype)
    bias = torch.cat([w.query_bias * root, w.key_bias, w.value_bias]).to(dtype)
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


class _AttentionLayer(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx: Any, x: Tensor, window: Tensor | None, bias: Tensor | None, options: tuple, *weights: Tensor) -> Tensor:  # type: ignore[override]
        heads, rate, training, dtype, recompute, keep = options
        w = Weights(*weights)
        p = _prepare(w, heads, Masks(rate, training, 0).scale if training else 1.0, dtype)
        window = None if window is None else window.to(dtype)
        bias = None if bias is None else bias.to(dtype)
        step = videos_per_chunk(x.shape[1], max(3 * x.shape[2], heads * x.shape[1]))
        output, kept, seeds = torch.empty_like(x), [], []
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            masks = Masks(rate, training)
            seeds.append(masks.seed)
            output[part], state = _forward(x[part], window, None if bias is None else bias[part], w, p, heads, masks)
            if keep and not recompute:
                kept.append(state)
        if keep:
            ctx.save_for_backward(x, window, bias, *weights, *(tensor for state in kept for tensor in state))
            ctx.options, ctx.step, ctx.seeds = options, step, seeds
        return output

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple:  # type: ignore[override]
        heads, rate, training, dtype, recompute, _ = ctx.options
        x, window, bias, *rest = ctx.saved_tensors
        w, flat = Weights(*rest[: len(Weights._fields)]), rest[len(Weights._fields) :]
        scale = Masks(rate, training, 0).scale if training else 1.0
        p = _prepare(w, heads, scale, dtype)
        hidden = x.shape[2]
        shapes = [(hidden, 3 * hidden), (3 * hidden,), (hidden, hidden), (hidden,), (hidden,), (hidden,)]
        sums = [torch.zeros(shape, dtype=w.norm.dtype) for shape in shapes]
        d_x = torch.empty_like(x)
        for i, start in enumerate(range(0, len(x), ctx.step)):
            part = slice(start, start + ctx.step)
            if recompute:
                state = _forward(x[part], window, None if bias is None else bias[part], w, p, heads, Masks(rate, training, ctx.seeds[i]))[1]
            else:
                state = _Kept(*flat[i * len(_Kept._fields) : (i + 1) * len(_Kept._fields)])
            d_x[part] = _backward(gradient[part], x[part], window, w, p, state, scale, sums)
        query, key, value = sums[0].t().split(hidden)
        query_bias, key_bias, value_bias = sums[1].split(hidden)
        root = 1 / math.sqrt(hidden // heads)
        d_weights = (query * root, query_bias * root, key, key_bias, value, value_bias, sums[2].t() * scale, *sums[3:])
        return d_x, None, None, None, *d_weights


def attention_layer(
    x: Tensor,
    window: Tensor | None,
    bias: Tensor | None,
    weights: Weights,
    *,
    heads: int,
    dropout: float,
    training: bool,
    dtype: torch.dtype,
    recompute: bool = False,
) -> Tensor:
    """Attention, output projection, residual, LayerNorm.

    Shapes: `x` [B, L, H] float32 (or float64), `window` [L, L] or None, `bias` [B, L] or None (no gradient flows to either) -> [B, L, H].
    `dtype` is the type of the matrix products; the LayerNorm and the residual stay in `x`'s. Source: docs/methods.md.
    """
    keep = torch.is_grad_enabled() and (x.requires_grad or any(weight.requires_grad for weight in weights))
    with torch.autocast(x.device.type, enabled=False):  # `dtype` already says where bfloat16 is used
        return _AttentionLayer.apply(x, window, bias, (heads, dropout, training, dtype, recompute, keep), *weights)
