"""Best frame against the moment, ratios with overlapping moments, and moment windows."""

import numpy as np
import pytest
import torch

from pipeline.evaluation import moments, report

OFFSETS = np.array([0, 2, 2, 3, 6])
VALUES = np.array([[10.0, 20.0], [15.0, 30.0], [0.0, 5.0], [8.0, 9.0], [0.0, 2.0], [1.0, 1.5]])


def test_inside_any_moment() -> None:
    assert moments.inside(np.array([29.0, 1.0, 5.1, 1.7]), OFFSETS, VALUES).tolist() == [True, False, False, True]
    assert moments.inside(np.array([9.9, 1.0, 5.0, 3.0]), OFFSETS, VALUES).tolist() == [False, False, True, False]


def test_coverage_counts_overlaps_once() -> None:
    assert moments.coverage(OFFSETS, VALUES).tolist() == pytest.approx([20.0, 0.0, 5.0, 3.0])
    assert moments.coverage(np.array([0, 0]), np.zeros((0, 2))).tolist() == [0.0]


def test_ratios_are_unknown_without_moments_or_duration() -> None:
    found = moments.ratios(OFFSETS, VALUES, np.array([40.0, 40.0, np.nan, 2.0]))
    np.testing.assert_array_equal(found, [0.5, np.nan, np.nan, 1.0])


def test_summary_gives_rate_and_chance_over_known_queries() -> None:
    ratio = moments.ratios(OFFSETS, VALUES, np.array([40.0, 40.0, 50.0, 30.0]))
    found = moments.summary(np.array([12.0, 1.0, 40.0, np.nan]), OFFSETS, VALUES, ratio)
    assert found == {"inside": 50.0, "chance": pytest.approx(30.0), "queries": 2}
    assert moments.summary(np.zeros(1), np.array([0, 0]), np.zeros((0, 2)), np.array([np.nan])) is None


def test_moments_are_cut_to_their_video_and_left_out_after_its_end() -> None:
    """Milliseconds or frame numbers for seconds; a moment that merely ends late; an end that a rounding puts behind the file's."""
    offsets = np.array([0, 1, 2, 4, 5, 6])
    values = np.array([[1000.0, 2000.0], [2.0, 900.0], [0.0, 1.0], [3.5, 4.0], [1000.0, 2000.0], [3.0 + 1e-12, 3.0 + 1e-12]])
    durations = np.array([3.0, 3.0, 3.0, np.nan, 3.0])
    kept, cut, lost = moments.within(offsets, values, durations)
    assert kept.tolist() == [0, 0, 1, 2, 3, 4]
    assert cut.tolist() == [[2.0, 3.0], [0.0, 1.0], [1000.0, 2000.0], [3.0, 3.0]]
    assert lost.tolist() == [True, False, True, False, False]
    ratio = moments.ratios(kept, cut, durations)
    np.testing.assert_allclose(ratio, [np.nan, 1 / 3, 1 / 3, np.nan, 0.0])
    none = moments.within(np.array([0, 0]), np.zeros((0, 2)), np.array([3.0]))
    assert [part.tolist() for part in none] == [[0, 0], [], [False]]


def test_recalls_by_ratio_leave_out_empty_ranges_and_unknown_ratios() -> None:
    found = report.by_ratio(torch.tensor([1, 3, 1, 200]), np.array([0.05, 0.1, np.nan, 0.7]))
    assert [(row["up_to"], row["queries"], row["R@1"]) for row in found] == [(0.1, 2, 50.0), (1.0, 1, 0.0)]


def test_windows_are_runs_around_the_peaks_best_first() -> None:
    similarity = np.array([[0.0, 0.9, 0.1, 0.8, 1.0, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2, 0.2], [1.0, 0.0, 0.0, 0.0, 0.0, 0.9]])
    start = np.tile(np.arange(6) * 2.0, (3, 1))
    found = moments.windows(similarity, start, start + 2)
    assert found[0] == [[6.0, 10.0, 1.0], [2.0, 4.0, 0.9]]
    assert found[1] == [[0.0, 12.0, pytest.approx(0.2)]]
    assert found[2] == [[0.0, 2.0, 1.0], [10.0, 12.0, 0.9]]
    assert all(len(rows) == 1 for rows in moments.windows(similarity, start, start + 2, limit=1))


def test_the_first_window_holds_the_best_row() -> None:
    random = np.random.default_rng(0)
    similarity, start = random.standard_normal((50, 128)), np.tile(np.arange(128.0), (50, 1))
    for row, found in zip(similarity.argmax(1), moments.windows(similarity, start, start + 1), strict=True):
        assert found[0][0] <= row < found[0][1]


def test_a_still_video_is_one_moment() -> None:
    values = np.random.default_rng(0).random(200, dtype=np.float32)
    similarity = np.repeat(values[:, None], 128, axis=1)
    assert (similarity.mean(1) > values).any(), "rounding puts no mean above its equal values: the case is not there"
    start = np.tile(np.arange(128.0), (200, 1))
    assert moments.windows(similarity, start, start + 1) == [[[0.0, 128.0, pytest.approx(float(v))]] for v in values]


def test_rows_a_short_video_repeats_are_one_moment() -> None:
    start = np.array([[0.0, 0.0, 0.0, 2.0, 2.0, 4.0, 4.0, 4.0]])
    similarity = np.array([[0.9, 0.0, 0.8, 0.1, 0.0, 0.0, 1.0, 0.2]])
    assert moments.windows(similarity, start, start + 2) == [[[4.0, 6.0, 1.0], [0.0, 2.0, 0.9]]]
    unknown = np.full_like(start, np.nan)
    assert len(moments.windows(similarity, unknown, unknown)[0]) == 3


def test_padding_changes_no_window() -> None:
    similarity = np.random.default_rng(0).normal(size=(7, 9)).astype(np.float32)
    start = np.tile(np.arange(9.0, dtype=np.float32), (7, 1))
    expected = moments.windows(similarity, start, start + 1)
    padding = np.full((7, 4), 9.0, np.float32)
    padded = np.concatenate([similarity, np.full((7, 4), -np.inf, np.float32)], axis=1)
    assert moments.windows(padded, np.concatenate([start, padding], 1), np.concatenate([start + 1, padding], 1)) == expected


def test_saliency_reads_the_row_showing_at_the_middle_of_each_cell() -> None:
    assert moments.saliency(np.array([0.1, 0.2, 0.3]), np.array([0.0, 3.0, 6.0]), 9.0) == [0.1, 0.2, 0.2, 0.3]
