"""Pooling to a fixed length: edges, times, masses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clips import pooling

LENGTHS = st.integers(1, 400)
KINDS = st.sampled_from(["drop", "keep"])


@given(LENGTHS, st.integers(1, 130), KINDS)
def test_every_row_is_the_mean_of_its_span(rows: int, length: int, last_row: str) -> None:
    values = np.random.default_rng(rows).standard_normal((rows, 3)).astype(np.float32)
    edges = pooling.edges(rows, length, last_row)
    pooled = pooling.average_to_fixed_length(values, length, last_row)
    assert pooled.shape == (length, 3)
    for i in range(length):
        span = values[edges[i] : edges[i + 1]] if edges[i + 1] > edges[i] else values[edges[i]][None]
        np.testing.assert_allclose(pooled[i], span.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_edges_round_half_to_even_and_stop_at_the_last_row() -> None:
    assert pooling.edges(5, 2).tolist() == [0, 2, 4]  # 2.5 -> 2, and 5 clamped to 4
    assert pooling.edges(5, 2, "keep").tolist() == [0, 2, 5]
    assert pooling.edges(3, 6).tolist() == [0, 0, 1, 2, 2, 2, 2]  # 0.5 -> 0, 1.5 -> 2, 2.5 -> 2


@given(st.integers(193, 1000))
def test_the_released_rule_loses_the_last_row_of_long_videos(rows: int) -> None:
    values = np.zeros((rows, 1), np.float32)
    values[-1] = 1
    assert pooling.average_to_fixed_length(values, 128, "drop").sum() == 0
    assert pooling.average_to_fixed_length(values, 128, "keep").sum() > 0


@given(LENGTHS, st.integers(1, 130))
def test_masses_count_slots_or_rows(rows: int, length: int) -> None:
    assert pooling.sizes(rows, length, "slots").sum() == length
    masses = pooling.sizes(rows, length, "rows", "keep")
    used = len(set(pooling.edges(rows, length, "keep")[:-1].tolist())) if rows < length else rows
    assert masses.sum() == pytest.approx(used, rel=1e-5)
    assert (masses > 0).all()


@given(LENGTHS, st.integers(1, 130), KINDS)
def test_times_are_those_of_the_rows(rows: int, length: int, last_row: str) -> None:
    start = np.arange(rows) * 2.0
    first, last = pooling.times(start, start + 2, length, last_row)
    assert (first < last).all()
    assert (np.diff(first) >= 0).all()
    assert (np.diff(last) >= 0).all()
    assert first[0] == 0
    if last_row == "keep":
        assert last[-1] == 2 * rows


def test_constant_rows_stay_and_no_rows_are_refused() -> None:
    values = np.full((777, 4), 0.1, np.float32)
    np.testing.assert_allclose(pooling.average_to_fixed_length(values, 128), values[:128], rtol=1e-6)
    with pytest.raises(ValueError, match="no rows"):
        pooling.average_to_fixed_length(values[:0], 128)
