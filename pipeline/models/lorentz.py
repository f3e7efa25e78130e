"""Hyperbolic geometry on the hyperboloid, with the origin as base point: pure functions on tensors, in float32 or better.

A point of curvature -c is (time, space) with time = sqrt(1/c + |space|^2). Every map is smooth where the textbook form divides 0 by 0, and
lengths are bounded where float32 would overflow, so that neither a zero vector nor one far out gives a NaN, in value or gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

FARTHEST = 10.0  # the longest vector the exponential map of the Lorentz layer follows
OUTERMOST = 20.0  # ours: the square of two points' product is then cosh(20)^4 = 3e33; float32 ends at 3e38
SHORTEST = 1e-6  # ours: the slope of a row's direction is one over its length
_SERIES = 1e-4  # where a squared argument is smaller, the series is exact to float64


def lift(space: Tensor) -> Tensor:
    """The point of curvature -1 over a space part. Shapes: [..., n] -> [..., 1 + n], time first."""
    return torch.cat([time_of(space), space], -1)


def time_of(space: Tensor, curvature: Tensor | float = 1.0) -> Tensor:
    """The time coordinate over a space part: sqrt(1/c + |space|^2). Shapes: [..., n] -> [..., 1]."""
    return (1 / curvature + space.square().sum(-1, keepdim=True)).sqrt()


def inner(left: Tensor, right: Tensor) -> Tensor:
    """The Lorentzian inner product <x, y>_L: of the space parts, less that of the times. Shapes: [..., 1 + n] twice -> [..., 1]."""
    products = left * right
    return products[..., 1:].sum(-1, keepdim=True) - products[..., :1]


def exponential(tangent: Tensor, curvature: Tensor | float = 1.0, farthest: float = OUTERMOST) -> Tensor:
    """The space part of exp_0: sinh(sqrt(c) |z|) z / (sqrt(c) |z|), with sqrt(c) |z| no longer than `farthest` inside the sinh.

    Shapes: [..., n] -> same. Source: docs/methods.md, HLFormer, steps 2 (c = 1, at most 10) and 9.
    """
    squared = curvature * tangent.square().sum(-1, keepdim=True)
    near = squared < _SERIES
    length = squared.masked_fill(near, 1.0).sqrt()
    return tangent * torch.where(near, 1 + squared / 6 + squared.square() / 120, length.clamp_max(farthest).sinh() / length)


def logarithm(time: Tensor, space: Tensor) -> Tensor:
    """log_0 at curvature -1: arccosh(t) / sqrt(t^2 - 1) * space, whatever the space part's length is.

    Computed as arcsinh(w) / (w sqrt(1 + w^2)) with w^2 = (t - 1)/2, whose slope at t = 1 is finite; a time below 1 counts as 1.

    Shapes: `time` [..., 1], `space` [..., n] -> [..., n]. Source: docs/methods.md, HLFormer, step 6.
    """
    half = (time - 1).clamp_min(0) / 2
    near = half < _SERIES
    root = half.masked_fill(near, 1.0).sqrt()
    series = 1 - half * (2 / 3) * (1 - half * (4 / 5) * (1 - half * (6 / 7)))
    return space * torch.where(near, series, root.asinh() / (root * (1 + root.square()).sqrt()))


def onto(rows: Tensor, log_scale: Tensor) -> Tensor:
    """Any rows onto the hyperboloid: time = sigmoid(y_0) e^s + 1.1, the rest stretched to fit it.

    A rest shorter than `SHORTEST` has no direction to speak of, and is not stretched all the way.

    Shapes: `rows` [..., 1 + n], `log_scale` s [] -> same. Source: docs/methods.md, HLFormer, step 3.
    """
    time, rest = rows[..., :1].sigmoid() * log_scale.exp() + 1.1, rows[..., 1:]
    squared = rest.square().sum(-1, keepdim=True).clamp_min(SHORTEST**2)
    return torch.cat([time, rest * ((time.square() - 1) / squared).sqrt()], -1)


def centroid(weights: Tensor, points: Tensor) -> Tensor:
    """The weighted mean of points, scaled back onto the hyperboloid: m / sqrt(|<m, m>_L|).

    Shapes: `weights` [..., m, L], `points` [..., L, 1 + n] -> [..., m, 1 + n]. Source: docs/methods.md, HLFormer, step 5.
    """
    mean = weights @ points
    return mean / inner(mean, mean).abs().clamp_min(torch.finfo(mean.dtype).tiny).sqrt()


def entailed(general: Tensor, special: Tensor, curvature: Tensor, least: float = 0.2) -> Tensor:
    """How far, in radians, each `special` point lies outside the cone of the `general` one paired with it; 0 inside.

    The exterior angle at the general point less the cone's aperture arcsin(`least` / (sqrt(c) |v|)). A point within `least` of the origin
    has the half space for its cone.

    Shapes: space parts [n, D] each, `curvature` [] -> [n]. Source: docs/methods.md, HLFormer, step 9.
    """
    edge = 1 - 4 * torch.finfo(general.dtype).eps  # both inverse functions have an infinite slope at 1
    here, there = time_of(general, curvature), time_of(special, curvature)
    product = curvature * ((general * special).sum(-1, keepdim=True) - here * there)
    length = general.norm(dim=-1, keepdim=True)
    across = (length * (product.square() - 1).clamp_min(_SERIES**2).sqrt()).clamp_min(_SERIES**2)
    angle = ((there + product * here) / across).clamp(-edge, edge).acos()
    aperture = (least / (curvature.sqrt() * length).clamp_min(_SERIES)).clamp_max(edge).asin()
    return (angle - aperture).clamp_min(0).squeeze(-1)
