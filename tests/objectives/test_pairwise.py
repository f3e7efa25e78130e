"""InfoNCE and triplet of queries with the videos of queries: the literal forms, extreme logits, one query."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.config.objectives import Objectives
from pipeline.models.base import Scores
from pipeline.objectives.nce import pairwise_nce
from pipeline.objectives.total import Total
from pipeline.objectives.triplet import pairwise_triplet
from tests.objectives.test_total import fields

SEEDS = st.integers(0, 10_000)


def square(seed: int, size: int, std: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (std * torch.randn(size, size, generator=generator, dtype=torch.float64)).requires_grad_()


@given(SEEDS, st.integers(1, 9))
def test_nce_equals_the_literal_form(seed: int, size: int) -> None:
    dot = square(seed, size)
    literal = sum((dot[i].exp().sum() + dot[:, i].exp().sum()).log() - dot[i, i] for i in range(size)) / size
    loss = pairwise_nce(dot)
    torch.testing.assert_close(loss, literal)
    torch.testing.assert_close(torch.autograd.grad(loss, dot), torch.autograd.grad(literal, dot))


@given(SEEDS, st.integers(2, 9))
def test_hard_triplet_equals_the_literal_form(seed: int, size: int) -> None:
    cosine, literal = square(seed, size, 0.3), torch.zeros((), dtype=torch.float64)
    for matrix in (cosine, cosine.T):
        for i in range(size):
            hardest = torch.cat([matrix[i, :i], matrix[i, i + 1 :]]).max()
            literal = literal + (0.2 + hardest - matrix[i, i]).clamp_min(0) / size
    loss = pairwise_triplet(cosine, 0.2, hard=True, pool=1)
    torch.testing.assert_close(loss, literal)
    torch.testing.assert_close(torch.autograd.grad(loss, cosine), torch.autograd.grad(literal, cosine))


@pytest.mark.parametrize("options", [{"hard": False}, {"hard": True, "pool": 3}])
def test_a_negative_is_never_the_pair_itself_and_any_of_the_others(options: dict) -> None:
    cosine = torch.tensor([[9.0, 0.4, 0.2, 0.1], [0.4, 9.0, 0.2, 0.1], [0.2, 0.4, 9.0, 0.1], [0.1, 0.2, 0.4, 9.0]])
    generator = torch.Generator().manual_seed(0)
    drawn = {round(pairwise_triplet(cosine, 9.0, generator=generator, **options).item(), 3) for _ in range(300)}
    assert len(drawn) > 5
    assert all(0.2 - 1e-6 <= value <= 0.8 + 1e-6 for value in drawn), "the pair itself would add 9"


def test_large_logits_and_one_query() -> None:
    for dot in (square(0, 7, 500.0).float(), square(0, 1)):
        loss = pairwise_nce(dot)
        assert loss.isfinite()
        assert torch.autograd.grad(loss, dot)[0].isfinite().all()
    one = square(1, 1)
    for hard in (False, True):
        assert torch.autograd.grad(pairwise_triplet(one, hard=hard), one)[0].eq(0).all()


def test_a_branch_says_itself_which_losses_it_has() -> None:
    step, settings = fields(), Objectives.model_validate({"tcpl": {"distance": 0, "angle": 0}, "cbva": {"weight": 0}})
    pairs = square(3, len(step.labels), 0.5).float()
    scores = {**step.scores, "frame": Scores(pairs.tanh(), pairs, pairwise=True)}
    _, terms = Total(settings)(step._replace(scores=scores, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(terms["nce_frame"], settings.nce.frame * pairwise_nce(pairs.detach()))
    _, plain = Total(settings)(step._replace(generator=torch.Generator().manual_seed(1)))
    assert terms["nce_clip"] == plain["nce_clip"]
    assert terms["triplet_frame"] != plain["triplet_frame"]
