"""A video scores as its best window, and is shown by it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ranking.windows import Windows, showing

COUNTS = st.lists(st.integers(1, 5), min_size=1, max_size=8)


@given(counts=COUNTS, seed=st.integers(0, 99), coarse=st.booleans())
def test_the_literal_loop(counts: list[int], seed: int, coarse: bool) -> None:
    """Ties too, which a coarse score has many of: the first window of the best."""
    ids = [f"v{i}" for i, count in enumerate(counts) for _ in range(count)]
    windows = Windows(ids)
    random = np.random.default_rng(seed)
    scores = random.integers(0, 3, (4, len(ids))).astype(np.float32) if coarse else random.standard_normal((4, len(ids)), np.float32)
    videos = torch.from_numpy(random.integers(0, len(counts), 4))
    first = np.cumsum([0, *counts])
    best = [[row[first[v] : first[v + 1]].max() for v in range(len(counts))] for row in scores]
    found = [first[v] + row[first[v] : first[v + 1]].argmax() for row, v in zip(scores, videos, strict=True)]
    np.testing.assert_array_equal(windows.best(torch.from_numpy(scores)), best)
    np.testing.assert_array_equal(windows.found(torch.from_numpy(scores), videos), found)
    assert windows.ids == [f"v{i}" for i in range(len(counts))]
    assert windows.single == (max(counts) == 1)
    assert [ids[i] for i in range(len(ids))] == [windows.ids[v] for v in windows.video]
    np.testing.assert_array_equal(windows.of_videos(np.array(ids)), windows.ids)


def test_windows_of_a_video_lie_together() -> None:
    with pytest.raises(ValueError, match="one after the other"):
        Windows(["a", "b", "a"])


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ([[10, 20]], 0),
        ([[80, 90]], 1),  # both of them show all of it: nearer to the middle of the second
        ([[90, 130]], 1),  # ten seconds more of it than the third shows
        ([[40, 60], [45, 55]], 0),  # all of it
        ([[199.0, 250.0]], 3),
        ([[100.0, 100.0]], 1),  # one instant
        ([[300.0, 310.0]], -1),
    ],
)
def test_a_query_is_learnt_from_the_window_that_shows_it(moments: list[list[float]], expected: int) -> None:
    start = np.array([0.0, 50, 100, 150])
    assert showing(np.array(moments, dtype=float), start, start + 100) == expected
