"""world-1's tables: the same everywhere, and as hard as it promises."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import groupby

import pytest

from pipeline.config.inputs import Demo
from pipeline.config.reading import load
from pipeline.demo.scenes import FPS, VideoSpec
from pipeline.demo.vocabulary import MOTIONS
from pipeline.demo.world import relevant, world
from pipeline.jobs.dag import Dag
from pipeline.jobs.stages import STAGES
from tests.workflow.workspace import ROOT

SMALL = Demo(world="world-1", seed=1, train=40, val=10, test=30)
NOISY = SMALL.model_copy(update={"world": "world-1-noisy"})


def split(name: str, demo: Demo = SMALL) -> list[VideoSpec]:
    return [video for video in world(demo) if video.split == name]


def test_lengths_and_events() -> None:
    for video in world(SMALL):
        assert 8 <= len(video.queries) <= 20
        assert 115 <= video.duration <= 380  # more than 128 rows of a second, or nearly
        assert video.scenes[0].start == 0
        assert all(a.end == b.start for a, b in zip(video.scenes, video.scenes[1:], strict=False))
    shares = sorted((query.end - query.start) / video.duration for video in world(SMALL) for query in video.queries)
    assert shares[0] < 0.012
    assert 0.02 < shares[len(shares) // 2] < 0.05


def test_contexts_come_back() -> None:
    """A context looks the same whenever it is shown, and most videos show one again after another."""
    again = 0
    for video in world(SMALL):
        visits = [ground for ground, _ in groupby(scene.ground for scene in video.scenes)]
        assert 2 <= len(set(visits)) <= 5
        assert len({(scene.ground, scene.place) for scene in video.scenes}) == len(set(visits))
        again += len(visits) > len(set(visits))
    assert again > 0.9 * len(world(SMALL))


def test_every_caption_is_true_where_it_says() -> None:
    for video in world(SMALL):
        shown = {round(scene.start / FPS, 3): scene for scene in video.scenes}
        assert all(query.claim.holds(shown[query.start]) for query in video.queries)


@pytest.mark.parametrize("demo", [SMALL, NOISY], ids=["world-1", "noisy"])
@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_relevance_is_complete(demo: Demo, name: str) -> None:
    """Every scene of the split, captioned or not, asked about every caption: exactly these videos answer."""
    videos = split(name, demo)
    answers = relevant(demo)
    for query in (query for video in videos for query in video.queries):
        asked = [video.video_id for video in videos if any(query.claim.holds(scene) for scene in video.scenes)]
        assert list(answers[query.query_id]) == asked


def test_some_events_differ_in_motion_or_place_only() -> None:
    videos = split("test")
    seen = defaultdict(set)
    for video in videos:
        for scene in video.scenes:
            if scene.subject:
                seen[scene.subject, scene.motion, scene.companion].add((video.video_id, scene.place))
    groups = Counter(query.group for video in videos for query in video.queries)
    assert groups["motion"] > 0.15 * sum(groups.values())
    assert groups["place"] > 0.05 * sum(groups.values())
    for video in videos:
        shown = {round(scene.start / FPS, 3): scene for scene in video.scenes}
        for query in video.queries:
            scene = shown[query.start]
            others = {
                "motion": seen[scene.subject, MOTIONS[scene.motion].opposite, scene.companion],
                "place": seen[scene.subject, scene.motion, scene.companion],
            }.get(query.group, set())
            if query.group != "plain":
                assert any(other != video.video_id and (place == scene.place) == (query.group == "motion") for other, place in others)


def test_noise_is_where_it_is_stated() -> None:
    """About 15 % of the captions of train and val are true nowhere in their video; none of test's."""
    for name, low, high in (("train", 0.1, 0.2), ("val", 0.05, 0.25), ("test", 0.0, 0.0)):
        own = [video.video_id in relevant(NOISY)[query.query_id] for video in split(name, NOISY) for query in video.queries]
        assert low <= 1 - sum(own) / len(own) <= high


def test_splits_share_no_look() -> None:
    looks = Counter(scene.look for video in world(SMALL) for scene in video.scenes)
    assert max(looks.values()) == 1


def test_a_worlds_jobs_depend_on_its_own_generator_alone() -> None:
    """And the measures of its truth follow the job that makes it."""
    dags = [Dag.of(load(ROOT / name)) for name in ("config.yaml", "config/world.yaml")]
    assert [STAGES["world"].code(dag, {})[-1] for dag in dags] == ["pipeline.demo.demo_world", "pipeline.demo.world_1"]
    generated = dags[1]
    again = Dag.of(load(ROOT / "config/world.yaml"))
    again.once(("params", "world"), lambda: {"code": "edited"})
    of = {"experiment": "msc", "seed": "1"}
    assert generated.experiment("msc").evaluation.relevance == "generated"
    assert generated.trace("evaluate", **of) != again.trace("evaluate", **of)
