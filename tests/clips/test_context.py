"""Context ratios, level choice and the bipartite merges."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import literal
from pipeline.clips.context import choose, contexts, levels_of, ratio, similarities

SEEDS = st.integers(0, 10_000)
RELEASED, PAPER = [32, 20, 12, 8, 5], [32, 20, 12, 8, 6, 5]


def _clips(seed: int, videos: int = 3, clips: int = 32, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    centre = torch.randn(videos, 1, 6, generator=generator, dtype=torch.float64)
    rows = centre + spread * torch.randn(videos, clips, 6, generator=generator, dtype=torch.float64)
    return rows, torch.randint(1, 9, (videos, clips), generator=generator).double()


@given(SEEDS, st.floats(0.2, 2), st.floats(-0.5, 0.99))
def test_closure_equals_connected_components(seed: int, spread: float, tau: float) -> None:
    rows, _ = _clips(seed, spread=spread)
    found = ratio(similarities(rows), tau, "closure")
    for video in range(len(rows)):
        assert found[video].item() == pytest.approx(literal.context_ratio(rows[video], tau), abs=1e-12)
    assert (found >= ratio(similarities(rows), tau, "pairs")).all()


def test_a_chain_is_one_component() -> None:
    steps = torch.arange(32) * 0.1  # neighbours are alike, ends are not
    rows = torch.stack([steps.cos(), steps.sin()], dim=1)[None]
    assert ratio(similarities(rows), 0.99, "closure").item() == 1
    assert ratio(similarities(rows), 0.99, "pairs").item() == pytest.approx(2 * 31 / (32 * 31))


def test_ratio_bounds_and_a_single_clip() -> None:
    rows, _ = _clips(1)
    assert (ratio(similarities(rows), 1.0) == 0).all()
    assert (ratio(similarities(rows), -1.01) == 1).all()
    assert ratio(similarities(rows[:, :1]), 0.5).tolist() == [1, 1, 1]


def test_levels_follow_the_order_of_meaning() -> None:
    asked = torch.tensor([0.0, 0.1999, 0.2, 0.4, 0.5999, 0.6, 0.8, 1.0])
    assert choose(asked, 5, "at_least").tolist() == [0, 0, 1, 2, 2, 3, 4, 4]
    assert choose(asked, 5, "above").tolist() == [0, 0, 0, 1, 2, 2, 3, 4]
    assert choose(torch.tensor([0.5, 0.500001]), 6, "above").tolist() == [2, 3]


@given(SEEDS, st.sampled_from(["greedy", "tome"]), st.sampled_from([RELEASED, PAPER, [32, 31, 17, 9], [32]]))
def test_assignments_are_surjective_nested_and_keep_mass(seed: int, method: str, levels: list[int]) -> None:
    rows, sizes = _clips(seed)
    found = levels_of(rows, sizes, levels, method)
    assert found.shape == (len(levels), 3, 32)
    assert torch.equal(found[0], torch.arange(32).expand(3, 32))
    for level, count in enumerate(levels):
        for video in range(3):
            assert sorted(set(found[level, video].tolist())) == list(range(count))
            if level:  # clips together at one level stay together at the next
                parent = {}
                for fine, coarse in zip(found[level - 1, video].tolist(), found[level, video].tolist(), strict=True):
                    assert parent.setdefault(fine, coarse) == coarse


@given(SEEDS)
def test_greedy_equals_the_literal_form(seed: int) -> None:
    rows, sizes = _clips(seed)
    found = levels_of(rows, sizes, RELEASED, "greedy")
    for video in range(3):
        merged, mass, composed = rows[video], sizes[video], torch.arange(32)
        for level, count in enumerate(RELEASED[1:], start=1):
            place = literal.bipartite_merge(merged, mass, count)
            total = torch.zeros(count, dtype=torch.float64).index_add(0, place, mass)
            merged = torch.zeros(count, 6, dtype=torch.float64).index_add(0, place, merged * mass[:, None]) / total[:, None]
            mass, composed = total, place[composed]
            assert torch.equal(found[level, video], composed)


def test_tome_sends_many_to_one() -> None:
    same, other = [1.0, 0.0], [0.0, 1.0]
    rows = torch.tensor([[same, same, same, other, same, other]])
    # even positions 0, 2, 4 all resemble odd position 1
    assert levels_of(rows, torch.ones(1, 6), [6, 3], "tome")[1].tolist() == [[0, 0, 0, 1, 0, 2]]


def test_equal_clips_merge_from_the_front() -> None:
    rows, sizes = torch.ones(1, 8, 2), torch.ones(1, 8)
    assert levels_of(rows, sizes, [8, 6], "greedy")[1].tolist() == [[0, 0, 1, 1, 2, 3, 4, 5]]


def test_more_alike_means_fewer_contexts() -> None:
    alike, sizes = _clips(3, spread=0.01)
    apart, _ = _clips(3, spread=100.0)
    for options in ({}, {"context_ratio": "pairs", "context_choice": "above", "context_merge": "tome"}):
        for levels in (RELEASED, PAPER):
            assert (contexts(alike, sizes, levels, 0.9, **options).counts == 5).all()
            assert (contexts(apart, sizes, levels, 0.9, **options).counts == 32).all()


def test_a_batch_is_its_videos() -> None:
    rows, sizes = _clips(4, videos=5, spread=0.7)
    together = contexts(rows, sizes, RELEASED, 0.5)
    for video in range(5):
        alone = contexts(rows[video : video + 1], sizes[video : video + 1], RELEASED, 0.5)
        assert torch.equal(together.assignment[video], alone.assignment[0])
        assert together.counts[video] == alone.counts[0] == together.assignment[video].max() + 1
