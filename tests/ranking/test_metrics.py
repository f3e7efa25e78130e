"""Ranks and recalls: the count equals a stable sort, ties go to the lower index, and the recalls are the field's."""

import numpy as np
import pytest
import torch

from pipeline.ranking import metrics
from pipeline.ranking.metrics import chance, ranks, recalls


def literal_ranks(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The definition: sort each row by falling score, stably, and look the true video up."""
    return np.array([1 + list(np.argsort(-row, kind="stable")).index(own) for row, own in zip(scores, truth, strict=True)])


def test_ranks_equal_a_stable_sort_with_and_without_ties() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 50, 200)
    for scores in (
        random.standard_normal((200, 50)),
        random.integers(0, 4, (200, 50)).astype(np.float32),
        np.zeros((200, 50)),
    ):
        assert (ranks(scores, truth, chunk=33).numpy() == literal_ranks(scores, truth)).all()


def test_ranks_refuse_what_would_silently_rank_first() -> None:
    with pytest.raises(ValueError, match="not a number"):
        ranks(torch.tensor([[float("nan"), 1.0]]), torch.tensor([0]))
    with pytest.raises(ValueError, match="expected"):
        ranks(torch.zeros(2, 3), torch.zeros(3))


def test_one_query_and_one_video_are_ordinary() -> None:
    assert ranks(torch.tensor([[0.3]]), torch.tensor([0])).tolist() == [1]


def test_permuting_the_videos_changes_no_rank() -> None:
    random = np.random.default_rng(1)
    scores, truth, order = (
        random.standard_normal((30, 20)),
        random.integers(0, 20, 30),
        random.permutation(20),
    )
    position = np.argsort(order)
    assert (ranks(scores, truth) == ranks(scores[:, order], position[truth])).all()


def test_recalls() -> None:
    found = recalls(torch.tensor([1, 1, 4, 7, 50, 101, 2, 11, 10, 5]))
    assert found == {
        "R@1": 20.0,
        "R@5": 50.0,
        "R@10": 70.0,
        "R@100": 90.0,
        "SumR": 230.0,
        "median_rank": 6.0,
        "mean_rank": 19.2,
    }
    with pytest.raises(ValueError, match="no query"):
        recalls(torch.zeros(0))


def test_chance_of_a_small_gallery_is_full_at_100() -> None:
    assert chance(50) == {
        "R@1": 2.0,
        "R@5": 10.0,
        "R@10": 20.0,
        "R@100": 100.0,
        "SumR": 132.0,
    }


@pytest.mark.parametrize("values", [2, 7, 10**6])
@pytest.mark.parametrize("depth", [1, 5, 39, 40, 100])
def test_the_top_videos_are_those_a_stable_sort_of_everything_gives(values: int, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few values: most scores are equal, also at the border of what is kept."""
    monkeypatch.setattr(metrics, "SORTED", 8)
    scores = torch.from_numpy(np.random.default_rng(depth).integers(0, values, (50, 40)).astype(np.float32))
    expected = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :depth]
    assert torch.equal(metrics.top(scores, depth), expected)
    assert torch.equal(metrics.top(torch.zeros(3, 40), depth), torch.arange(40)[:depth].expand(3, -1))
