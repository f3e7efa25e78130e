"""A layer as one function with a hand-written backward, a few videos at a time.

What it buys on a CPU: temporaries that stay in the cache and below malloc's mmap threshold (no page faults), and less kept for the
backward pass; with `recompute`, only the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from pipeline.models.cpu.kernels import Masks

CHUNK = 3 << 20  # elements of the largest temporary: 12 MB


def videos_per_chunk(length: int, width: int) -> int:
    """How many sequences of `length` tokens are worked on at once, when a token takes `width` elements."""
    return max(1, CHUNK // (length * width))


@dataclass(frozen=True)
class Layer:
    """A kind of layer; `w` are its weights, `p` what `prepare` made of them, `kept` what a chunk leaves for its backward pass.

    `weights`, `kept` are named tuples, of the parameters in the function's order and of tensors. `prepare(w, heads, scale, dtype)`: what
    every chunk multiplies with. `forward(x, window, bias, w, p, heads, masks)` -> output, kept. `backward(gradient, x, window, w, p, kept,
    scale, sums)` -> the gradient of `x`; adds those of the parameters to `sums`, of the shapes that `sums(w)` says. `gradients(sums, heads,
    scale)`: one for each weight. `width(w, heads, length)`: elements of a token in the largest temporary.
    """

    weights: Any
    kept: Any
    prepare: Callable[..., Any]
    forward: Callable[..., tuple[Tensor, Any]]
    backward: Callable[..., Tensor]
    sums: Callable[..., list[tuple[int, ...]]]
    gradients: Callable[..., tuple[Tensor, ...]]
    width: Callable[..., int]


@dataclass(frozen=True)
class _Options:
    """How a layer is applied: once for every call."""

    layer: Layer
    heads: int
    rate: float
    training: bool
    dtype: torch.dtype
    recompute: bool
    keep: bool

    @property
    def scale(self) -> float:
        """By what dropout would scale what it keeps."""
        return Masks(self.rate, self.training, 0).scale if self.training else 1.0


class _Chunked(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx: Any, x: Tensor, window: Tensor | None, bias: Tensor | None, o: _Options, *weights: Tensor) -> Tensor:  # type: ignore[override]
        w = o.layer.weights(*weights)
        p = o.layer.prepare(w, o.heads, o.scale, o.dtype)
        window = None if window is None else window.to(o.dtype)
        bias = None if bias is None else bias.to(o.dtype)
        step = videos_per_chunk(x.shape[1], o.layer.width(w, o.heads, x.shape[1]))
        output, kept, seeds = torch.empty_like(x), [], []
        for start in range(0, len(x), step):
            part = slice(start, start + step)
            masks = Masks(o.rate, o.training)
            seeds.append(masks.seed)
            output[part], state = o.layer.forward(x[part], window, None if bias is None else bias[part], w, p, o.heads, masks)
            if o.keep and not o.recompute:
                kept.append(state)
        if o.keep:
            ctx.save_for_backward(x, window, bias, *weights, *(tensor for state in kept for tensor in state))
            ctx.options, ctx.step, ctx.seeds = o, step, seeds
        return output

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple:  # type: ignore[override]
        o: _Options = ctx.options
        x, window, bias, *rest = ctx.saved_tensors
        weights, each = len(o.layer.weights._fields), len(o.layer.kept._fields)
        w, flat = o.layer.weights(*rest[:weights]), rest[weights:]
        p = o.layer.prepare(w, o.heads, o.scale, o.dtype)
        sums = [torch.zeros(shape, dtype=rest[0].dtype) for shape in o.layer.sums(w)]
        d_x = torch.empty_like(x)
        for i, start in enumerate(range(0, len(x), ctx.step)):
            part = slice(start, start + ctx.step)
            if o.recompute:
                masks = Masks(o.rate, o.training, ctx.seeds[i])
                state = o.layer.forward(x[part], window, None if bias is None else bias[part], w, p, o.heads, masks)[1]
            else:
                state = o.layer.kept(*flat[i * each : (i + 1) * each])
            d_x[part] = o.layer.backward(gradient[part], x[part], window, w, p, state, o.scale, sums)
        return d_x, None, None, None, *o.layer.gradients(sums, o.heads, o.scale)


def apply(
    layer: Layer,
    x: Tensor,
    window: Tensor | None,
    bias: Tensor | None,
    weights: tuple[Tensor, ...],
    *,
    heads: int,
    dropout: float,
    training: bool,
    dtype: torch.dtype,
    recompute: bool = False,
) -> Tensor:
    """The layer of some sequences.

    Shapes: `x` [B, L, H] float32 (or float64), `window` [L, L] or None, `bias` [B, L] or None (no gradient flows to either) -> [B, L, H].
    `dtype` is the type of the matrix products; LayerNorms and residuals stay in `x`'s.
    """
    keep = torch.is_grad_enabled() and (x.requires_grad or any(weight.requires_grad for weight in weights))
    with torch.autocast(x.device.type, enabled=False):  # `dtype` already says where bfloat16 is used
        return _Chunked.apply(x, window, bias, _Options(layer, heads, dropout, training, dtype, recompute, keep), *weights)
