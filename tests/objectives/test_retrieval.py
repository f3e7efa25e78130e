"""Scores, InfoNCE and triplet: the literal form, extreme logits, single videos and captions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import literal
from pipeline.models.scores import max_similarity
from pipeline.objectives.nce import nce
from pipeline.objectives.triplet import triplet

SEEDS = st.integers(0, 10_000)


def _batch(seed: int, videos: int, most: int = 4, std: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores [Q, B] and labels; every video has at least one query, in no order."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(videos), torch.randint(videos, (videos * (most - 1),), generator=generator)])
    labels = labels[torch.randperm(len(labels), generator=generator)]
    return std * torch.randn(len(labels), videos, generator=generator, dtype=torch.float64), labels


def test_scores_are_the_best_tokens() -> None:
    query, tokens = torch.randn(7, 5), torch.randn(3, 11, 5)
    cosine, dot = max_similarity(query, tokens)
    for q in range(7):
        for v in range(3):
            torch.testing.assert_close(dot[q, v], (tokens[v] @ query[q]).max())
            torch.testing.assert_close(cosine[q, v], torch.cosine_similarity(tokens[v], query[q][None]).max())


def test_scores_of_zero_rows_are_zero_and_pass_finite_gradients() -> None:
    query, tokens = torch.zeros(2, 5, requires_grad=True), torch.zeros(2, 3, 5, requires_grad=True)
    cosine, dot = max_similarity(query, tokens)
    (cosine.sum() + dot.sum()).backward()
    assert (cosine == 0).all()
    assert (dot == 0).all()
    assert torch.isfinite(query.grad).all()
    assert torch.isfinite(tokens.grad).all()


@given(SEEDS, st.integers(1, 9))
def test_nce_equals_the_literal_form(seed: int, videos: int) -> None:
    scores, labels = _batch(seed, videos)
    ours, theirs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    loss, expected = nce(ours, labels), literal.nce(theirs, labels)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, ours)[0], torch.autograd.grad(expected, theirs)[0])


@given(SEEDS, st.integers(2, 9))
def test_hard_triplet_equals_the_literal_form(seed: int, videos: int) -> None:
    scores, labels = _batch(seed, videos, std=0.3)
    ours, theirs = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    loss = triplet(ours, labels, 0.2, hard=True, pool=1)
    expected = literal.triplet(theirs, labels, 0.2, hard=True, pool=1)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(loss, ours)[0], torch.autograd.grad(expected, theirs)[0])


def _negatives(scores: torch.Tensor, labels: torch.Tensor, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    """How often each entry served as a negative, from the gradient of a loss whose hinges are all open."""
    counts = torch.zeros_like(scores)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        given_scores = scores.clone().requires_grad_()
        triplet(given_scores, labels, 100.0, generator=generator, **options).backward()
        counts += given_scores.grad.clamp_min(0)
    own = labels[:, None] == torch.arange(scores.shape[1])
    return counts, own


@pytest.mark.parametrize("options", [{"hard": False}, {"hard": True, "pool": 2}, {"hard": True, "pool": 99}])
def test_negatives_are_never_positives_and_every_one_is_drawn(options: dict) -> None:
    scores, labels = _batch(0, 5)
    counts, own = _negatives(scores, labels, **options)
    assert (counts[own] == 0).all()
    if options != {"hard": True, "pool": 2}:
        assert (counts[~own] > 0).all()
    else:
        second = scores.masked_fill(own, -9).topk(2, dim=1).values[:, -1:]
        hardest = scores.masked_fill(own, -9).amax(dim=0)
        assert (counts[(scores < second) & (scores < hardest)] == 0).all()


def test_a_pool_of_all_videos_is_the_uniform_draw() -> None:
    scores, labels = _batch(1, 6)
    wide, _ = _negatives(scores, labels, hard=True, pool=6)
    easy, own = _negatives(scores, labels, hard=False)
    hardest = scores.masked_fill(own, -9).argmax(dim=0)
    wide[hardest, torch.arange(6)] = easy[hardest, torch.arange(6)] = 0  # the video side differs: hardest against uniform
    expected = 400 / len(labels) / 5
    assert (wide[wide > 0] - expected).abs().max() < 6 * expected**0.5


def test_the_same_generator_gives_the_same_loss() -> None:
    scores, labels = _batch(2, 8)
    first, second, other = (triplet(scores, labels, 0.2, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert first == second
    assert first != other


def test_one_video_in_the_batch() -> None:
    scores = torch.randn(3, 1, requires_grad=True)
    labels = torch.zeros(3, dtype=torch.long)
    for hard in (False, True):
        loss = triplet(scores, labels, 0.2, hard=hard)
        assert loss == 0
        assert (torch.autograd.grad(loss, scores)[0] == 0).all()
    assert nce(scores, labels).item() == pytest.approx(0, abs=1e-6)


def test_a_video_without_a_query_is_only_a_negative() -> None:
    scores, labels = torch.randn(4, 3, dtype=torch.float64, requires_grad=True), torch.tensor([0, 0, 2, 2])
    for loss in (nce(scores, labels), triplet(scores, labels, 0.2, hard=True)):
        gradient = torch.autograd.grad(loss, scores)[0]
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()
    asked = nce(scores, labels) - literal.nce(scores[:, [0, 2]], labels // 2)
    assert asked > 0, "it adds a negative to the text side"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_logits_do_not_overflow(dtype: torch.dtype) -> None:
    scores, labels = _batch(3, 8, std=500.0)
    scores = scores.to(dtype).requires_grad_()
    loss = nce(scores, labels)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, scores)[0]).all()


def test_permuting_videos_changes_nothing() -> None:
    scores, labels = _batch(4, 6)
    order = torch.tensor([2, 0, 5, 1, 4, 3])
    moved = order.argsort()[labels]
    torch.testing.assert_close(nce(scores, labels), nce(scores[:, order], moved))
    hard = {"hard": True, "pool": 1}
    torch.testing.assert_close(triplet(scores, labels, **hard), triplet(scores[:, order], moved, **hard))
