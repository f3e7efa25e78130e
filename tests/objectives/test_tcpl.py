"""Text correlation preservation: the literal form, the hand-written backward, invariances, degenerate sets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks import literal
from pipeline.objectives import tcpl

SEEDS = st.integers(0, 10_000)
TERMS: list[tuple[Callable[..., Tensor], Callable[..., Tensor]]] = [
    (tcpl.distance, literal.tcpl_distance),
    (tcpl.angle, literal.tcpl_angle),
]


def _pair(seed: int, queries: int, width: int = 6, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = 3 * torch.randn(queries, width, generator=generator, dtype=dtype) + 5
    return student, torch.nn.functional.normalize(torch.randn(queries, width + 3, generator=generator, dtype=dtype), dim=1)


@pytest.mark.parametrize(("ours", "theirs"), TERMS)
@given(seed=SEEDS, queries=st.integers(2, 24))
def test_equal_the_literal_form(ours: Callable, theirs: Callable, seed: int, queries: int) -> None:
    student, teacher = _pair(seed, queries)
    here, there = student.clone().requires_grad_(), student.clone().requires_grad_()
    loss, expected = ours(here, teacher), theirs(there, teacher)
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-14)
    torch.testing.assert_close(torch.autograd.grad(loss, here)[0], torch.autograd.grad(expected, there)[0], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), TERMS)
def test_float32_at_the_size_of_a_model(ours: Callable, theirs: Callable) -> None:
    student, teacher = _pair(0, 120, 384)
    student = student * 0.01 + 19  # a trained model's queries lie close together, far from the origin
    here, there = student.float().requires_grad_(), student.clone().requires_grad_()
    loss, expected = ours(here, teacher.float()), theirs(there, teacher)
    torch.testing.assert_close(loss.double(), expected, rtol=2e-3, atol=0)  # rounding the rows to float32 costs this much
    exact = theirs(here.detach().double(), teacher)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("chunk", [1, 2, 5, 7, 100])
def test_chunks_change_nothing(chunk: int) -> None:
    student, teacher = _pair(1, 12)
    values = []
    for anchors in (3, chunk):
        rows = student.clone().requires_grad_()
        loss = tcpl.angle(rows, teacher, anchors)
        values.append((loss.detach(), torch.autograd.grad(loss, rows)[0]))
    torch.testing.assert_close(values[0], values[1])


@pytest.mark.parametrize("chunk", [1, 4])
def test_the_backward_passes_gradcheck(chunk: int) -> None:
    student, teacher = _pair(2, 7, 4)
    # a teacher far off opens the linear part of smooth-L1 as well
    teacher = -student[:, :3] + 0.1 * teacher[:, :3]
    assert torch.autograd.gradcheck(lambda rows: 3 * tcpl.angle(rows, teacher, chunk), student.requires_grad_())


@given(SEEDS, st.floats(0.01, 100))
def test_invariant_to_scale_rotation_and_shift_and_zero_for_the_teacher_itself(seed: int, scale: float) -> None:
    student, teacher = _pair(seed, 9)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)).Q
    moved = scale * student @ rotation + 3
    for term in (tcpl.distance, tcpl.angle):
        torch.testing.assert_close(term(moved, teacher), term(student, teacher), rtol=1e-7, atol=1e-13)
        rows = student.clone().requires_grad_()
        loss = term(rows, moved)
        assert loss.item() == pytest.approx(0, abs=1e-15)
        assert torch.autograd.grad(loss, rows)[0].abs().max() < 1e-9


def test_off_diagonal_normaliser() -> None:
    student, teacher = _pair(3, 5)
    torch.testing.assert_close(tcpl.distance(student, teacher, "off_diagonal"), tcpl.distance(student, teacher) * 25 / 20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("queries", [1, 2])
def test_one_or_two_captions(queries: int, dtype: torch.dtype) -> None:
    student, teacher = _pair(4, queries, dtype=dtype)
    student.requires_grad_()
    for term in (tcpl.distance, tcpl.angle):
        loss = term(student, teacher)
        assert loss.item() == pytest.approx(0, abs=1e-12)
        assert torch.isfinite(torch.autograd.grad(loss, student)[0]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("which", [[2, 3], [0, 5, 7], list(range(9))])
def test_coincident_queries_give_finite_values_and_gradients(which: list[int], dtype: torch.dtype) -> None:
    student, teacher = _pair(5, 9, dtype=dtype)
    student, teacher = student * 100, teacher.clone()
    student[which] = student[which[0]].clone()
    teacher[which[:2]] = teacher[which[0]].clone()
    student.requires_grad_()
    for (ours, theirs), limit in zip(TERMS, (10.0, 1.0), strict=True):
        loss = ours(student, teacher)
        torch.testing.assert_close(loss, theirs(student.detach(), teacher), rtol=1e-4, atol=1e-7)
        gradient = torch.autograd.grad(loss, student)[0]
        assert torch.isfinite(gradient).all()
        assert gradient.abs().max() < limit


def test_no_second_pass_when_nothing_is_trained() -> None:
    student, teacher = _pair(6, 6)
    assert not tcpl.angle(student, teacher).requires_grad
    torch.testing.assert_close(tcpl.angle(student, teacher), tcpl.angle(student.clone().requires_grad_(), teacher).detach())


def test_threads_share_the_anchors_and_change_nothing() -> None:
    student, teacher = _pair(7, 2 * tcpl.ANCHORS_PER_WORKER + 3)
    threads, values = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            rows = student.clone().requires_grad_()
            loss = tcpl.angle(rows, teacher)
            values.append((loss.detach(), torch.autograd.grad(loss, rows)[0]))
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(values[0], values[1])
