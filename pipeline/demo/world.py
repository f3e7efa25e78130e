"""A generated world as tables: its videos, what is said about them, and every video in which that is true. Draws nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from importlib import import_module

from pipeline.config.inputs import Demo
from pipeline.core.plugins import module_of
from pipeline.demo.scenes import VideoSpec

SPLITS = ("train", "val", "test")
# By name, so that one world's jobs do not depend on another one's code.
_MODULES = {"demo": "demo_world", "world-1": "world_1", "world-1-noisy": "world_1"}


def generator(demo: Demo) -> str:
    """The module that makes up the world's videos."""
    return module_of("demo", _MODULES[demo.world])


@lru_cache(maxsize=4)
def world(demo: Demo) -> tuple[VideoSpec, ...]:
    """Every video of the world the `demo` section describes, train, then val, then test; the same on every machine."""
    module = import_module(generator(demo))
    return tuple(video for split in SPLITS for video in module.videos(demo, split))


def rows(demo: Demo) -> list[dict[str, str | float]]:
    """The rows of `queries.csv`: path, query, split, start, end (s), query_id, group."""
    return [
        {
            "path": video.file,
            "query": q.query,
            "split": video.split,
            "start": q.start,
            "end": q.end,
            "query_id": q.query_id,
            "group": q.group,
        }
        for video in world(demo)
        for q in video.queries
    ]


@lru_cache(maxsize=4)
def relevant(demo: Demo) -> dict[str, tuple[str, ...]]:
    """Query id -> every video of its split with a scene of which its caption is true, in the order of the videos."""
    return {
        query: videos for split in SPLITS for query, videos in _true_of([video for video in world(demo) if video.split == split]).items()
    }


def _true_of(videos: Sequence[VideoSpec]) -> dict[str, tuple[str, ...]]:
    queries = [query for video in videos for query in video.queries]
    scenes = [(scene, video.video_id) for video in videos for scene in video.scenes if scene.subject]
    # one table for every set of parts that captions name: looked up instead of asking every scene about every claim
    answers: dict[tuple[str, ...], dict[tuple[object, ...], dict[str, None]]] = {}
    for named in {query.claim.named for query in queries}:
        table = answers.setdefault(named, defaultdict(dict))
        for scene, video in scenes:
            table[tuple(getattr(scene, part) for part in named)][video] = None
    return {
        query.query_id: tuple(answers[named].get(tuple(getattr(query.claim, part) for part in named), ()))
        for query in queries
        for named in (query.claim.named,)
    }


def qrels(demo: Demo) -> str:
    """The same as TREC judgements, `query 0 video 1` a line (ids of a world hold no white space)."""
    return "".join(f"{query} 0 {video} 1\n" for query, videos in relevant(demo).items() for video in videos)
