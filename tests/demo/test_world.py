"""The world's table: the same everywhere, whole, and as the demo promises it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from pipeline.config.inputs import Demo
from pipeline.demo import lessons
from pipeline.demo.captions import article
from pipeline.demo.scenes import FPS, Scene, VideoSpec
from pipeline.demo.vocabulary import COLOURS, MOTIONS, PLACES, SHAPES
from pipeline.demo.world import rows, world

WORLD = world(Demo())


def events(video: VideoSpec) -> list[Scene]:
    return [scene for scene in video.scenes if scene.subject]


def test_the_default_world_never_changes() -> None:
    """Anyone's demo is the same; when this must change, so do the numbers in README and docs."""
    digest = hashlib.sha256(json.dumps(rows(Demo()), sort_keys=True).encode()).hexdigest()
    assert digest[:16] == "990db05a8726741d"


def test_another_seed_is_another_world() -> None:
    small = {"train": 3, "val": 1, "test": 2}
    assert rows(Demo(seed=1, **small)) == rows(Demo(seed=1, **small)) != rows(Demo(seed=2, **small))


def test_counts_and_ids() -> None:
    assert Counter(video.split for video in WORLD) == {"train": 320, "val": 40, "test": 128}
    ids = [video.video_id for video in WORLD]
    queries = [query.query_id for video in WORLD for query in video.queries]
    assert len(set(ids)) == len(ids)
    assert len(set(queries)) == len(queries)
    assert all(3 <= len(video.queries) <= 6 for video in WORLD)
    assert all(19 < video.duration < 40 for video in WORLD)


def test_scenes_cover_the_video_and_spans_are_events() -> None:
    for video in WORLD:
        assert video.scenes[0].start == 0
        assert all(a.end == b.start for a, b in zip(video.scenes, video.scenes[1:], strict=False))
        spans = [(round(s.start / FPS, 3), round(s.end / FPS, 3)) for s in events(video)]
        assert [(query.start, query.end) for query in video.queries] == spans
        assert all(2.9 < query.end - query.start < 5.3 for query in video.queries)


def test_every_video_holds_irrelevant_stretches() -> None:
    """Any one query's event is less than half of the video, and nearly every video also has filler."""
    assert max((q.end - q.start) / v.duration for v in WORLD for q in v.queries) < 0.5
    assert sum(len(events(video)) < len(video.scenes) for video in WORLD) > 0.95 * len(WORLD)


def test_events_of_one_video_differ_in_meaning() -> None:
    for video in WORLD:
        assert len({scene.subject for scene in events(video)}) == len(events(video))
        assert len({scene.motion for scene in events(video)}) == len(events(video))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_no_event_happens_in_two_videos(split: str) -> None:
    seen = Counter((s.subject, s.motion, s.place) for v in WORLD if v.split == split for s in events(v))
    assert max(seen.values()) == 1


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_motion_queries_have_a_twin_that_moves_differently(split: str) -> None:
    homes: dict[tuple, str] = {}
    asked = defaultdict(list)
    for video in (v for v in WORLD if v.split == split):
        for scene, query in zip(events(video), video.queries, strict=True):
            homes[scene.subject, scene.motion, scene.place, scene.companion] = video.video_id
            asked[query.group].append((video.video_id, scene, query))
    for video_id, scene, query in asked["motion"]:
        twin = homes[scene.subject, MOTIONS[scene.motion].opposite, scene.place, scene.companion]
        assert twin != video_id
        assert any(phrase in query.query for pair in MOTIONS[scene.motion].phrases for phrase in pair), query
    total = sum(map(len, asked.values()))
    assert 0.25 * total < len(asked["motion"]) < 0.45 * total
    assert len(asked["place"]) > 0.2 * total


def test_captions_are_varied_and_say_what_they_must() -> None:
    captions = [query.query for video in WORLD for query in video.queries]
    assert len(set(captions)) > 0.93 * len(captions)
    for video in WORLD:
        for scene, query in zip(events(video), video.queries, strict=True):
            text = query.query.lower()
            assert any(word in text for word in COLOURS[scene.subject[0]][1])
            assert any(word in text for word in SHAPES[scene.subject[1]])
            if query.group == "place":
                assert any(where in text for where in PLACES[scene.place])


def test_opposites_share_one_pose() -> None:
    for name, motion in MOTIONS.items():
        other = MOTIONS[motion.opposite]
        assert other.opposite == name
        assert other.pose == motion.pose
        assert other.rate != motion.rate


def test_article() -> None:
    assert [article("orange star"), article("red star")] == ["an orange star", "a red star"]


def test_lessons_are_drawn_apart_from_every_world() -> None:
    """No random stream is shared, no look (texture, phase, size, noise) occurs in both, and held-out shots are not lessons."""
    taught = {scene.look for scene in lessons.shots("train", 0, 3000)}
    held_out = {scene.look for scene in lessons.shots("held-out", 0, 3000)}
    shown = {scene.look for seed in range(3) for video in world(Demo(seed=seed)) for scene in video.scenes}
    assert not taught & held_out
    assert not (taught | held_out) & shown
    assert min(taught | held_out) >= 2**31 > max(shown)


def test_the_table_needs_no_heavy_import(root: Path) -> None:
    """The workflow reads the table each time it is parsed."""
    code = "import sys; from pipeline.demo.world import rows; from pipeline.config.schema import Demo; rows(Demo()); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert not {"torch", "h5py", "av", "numpy", "pandas"} & set(done.stdout.split())
