"""The joined video of benchmarks/long_videos.py: its frames follow one another without a gap, and its parts begin where it says."""

from __future__ import annotations

import csv
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks import long_videos
from pipeline.demo.render import encode
from pipeline.demo.scenes import FPS
from pipeline.demo.world import world


def coloured(path: Path, level: int, frames: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode(path, (np.full((72, 96, 3), level, np.uint8) for _ in range(frames)))
    return path


def test_parts_follow_one_another_where_it_says(tmp_path: Path) -> None:
    levels = (20, 120, 220)
    parts = [coloured(tmp_path / f"{level}.mp4", level, frames) for level, frames in zip(levels, (30, 50, 41), strict=True)]
    begins = long_videos.join(parts, 200 / FPS / 3600, tmp_path / "long.mp4")
    assert [round(begin * FPS) for begin in begins] == [0, 30, 80, 121, 151]
    with av.open(str(tmp_path / "long.mp4")) as container:
        stream = container.streams.video[0]
        frames = [(float(frame.pts * stream.time_base), frame.to_ndarray(format="gray").mean()) for frame in container.decode(stream)]
    assert [time * FPS for time, _ in frames] == pytest.approx(range(201))
    owner = [sum(time >= begin - 1e-6 for begin in begins) - 1 for time, _ in frames]
    assert [seen for _, seen in frames] == pytest.approx([levels[i % 3] for i in owner], abs=6)


def test_captions_of_the_long_videos_have_their_new_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_videos, "ASKED", 10**6)
    rendered = tmp_path / "rendered"
    for spec in world(long_videos.DEMO):
        coloured(rendered / spec.file, 100, 24)
    told = long_videos.lay_out(tmp_path / "laid", 8 / 3600, rendered)
    with (tmp_path / "laid" / "queries.csv").open() as file:
        rows = list(csv.DictReader(file))
    for number, name, split, first in zip(told, ("learnt.mp4", "long.mp4"), ("train", "test"), (0, 1), strict=True):
        of = [spec for spec in world(long_videos.DEMO) if spec.split == split][first : first + 4]  # four parts of two seconds
        found = [(row["query"], pytest.approx(float(row["start"])), row["split"]) for row in rows if row["path"] == name]
        assert number == len(found)
        assert found == [(query.query, 2.0 * i + query.start, split) for i, spec in enumerate(of) for query in spec.queries]
