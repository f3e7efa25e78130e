"""world-1 is what others measured on: its tables and its frames, drawn again and decoded, are those of the committed table."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks import world_checksums as checksums
from pipeline.config.inputs import Demo
from pipeline.config.reading import load
from pipeline.core.layout import Layout
from pipeline.demo import render, stage
from pipeline.demo.scenes import Scene, VideoSpec
from tests.workflow.workspace import ROOT

ENTRIES = json.loads(checksums.TABLE.read_text())
WORLDS = {name: Demo(**entry["demo"]) for name, entry in ENTRIES.items()}
SHIPPED = load(ROOT / "config/world.yaml")


def short(spec: VideoSpec) -> VideoSpec:
    """The scenes of a video that are compared, as a video of their own."""
    scenes = checksums.looked_at(spec)
    ends = [*accumulate(scene.end - scene.start for scene in scenes)]
    moved = [replace(scene, start=end - scene.end + scene.start, end=end) for scene, end in zip(scenes, ends, strict=True)]
    return replace(spec, scenes=tuple(moved))


def as_kept(frames: checksums.Frames) -> dict[str, str]:
    """Frames as an entry of the table holds them."""
    return {str(number): checksums._text(values) for number, values in frames.items()}


def test_the_table_is_of_the_shipped_world_and_its_variant() -> None:
    variants = {name: SHIPPED.demo.model_copy(update={"world": name}) for name in ("world-1", "world-1-noisy")}
    assert variants == WORLDS
    assert {len(entry["frames"]) for entry in ENTRIES.values()} == {9}


@pytest.mark.parametrize("name", WORLDS)
def test_tables_never_change(name: str) -> None:
    """The benchmark's version: when a digest must change, its name does."""
    kept = {part: ENTRIES[name][part] for part in ("annotations", "relevance", "scenes")}
    assert checksums.tables(WORLDS[name]) == kept


@pytest.mark.parametrize("name", WORLDS)
def test_frames_drawn_again_are_those_of_the_table(name: str) -> None:
    for spec in checksums.sample(WORLDS[name]):
        kept = ENTRIES[name]["frames"][spec.video_id]
        assert checksums.apart(checksums.drawn(checksums.looked_at(spec)), kept) <= checksums.DRAWN, spec.video_id


def other_look(scene: Scene) -> Scene:
    return replace(scene, look=scene.look + 1)


def other_ground(scene: Scene) -> Scene:
    return replace(scene, ground=scene.ground + 1)


@pytest.mark.parametrize("change", [other_look, other_ground])
def test_other_frames_are_not(change) -> None:
    """By more than an encoder changes them."""
    for spec in checksums.sample(WORLDS["world-1"]):
        kept = ENTRIES["world-1"]["frames"][spec.video_id]
        assert checksums.apart(checksums.drawn(map(change, checksums.looked_at(spec))), kept) > checksums.DECODED, spec.video_id


def test_one_level_of_light_is_noticed() -> None:
    spec = checksums.sample(WORLDS["world-1"])[0]
    drawn = checksums.drawn(checksums.looked_at(spec))
    assert checksums.apart({number: values + 1 for number, values in drawn.items()}, as_kept(drawn)) > checksums.DRAWN
    assert checksums.apart(dict(list(drawn.items())[1:]), as_kept(drawn)) == float("inf")


def test_encoded_frames_are_near_and_the_same_by_any_number_of_threads_in_any_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two runs of the stage, one with the videos in reverse, and every file decoded by one thread and by several."""
    specs = [short(spec) for spec in checksums.sample(WORLDS["world-1"])]
    digests = []
    for workers, order in ((1, specs), (2, specs[::-1])):
        folder = Layout(tmp_path / str(workers))
        monkeypatch.setattr(stage, "world", lambda demo, order=order: order)
        stage.run(SHIPPED, folder, workers=workers)
        digests += [{spec.video_id: shown(folder.world / "videos" / spec.file, threads) for spec in specs} for threads in (1, 3)]
    assert digests[1:] == digests[:1] * 3
    for spec in specs:
        found = checksums.decoded(tmp_path / "1" / "world" / "videos" / spec.file, map(checksums.middle, spec.scenes))
        assert checksums.apart(found, as_kept(checksums.drawn(spec.scenes))) <= checksums.DECODED


def shown(path: Path, threads: int) -> str:
    """A digest of every frame of a file, decoded by so many threads."""
    digest = hashlib.sha256()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.thread_count = "AUTO", threads
        for frame in container.decode(stream):
            digest.update(np.ascontiguousarray(frame.to_ndarray(format="rgb24")))
    return digest.hexdigest()


def test_the_command_says_what_is_not_the_benchmark(tmp_path: Path) -> None:
    """A rendered video that is another one; and a world that is none."""
    demo = WORLDS["world-1"]
    wrong, *_ = checksums.sample(demo)
    lines, right = checksums.check(demo, tmp_path)
    assert right
    assert len(lines) == 3 + 9
    render.video(replace(wrong, scenes=tuple(map(other_look, wrong.scenes[:20]))), tmp_path / wrong.file)
    lines, right = checksums.check(demo, tmp_path)
    assert not right
    assert [line.split()[0] for line in lines if "NOT THE BENCHMARK" in line] == [wrong.video_id]
    assert not checksums.check(demo.model_copy(update={"seed": 2}), tmp_path)[1]
