"""Query diversity and optimal matching: the literal forms, extremes, single captions, more queries than clips."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.config.method_objectives import OptimalMatching, QueryDiversity
from pipeline.config.objectives import Objectives
from pipeline.core.errors import TrainingError
from pipeline.objectives import optimal_matching, query_diversity
from pipeline.objectives.total import Total
from tests.objectives.test_total import OFF, Model, fields

SEEDS = st.integers(0, 10_000)


def queries(seed: int, videos: int, most: int = 4) -> tuple[Tensor, Tensor]:
    """Queries [Q, 5] and labels in no order; some videos have one query, some none."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(videos, (most * videos,), generator=generator)
    return torch.randn(len(labels), 5, generator=generator, dtype=torch.float64), labels


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return a @ b / (a.norm() * b.norm())


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 5))
def test_one_logarithm_a_query(seed: int, videos: int) -> None:
    query, labels = queries(seed, videos)
    ours, theirs = query.clone().requires_grad_(), query.clone().requires_grad_()
    rows = []
    for i, j in itertools.product(range(len(labels)), repeat=2):
        if j == 0:
            rows.append(torch.ones((), dtype=torch.float64))
        if i != j and labels[i] == labels[j]:
            rows[-1] = rows[-1] + torch.exp(8.0 * (cosine(theirs[i], theirs[j]) + 0.1))
    _same(query_diversity.per_query(ours, labels, delta=0.1, alpha=8.0), torch.stack(rows).log().mean(), ours, theirs)


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 5), st.sampled_from([0.0, 0.5, 1.0, 2.0]))
def test_one_logarithm_a_pair(seed: int, videos: int, focus: float) -> None:
    query, labels = queries(seed, videos)
    ours, theirs = query.clone().requires_grad_(), query.clone().requires_grad_()
    total = (theirs * 0).sum()
    for i, j in itertools.product(range(len(labels)), repeat=2):
        if i != j and labels[i] == labels[j]:
            c = cosine(theirs[i], theirs[j])
            total = total + (1 + c) ** focus * torch.log(1 + torch.exp(8.0 * (c + 0.1)))
    _same(query_diversity.per_pair(ours, labels, delta=0.1, alpha=8.0, focus=focus), total / len(labels), ours, theirs)


def _same(value: Tensor, expected: Tensor, ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(value, expected, rtol=1e-7, atol=1e-9)
    gradients = [torch.autograd.grad(loss, at)[0] if loss.requires_grad else 0 * at for loss, at in ((value, ours), (expected, theirs))]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("form", [query_diversity.per_query, query_diversity.per_pair])
def test_an_exponent_beyond_float32_stays_finite(form: object) -> None:
    query = torch.ones(4, 3, requires_grad=True)
    value = form(query, torch.zeros(4, dtype=torch.long), delta=0.2, alpha=1000.0)  # exp(1200) is infinite
    assert value.isfinite()
    assert torch.autograd.grad(value, query)[0].isfinite().all()


def test_opposite_queries_have_a_slope() -> None:
    query = torch.tensor([[1.0, 0], [-1.0, 0]], requires_grad=True)
    value = query_diversity.per_pair(query, torch.zeros(2, dtype=torch.long), delta=0.1, alpha=8.0, focus=0.5)
    assert value.isfinite()
    assert torch.autograd.grad(value, query)[0].isfinite().all()


@pytest.mark.parametrize("loss", ["per_query", "per_pair", "matching"])
@pytest.mark.parametrize("labels", [[0, 1, 2], [1]])
def test_one_caption_a_video_is_nothing_to_learn_from(loss: str, labels: list[int]) -> None:
    query, clips = torch.randn(len(labels), 5, requires_grad=True), torch.randn(3, 4, 5, requires_grad=True)
    owner = torch.tensor(labels)
    value = optimal_matching.loss(query, clips, owner) if loss == "matching" else getattr(query_diversity, loss)(query, owner)
    assert value == 0
    assert (torch.autograd.grad(value, query)[0] == 0).all()


@settings(max_examples=30)
@given(SEEDS, st.integers(1, 4))
def test_no_other_pairing_has_a_larger_sum(seed: int, videos: int) -> None:
    """Against every one-to-one pairing of 3 clips and up to all queries of a video."""
    query, labels = queries(seed, videos, most=3)
    clips = torch.randn(videos, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 1))
    found = optimal_matching.match(query, clips, labels)
    total, count = 0.0, 0
    for video in range(videos):
        own = (labels == video).nonzero().flatten().tolist()
        if len(own) < 2:
            assert not (labels[found[0]] == video).any()
            continue
        size = min(3, len(own))
        total += max(
            sum(cosine(query[q], clips[video, c]).item() for q, c in zip(some, chosen, strict=True))
            for some in itertools.combinations(own, size)
            for chosen in itertools.permutations(range(3), size)
        )
        count += size
    assert len(found[0]) == count
    if count:
        assert optimal_matching.loss(query, clips, labels).item() == pytest.approx(1 - total / count, abs=1e-12)
        assert len({(labels[q].item(), c) for q, c in zip(found[0], found[1].tolist(), strict=True)}) == count


def test_the_second_encoding_is_what_they_see() -> None:
    step = fields(torch.float32)
    chosen = Objectives(**OFF, query_diversity=QueryDiversity(weight=0.5, form="pair"), optimal_matching=OptimalMatching(weight=2.0))
    again = torch.randn(6, 8)
    terms = Total(chosen)(step._replace(query={**step.query, "pooled_again": again}))[1]
    torch.testing.assert_close(terms["query_diversity"], 0.5 * query_diversity.per_pair(again, step.labels))
    torch.testing.assert_close(terms["optimal_matching"], 2 * optimal_matching.loss(again, step.video["clips"], step.labels))
    assert set(terms) == {"nce_clip", "nce_frame", "triplet_clip", "triplet_frame", "query_diversity", "optimal_matching"}


def test_a_model_without_clip_tokens_is_refused_before_the_first_step() -> None:
    model = Model()
    model.provides = Model.provides - {"video.clips"}  # type: ignore[misc]
    with pytest.raises(TrainingError, match=r"objectives\.optimal_matching needs video\.clips"):
        Total(Objectives(**OFF, optimal_matching=OptimalMatching(weight=1.0))).check(model, teacher=True)


def test_what_is_not_a_number_reaches_the_loss() -> None:
    """The loop then says in which batch; scipy would only refuse the matrix."""
    query, clips = torch.randn(3, 5), torch.randn(1, 4, 5)
    query[0, 0] = math.nan
    assert optimal_matching.loss(query, clips, torch.zeros(3, dtype=torch.long)).isnan()
