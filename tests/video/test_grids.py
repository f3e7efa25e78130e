"""Rows, instants and shown frames: properties that hold for every video and stream."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.streams import Stream
from pipeline.video import grids

durations = st.floats(0.001, 8000)
periods = st.sampled_from([0.2, 1 / 3, 0.3333, 0.5, 1.0, 1.5, 2.0, 5.0])
stills = st.builds(Stream, periods, st.sampled_from(["middle", "start"]), st.just(64))
windows = st.builds(
    Stream, periods, st.just("window"), st.just(64), st.integers(2, 32), st.sampled_from([8.0, 25.0, 30.0]), st.integers(1, 4)
)


@given(durations, periods)
def test_rows_tile_the_video(duration: float, every: float) -> None:
    start, end = grids.rows(duration, every)
    assert len(start) == max(1, round(duration / every))
    assert start[0] == 0
    np.testing.assert_allclose(start[1:], end[:-1], rtol=1e-12)
    assert (end > start).all()
    assert end[-1] <= duration
    assert duration - end[-1] <= every / 2 + 1e-9


@given(st.one_of(stills, windows), durations)
def test_instants_lie_in_their_rows_in_order(stream: Stream, duration: float) -> None:
    start, end = grids.rows(duration, stream.every)
    wanted = grids.instants(stream, duration)
    assert wanted.shape == (len(start), stream.count)
    assert (wanted >= start[:, None]).all()
    assert (wanted < end[:, None] + 1e-5).all()
    assert (np.diff(wanted.reshape(-1)) >= -1e-6).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.lists(st.floats(-1, 60), min_size=1, max_size=50))
def test_the_shown_frame_is_the_last_begun(gaps: list[float], times: list[float]) -> None:
    stamps = np.cumsum(gaps) - gaps[0]
    for time, index in zip(times, grids.shown(stamps, np.asarray(times), 0.0), strict=True):
        begun = [i for i, stamp in enumerate(stamps) if stamp <= time]
        assert index == (begun[-1] if begun else 0)


def test_slowfast_window_as_published() -> None:
    wanted = grids.instants(Stream(2.0, "window", 224, 32, 30.0, 2), 10.0)
    frames = grids.shown(np.arange(300) / 30, wanted, 1e-6)
    assert frames[1].tolist() == [*range(60, 120, 2), 118, 118]  # 32 of the window's 60, the last repeated past the end


def test_field_feature_k_is_the_middle_of_its_two_seconds() -> None:
    assert grids.instants(Stream(2.0, "middle", 224), 18.1).reshape(-1).tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 17]


@pytest.mark.parametrize(("tick", "late"), [(1e-3, 5e-4), (1 / 90000, 1 / 180000), (1 / 25, 0.0)])
def test_rounded_stamps_are_forgiven_half_a_tick(tick: float, late: float) -> None:
    assert grids.tolerance(tick) == pytest.approx(late, abs=1e-8)


@given(st.integers(1, 4000), st.integers(1, 4000), st.sampled_from([1, 64, 112, 224]))
def test_geometry_is_torchvisions(width: int, height: int, size: int) -> None:
    from torchvision.transforms.functional import _compute_resized_output_size  # the rounding itself, no public name

    assert list(grids.scaled(width, height, size))[::-1] == list(_compute_resized_output_size((height, width), [size]))
    left, top = grids.centre(*grids.scaled(width, height, size), size)
    assert left >= 0
    assert top >= 0
