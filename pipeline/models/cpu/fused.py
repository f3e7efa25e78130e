"""The encoder layer as one function with a hand-written backward, a few videos at a time.

The same values as `blocks.EncoderLayer`'s plain form. What it buys on a CPU: query, key and value in one product; temporaries that stay
in the cache and below malloc's mmap threshold (no page faults); and less kept for the backward pass: the projections, the attention, the
inner activations (whose zeros are also the ReLU's and the dropout's mask) and the two LayerNorm inputs; with `recompute`, only the input.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from pipeline.models.cpu.kernels import Masks, multiply

CHUNK = 3 << 20  # elements of the largest temporary, the inner activations or the attention: 12 MB
EPSILON = 1e-5


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


class Attended(NamedTuple):
    """What the attention of one chunk leaves for its backward pass."""

    qkv: Tensor  # [3, n*heads, L, d]
    attention: Tensor  # [n*heads, L, L], before dropout
    attention_mask: Tensor | None


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


def videos_per_chunk(length: int, width: int) -> int:
    """How many sequences of `length` tokens are worked on at once, when a token takes `width` elements."""
    return max(1, CHUNK // (length * width))


def _prepare(w: Weights, heads: int, inner_scale: float, dtype: torch.dtype) -> _Prepared:
    scale = 1 / math.sqrt(w.query.shape[0] // heads)
    qkv = torch.cat([w.query * scale, w.key, w.value]).to(dtype)
    bias = torch.cat([w.query_bias * scale, w.key_bias, w.value_bias]).to(dtype)
    contract = (w.contract * inner_scale).to(dtype)
    return _Prepared(qkv, bias, w.expand.to(dtype), w.expand_bias.to(dtype), contract, w.contract_bias.to(dtype))


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


class _EncoderLayer(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx: Any, x: Tensor, window: Tensor | None, bias: Tensor | None, options: tuple, *weights: Tensor) -> Tensor:  # type: ignore[override]
        heads, rate, training, dtype, recompute, keep = options
        w = Weights(*weights)
        p = _prepare(w, heads, Masks(rate, training, 0).scale if training else 1.0, dtype)
        window = None if window is None else window.to(dtype)
        bias = None if bias is None else bias.to(dtype)
        step = videos_per_chunk(x.shape[1], max(w.expand.shape[0], heads * x.shape[1]))
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
        hidden, inner = x.shape[2], w.expand.shape[0]
        shapes = [
            (hidden, 3 * hidden),
            (3 * hidden,),
            (hidden,),
            (hidden,),
            (hidden, inner),
            (inner,),
            (hidden, inner),
            (hidden,),
            (hidden,),
            (hidden,),
        ]
        sums = [torch.zeros(shape, dtype=w.norm1.dtype) for shape in shapes]
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
        d_weights = Weights(
            query * root, query_bias * root, key, key_bias, value, value_bias,
            sums[2], sums[3], sums[4].t(), sums[5], sums[6] * scale, sums[7], sums[8], sums[9],
        )  # fmt: skip
        return d_x, None, None, None, *d_weights


def encoder_layer(
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
    """Attention, residual, LayerNorm, feed-forward, residual, LayerNorm.

    Shapes: `x` [B, L, H] float32 (or float64), `window` [L, L] or None, `bias` [B, L] or None (no gradient flows to either) -> [B, L, H].
    `dtype` is the type of the matrix products; LayerNorms and residuals stay in `x`'s. Source: docs/method.md 5.3.
    """
    keep = torch.is_grad_enabled() and (x.requires_grad or any(weight.requires_grad for weight in weights))
    with torch.autocast(x.device.type, enabled=False):  # `dtype` already says where bfloat16 is used
        return _EncoderLayer.apply(x, window, bias, (heads, dropout, training, dtype, recompute, keep), *weights)
