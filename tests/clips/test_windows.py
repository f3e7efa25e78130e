"""Long videos in windows: every row is shown, by windows of one length that overlap by half."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clips.recipe import recipe_name
from pipeline.clips.windows import windows
from pipeline.core.layout import Layout
from pipeline.core.store import open_store

from .test_stage import _config, _features, _run


@given(rows=st.integers(1, 400), every=st.floats(0.2, 30), seconds=st.floats(1, 500), begins=st.sampled_from([0.0, 3.7]))
def test_every_row_is_shown_and_windows_overlap(rows: int, every: float, seconds: float, begins: float) -> None:
    start = begins + np.arange(rows) * every
    end = start + every
    found = windows(start, end, seconds)
    assert found[0].start == 0
    assert found[-1].stop == rows
    assert all(part.stop > part.start for part in found)
    for before, after in itertools.pairwise(found):
        assert before.start <= after.start <= before.stop
        assert before.stop <= after.stop
    length = end[-1] - start[0]
    if length <= seconds:
        assert found == [slice(0, rows)]
    else:
        assert len(found) == pytest.approx(2 * length / seconds - 1, abs=1.01)
        for part in found:
            assert end[part][-1] - start[part][0] <= seconds + max(every, 1e-6) * 1.01


def test_ten_hours_in_five_minutes() -> None:
    start = np.arange(36_000, dtype=np.float32)
    found = windows(start, start + 1, 300.0)
    assert len(found) == 239
    assert {part.stop - part.start for part in found} <= {299, 300, 301}
    shown = np.zeros(36_000, int)
    for part in found:
        shown[part] += 1
    assert set(shown[150:-150]) <= {1, 2, 3}
    assert (shown == 2).mean() > 0.95


def test_rows_without_times_are_one_window() -> None:
    unknown = np.full(50, np.nan)
    assert windows(unknown, unknown, 10.0) == [slice(0, 50)]
    with pytest.raises(ValueError, match="no rows"):
        windows(unknown[:0], unknown[:0], 10.0)


def test_a_window_holds_what_a_video_of_its_rows_alone_would(tmp_path: Path) -> None:
    """Of the two encoders, side by side; a short video is what it was without windows."""
    layout = Layout(tmp_path / "long")
    for name, dim in (("clip", 8), ("motion", 4)):
        _features(layout, name, dim, {"film": 900, "short": 40})
    path = _run(layout, clips={"window": 400.0, "dtype": "float32"})
    whole = _run(layout, clips={"dtype": "float32"})
    with open_store(path, stage="clips") as store, open_store(whole, stage="clips") as plain:
        table = store.table("videos")
        assert list(table["video_id"]) == ["film"] * 8 + ["short"]
        assert set(table["duration"]) == {1800.0, 80.0}
        np.testing.assert_allclose(table["start"][:8], np.arange(8) * 200, atol=2)
        np.testing.assert_allclose(table["end"] - table["start"], [400] * 8 + [80], atol=2)
        assert "start" not in plain.table("videos")
        for name in ("frames", "clips", "sizes", "frame_to_clip", "context", "start", "end"):
            np.testing.assert_array_equal(store.array(name)[-1], plain.array(name)[-1])
        third = store.array("frames")[2], store.array("clips")[2], store.array("frame_to_clip")[2]
    alone = Layout(tmp_path / "alone")
    with_rows = {}
    for name, dim in (("clip", 8), ("motion", 4)):
        with open_store(layout.features(name, "000")) as store:
            with_rows[name] = store.ragged("features")["film"][200:400]
        _features(alone, name, dim, {"film": 200})
        _overwrite(alone, name, with_rows[name])
    with open_store(_run(alone, clips={"dtype": "float32"}), stage="clips") as store:
        for mine, theirs in zip(third, ("frames", "clips", "frame_to_clip"), strict=True):
            np.testing.assert_array_equal(mine, store.array(theirs)[0])


def _overwrite(layout: Layout, encoder: str, rows: np.ndarray) -> None:
    from pipeline.core.store import create

    with create(layout.features(encoder, "000"), stage="features", recipe={}, dim=rows.shape[1]) as writer:
        start = np.arange(len(rows)) * 2.0
        writer.append("features", "film", rows, {"start": start, "end": start + 2}, {"duration": 400.0, "key": "k"})


def test_without_windows_the_folder_keeps_its_name() -> None:
    plain, windowed = (recipe_name(_config(clips=clips).experiment("main")) for clips in ({}, {"window": 300}))
    assert plain == recipe_name(_config(clips={"window": None}).experiment("main"))
    assert "window300s" in windowed
    assert "window" not in plain
