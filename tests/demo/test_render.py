"""Drawing and encoding: deterministic, and honest about what stills can show."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.config.inputs import Demo
from pipeline.config.schema import Config
from pipeline.core.layout import Layout
from pipeline.demo import render, stage
from pipeline.demo.places import texture
from pipeline.demo.scenes import FPS, Scene
from pipeline.demo.vocabulary import COLOURS, MOTIONS, PLACES, SHAPES
from pipeline.demo.world import rows, world

SMALL = Demo(train=2, val=1, test=2)
EVENT = Scene(0, 48, "snow", 5, ("blue", "cross"), "right", ("red", "ring"))


def test_drawing_is_deterministic() -> None:
    assert np.array_equal(render.draw(EVENT), render.draw(EVENT))
    assert not np.array_equal(render.draw(EVENT), render.draw(replace(EVENT, look=6)))


@pytest.mark.parametrize("shape", list(SHAPES))
def test_shapes_are_whole_and_of_their_colour(shape: str) -> None:
    for colour, (rgb, _) in COLOURS.items():
        scene = Scene(0, 1, "night", 11, (colour, shape), "spin_right")
        frame = render.draw(scene, grain=False)[0].astype(int)
        near = (np.abs(frame - np.asarray(rgb)).max(axis=2) < 12).mean()
        assert 0.02 < near < 0.25, (colour, near)


@pytest.mark.parametrize("place", list(PLACES))
def test_places_are_textured(place: str) -> None:
    canvas = texture(place, np.random.default_rng(0), 72, 160)
    assert canvas.shape == (72, 160, 3)
    assert canvas.min() > -80
    assert canvas.max() < 300
    assert canvas.std(axis=(0, 1)).max() > 4


def test_unknown_place() -> None:
    with pytest.raises(ValueError, match="moon"):
        texture("moon", np.random.default_rng(0), 8, 8)


@pytest.mark.parametrize("motion", ["right", "up", "spin_right", "grow", "orbit_right"])
def test_opposite_directions_are_the_same_frames_backwards(motion: str) -> None:
    """One set of poses, passed through the other way: no still can tell which of the two it is from."""
    scene = replace(EVENT, motion=motion)
    other = replace(scene, motion=MOTIONS[motion].opposite)
    one, two = render.look(scene), render.look(other)
    assert one.rate == pytest.approx(-two.rate)
    assert replace(one, rate=0) == replace(two, rate=0)
    phases = (one.phase + one.rate * np.arange(48) / FPS) % 1
    backwards = (phases[-1] + two.rate * np.arange(48) / FPS) % 1
    pose = render.POSES[MOTIONS[motion].pose]
    assert np.allclose(np.stack(pose(phases)), np.stack(pose(backwards[::-1])), atol=1e-6)


@pytest.mark.parametrize("motion", ["right", "up", "spin_right", "grow", "orbit_right", "blink_fast", "shake"])
def test_stills_of_opposite_motions_have_the_same_statistics(motion: str) -> None:
    """Over many events, the mean and the spread of every pixel agree between a motion and its opposite, within sampling error."""

    def stills(name: str, first: int) -> np.ndarray:
        looks = range(first, first + 150)
        scenes = [Scene(0, 3, "snow", look, ("blue", "box"), name) for look in looks]
        return np.stack([render.draw(scene, grain=False)[1, ::4, ::4].astype(np.float64) for scene in scenes])

    one, two, again = stills(motion, 0), stills(MOTIONS[motion].opposite, 1000), stills(motion, 2000)
    noise = np.abs(one.mean(0) - again.mean(0)).mean() + np.abs(one.std(0) - again.std(0)).mean()
    apart = np.abs(one.mean(0) - two.mean(0)).mean() + np.abs(one.std(0) - two.std(0)).mean()
    assert apart < 1.5 * noise


def test_neighbouring_stills_do_not_give_the_direction_away() -> None:
    """The phase step between stills a second apart is spread evenly around whole cycles for both directions (a wagon wheel on film)."""
    for motion in ("right", "left"):
        rates = np.array([render.look(Scene(0, 48, "sky", look, ("red", "box"), motion)).rate for look in range(400)])
        steps = (rates + 0.5) % 1 - 0.5
        assert abs(steps.mean()) < 0.03
        assert 0.2 < np.abs(steps).max() <= 0.25


def test_motion_is_visible_between_frames() -> None:
    frames = render.draw(replace(EVENT, motion="shake", place="sky"), grain=False).astype(int)
    filler = render.draw(Scene(0, 48, "sky", 5), grain=False).astype(int)
    assert np.abs(np.diff(frames, axis=0)).mean() > 3 * np.abs(np.diff(filler, axis=0)).mean()


def test_a_video_is_real_h264_and_carries_its_mark(tmp_path: Path) -> None:
    spec = world(SMALL)[0]
    files = [tmp_path / f"{i}.mp4" for i in range(3)]
    for file in files:
        render.video(spec, file)
    one, *others = files
    assert all(file.read_bytes() == one.read_bytes() for file in others)
    assert render.mark(one) == spec.fingerprint()
    with av.open(str(one)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
        assert stream.average_rate == FPS
    assert {int(frame.pict_type) for frame in frames} >= {1, 2, 3}, "I, P and B frames"
    assert len(frames) == spec.scenes[-1].end
    drawn = np.concatenate([render.draw(scene) for scene in spec.scenes])
    shown = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    assert np.abs(drawn.astype(int) - shown).mean() < 8


def test_mark_of_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    assert render.mark(tmp_path / "text.mp4") == render.mark(tmp_path / "absent.mp4") == ""


@pytest.fixture
def config() -> Config:
    return Config.model_validate(
        {
            "dataset": {"kind": "demo"},
            "demo": SMALL.model_dump(),
            "encoders": {"clip": {"kind": "open_clip"}},
            "features": ["clip"],
            "text": "clip",
        }
    )


def digests(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_stage_renders_what_is_missing_or_changed(config: Config, tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    stage.run(config, layout)
    first = digests(layout.world)
    assert set(first) == {"queries.csv", "relevance.txt", "world.json", *(f"videos/{spec.file}" for spec in world(SMALL))}
    times = {p: p.stat().st_mtime_ns for p in layout.world.rglob("*.mp4")}

    files = sorted(times)
    files[0].unlink()
    files[1].write_bytes(b"truncated")
    (layout.world / "videos" / "train" / "9999.mp4").write_bytes(b"of a larger world")
    stage.run(config, layout, workers=2)
    assert digests(layout.world) == first
    changed = {p for p in files if p.stat().st_mtime_ns != times[p]}
    assert changed == set(files[:2])


def test_stage_writes_the_table_the_own_reader_takes(config: Config, tmp_path: Path) -> None:
    from pipeline.datasets.own import read

    layout = Layout(tmp_path)
    stage.run(config, layout)
    dataset = config.dataset.model_copy(update={"videos": str(layout.world / "videos"), "annotations": str(layout.world / "queries.csv")})
    found = read(dataset)
    assert not found.missing
    assert [video.video_id for video in found.videos] == [spec.video_id for spec in world(SMALL)]
    assert [query.query_id for query in found.queries] == [row["query_id"] for row in rows(SMALL)]
