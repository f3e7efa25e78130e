"""Hyperbolic maps: the textbook forms in float64, what must hold at any length, and no NaN at zero or far out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.models.lorentz import FARTHEST, OUTERMOST, centroid, entailed, exponential, inner, lift, logarithm, onto, time_of

SEEDS = st.integers(0, 10_000)
LENGTHS = st.floats(1e-6, 9.0)
CURVATURES = st.floats(0.1, 10.0)


def noise(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def of_length(seed: int, length: float, *shape: int) -> Tensor:
    rows = noise(seed, *shape)
    return length * rows / rows.norm(dim=-1, keepdim=True)


def on_hyperboloid(points: Tensor) -> None:
    """<x, x>_L = -1 to the rounding of its two large terms."""
    assert ((inner(points, points) + 1).abs() <= 1e-14 * points[..., :1].square() + 1e-12).all()
    assert (points[..., 0] >= 1).all()


@given(SEEDS, LENGTHS)
def test_exponential_is_the_textbook_form_and_the_logarithm_its_inverse(seed: int, length: float) -> None:
    tangent = of_length(seed, length, 3, 5)
    space = exponential(tangent, farthest=FARTHEST)
    for row, found in zip(tangent, space, strict=True):
        torch.testing.assert_close(found, math.sinh(float(row.norm())) * row / row.norm(), rtol=1e-13, atol=0)
    points = lift(space)
    on_hyperboloid(points)
    torch.testing.assert_close(logarithm(points[:, :1], space), tangent, rtol=1e-6 if length < 1e-4 else 1e-9, atol=1e-15)


@given(SEEDS, LENGTHS, CURVATURES)
def test_points_of_any_curvature(seed: int, length: float, curvature: float) -> None:
    space = exponential(of_length(seed, length, 4, 6), torch.tensor(curvature, dtype=torch.float64))
    root = math.sqrt(curvature) * length
    expected = of_length(seed, math.sinh(root) / math.sqrt(curvature), 4, 6) if root <= OUTERMOST else space
    torch.testing.assert_close(space, expected, rtol=1e-12, atol=0)
    time = time_of(space, curvature)
    assert ((space.square().sum(-1, keepdim=True) - time.square() + 1 / curvature).abs() <= 1e-14 * time.square() + 1e-12).all()


@pytest.mark.parametrize("time", [1.0, 1 + 1e-12, 1 + 1e-6, 1.0001, 1.0003, 1.1, 3.0, 1e6])
def test_the_logarithm_through_its_series_and_past_it(time: float) -> None:
    """Against arccosh(t)/sqrt(t^2 - 1) in 50 digits."""
    from decimal import Decimal, getcontext

    getcontext().prec = 50
    t = Decimal(time)
    root = (t * t - 1).sqrt()
    exact = float((t + root).ln() / root) if root else 1.0
    found = logarithm(torch.tensor([time], dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    assert found.item() == pytest.approx(exact, rel=1e-15 * max(1, 1e-3 / (time - 1)) if time > 1 else 0, abs=1e-14)


def test_a_longer_vector_than_the_farthest_keeps_its_direction_and_gets_sinh_10() -> None:
    tangent = of_length(0, 300.0, 2, 4)
    torch.testing.assert_close(exponential(tangent, farthest=FARTHEST), math.sinh(10) * tangent / 300)


@given(SEEDS, st.floats(-3, 3))
def test_any_rows_onto_the_hyperboloid(seed: int, log_scale: float) -> None:
    rows = 3 * noise(seed, 5, 4)
    points = onto(rows, torch.tensor(log_scale, dtype=torch.float64))
    on_hyperboloid(points)
    for row, point in zip(rows, points, strict=True):
        time = math.exp(log_scale) / (1 + math.exp(-row[0])) + 1.1
        assert point[0].item() == pytest.approx(time)
        torch.testing.assert_close(point[1:], row[1:] / row[1:].norm() * math.sqrt(time**2 - 1))


@given(SEEDS, st.floats(0.01, 8))
def test_a_centroid_lies_on_the_hyperboloid_and_of_one_point_is_that_point(seed: int, length: float) -> None:
    points = lift(exponential(length * noise(seed, 2, 6, 3) / 3))
    middle = centroid(noise(seed, 2, 4, 6).softmax(-1), points)
    on_hyperboloid(middle)
    torch.testing.assert_close(centroid(torch.eye(6, dtype=torch.float64).expand(2, 6, 6), points), points, rtol=1e-6, atol=1e-6)


def literal_entailed(v: Tensor, t: Tensor, c: Tensor) -> Tensor:
    """docs/methods.md, HLFormer as it is written, one pair."""
    time_v, time_t = (1 / c + v @ v).sqrt(), (1 / c + t @ t).sqrt()
    d = c * (v @ t - time_v * time_t)
    angle = torch.acos((time_t + d * time_v) / (v.norm() * (d**2 - 1).sqrt()))
    return (angle - torch.asin(0.2 / (c.sqrt() * v.norm()))).clamp_min(0)


@given(SEEDS, st.floats(0.3, 3), CURVATURES)
def test_entailment_equals_the_literal_form_with_its_gradients(seed: int, length: float, curvature: float) -> None:
    length /= math.sqrt(curvature)  # nearer than .2 the written aperture is the arcsin of more than 1
    general, special = of_length(seed, length, 6, 5).requires_grad_(), of_length(seed + 1, length, 6, 5).requires_grad_()
    c = torch.tensor(curvature, dtype=torch.float64, requires_grad=True)
    ours = entailed(general, special, c)
    theirs = torch.stack([literal_entailed(v, t, c) for v, t in zip(general, special, strict=True)])
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(out.sum(), [general, special, c]) for out in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_a_point_behind_another_on_the_same_ray_is_inside_its_cone() -> None:
    ray, c = of_length(0, 1.0, 1, 5), torch.tensor(1.0, dtype=torch.float64)
    assert entailed(ray, 3 * ray, c).item() == 0
    before = entailed(3 * ray, ray, c).item()
    assert before == pytest.approx(math.pi - math.asin(0.2 / 3), abs=1e-6), "towards the origin the angle is pi"


FAR = [0.0, 1e-30, 1e-12, 1e-4, 1.0, 19.6, 100.0, 1e6]


@pytest.mark.parametrize("length", FAR)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: exponential(x, farthest=FARTHEST),
        lambda x: exponential(x, torch.tensor(10.0)),
        lambda x: logarithm(*lift(exponential(x, farthest=FARTHEST)).split([1, 4], -1)),
        lambda x: onto(torch.cat([x[..., :1], x], -1), torch.tensor(2.3)),
        lambda x: centroid(torch.full((2, 3), 1 / 3), lift(exponential(x, farthest=FARTHEST))),
        lambda x: entailed(exponential(x), exponential(x.flip(0)), torch.tensor(1.0)),
        lambda x: entailed(exponential(x, torch.tensor(10.0)), exponential(x, torch.tensor(10.0)), torch.tensor(10.0)),
        lambda x: entailed(exponential(x), exponential(torch.zeros_like(x)), torch.tensor(0.1)),
        lambda x: entailed(exponential(torch.zeros_like(x)), exponential(x), torch.tensor(0.1)),
    ],
)
def test_no_nan_in_float32_at_zero_or_far_out(function: Callable[[Tensor], Tensor], length: float) -> None:
    rows = (of_length(1, 1.0, 3, 4) * length).float().requires_grad_()
    values = function(rows)
    assert values.isfinite().all()
    (gradient,) = torch.autograd.grad(values.sum(), rows)
    assert gradient.isfinite().all()
