"""The demo world as a table: which events happen when in which video, and what is said about them. Draws nothing."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from pipeline.config.inputs import Demo
from pipeline.demo.captions import pick, sentence
from pipeline.demo.vocabulary import COLOURS, MOTIONS, PLACES, SHAPES

FPS = 12
SPLITS = ("train", "val", "test")
Pair = tuple[str, str]


@dataclass(frozen=True)
class Scene:
    """A stretch of video: frames [start, end) at FPS. Without a subject it is filler. `look` seeds everything the words leave open."""

    start: int
    end: int
    place: str
    look: int
    subject: Pair | None = None
    motion: str | None = None
    companion: Pair | None = None


@dataclass(frozen=True)
class Query:
    """A caption of the event in seconds [start, end). `group`: `motion` when another video of the split differs in the motion only,
    `place` when in the place only, `plain` otherwise."""

    query_id: str
    query: str
    start: float
    end: float
    group: str


@dataclass(frozen=True)
class VideoSpec:
    """One untrimmed video: scenes that cover it without gaps, and its captions in temporal order."""

    video_id: str
    split: str
    scenes: tuple[Scene, ...]
    queries: tuple[Query, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.scenes[-1].end / FPS

    @property
    def file(self) -> str:
        """Path below the folder of videos."""
        return f"{self.video_id}.mp4"

    def fingerprint(self) -> str:
        """16 hex digits of everything that decides the file's content: this description and the code that draws it."""
        scenes = json.dumps([asdict(scene) for scene in self.scenes], sort_keys=True)
        return hashlib.sha256(f"{_renderer()}{scenes}".encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _renderer() -> str:
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in ("render.py", "places.py", "vocabulary.py"))).hexdigest()


@dataclass(frozen=True)
class _Event:
    subject: Pair
    motion: str
    place: str
    companion: Pair | None
    group: str

    @property
    def key(self) -> tuple[Pair, str, str]:
        return self.subject, self.motion, self.place


def _draw(rng: random.Random) -> _Event:
    subject = pick(rng, list(COLOURS)), pick(rng, list(SHAPES))
    companion = None
    if rng.random() < 0.3:
        companion = pick(rng, [c for c in COLOURS if c != subject[0]]), pick(rng, [s for s in SHAPES if s != subject[1]])
    return _Event(subject, pick(rng, list(MOTIONS)), pick(rng, list(PLACES)), companion, "plain")


def _family(rng: random.Random, room: int) -> list[_Event]:
    """One to three events of different videos that resemble each other."""
    first, kind = _draw(rng), rng.random()
    if kind < 0.28 and room > 1:
        first = _Event(first.subject, first.motion, first.place, first.companion, "motion")
        return [first, _Event(first.subject, MOTIONS[first.motion].opposite, first.place, first.companion, "motion")]
    if kind < 0.5 and room > 1:
        places = sorted(PLACES, key=lambda _: rng.random())[: 2 if rng.random() < 0.6 or room < 3 else 3]
        return [_Event(first.subject, first.motion, place, first.companion, "place") for place in places]
    return [first]


def _deal(rng: random.Random, videos: int) -> list[list[_Event]]:
    """The events of every video: families spread over videos, no event twice in a split, no subject or motion twice in a video."""
    capacity = [pick(rng, (3, 3, 4, 4, 4, 4, 5, 5, 5, 6)) for _ in range(videos)]
    dealt: list[list[_Event]] = [[] for _ in range(videos)]
    taken: set[tuple[Pair, str, str]] = set()
    while (room := sum(capacity) - sum(map(len, dealt))) > 0:
        family = _family(rng, room)
        if any(event.key in taken for event in family):
            continue
        homes: list[int] = []
        for event in family:
            free = [
                i
                for i in range(videos)
                if i not in homes
                and len(dealt[i]) < capacity[i]
                and all(event.subject != other.subject and event.motion != other.motion for other in dealt[i])
            ]
            if free:
                homes.append(max(free, key=lambda i: (capacity[i] - len(dealt[i])) + rng.random()))
        if len(homes) < len(family):
            continue
        for event, home in zip(family, homes, strict=True):
            dealt[home].append(event)
            taken.add(event.key)
    for events in dealt:
        events.sort(key=lambda _: rng.random())
    return dealt


def _caption(rng: random.Random, event: _Event) -> str:
    """Says what sets the event apart, and the rest by chance."""
    motion = event.motion if event.group == "motion" or rng.random() < 0.7 else None
    place = event.place if event.group == "place" or rng.random() < (0.6 if motion else 0.9) else None
    companion = event.companion if rng.random() < 0.8 else None
    return sentence(rng, *event.subject, motion=motion, place=place, companion=companion)


def _video(rng: random.Random, video_id: str, split: str, events: list[_Event]) -> VideoSpec:
    frames = [int(FPS * (3.0 + 2.2 * rng.random())) for _ in events]
    total = max(int(FPS * (20 + 6 * rng.random())), sum(frames) + 3 * FPS)
    cuts = sorted(int(rng.random() * (total - sum(frames))) for _ in events)
    scenes: list[Scene] = []
    queries: list[Query] = []

    def add(length: int, place: str, event: _Event | None = None) -> None:
        start, look = scenes[-1].end if scenes else 0, int(rng.random() * 2**31)
        described = (event.subject, event.motion, event.companion) if event else (None, None, None)
        scenes.append(Scene(start, start + length, place, look, *described))

    before = 0
    for event, length, cut in zip(events, frames, cuts, strict=True):
        if cut - before >= FPS // 2:
            add(cut - before, pick(rng, list(PLACES)))
            before = cut
        add(length, event.place, event)
        start, end = scenes[-1].start / FPS, scenes[-1].end / FPS
        queries.append(Query(f"{video_id}#{len(queries)}", _caption(rng, event), round(start, 3), round(end, 3), event.group))
    if total - sum(frames) - before >= FPS // 2:
        add(total - sum(frames) - before, pick(rng, list(PLACES)))
    return VideoSpec(video_id, split, tuple(scenes), tuple(queries))


@lru_cache(maxsize=4)
def world(demo: Demo) -> tuple[VideoSpec, ...]:
    """Every video of the world the `demo` section describes, train, then val, then test; the same on every machine."""
    videos: list[VideoSpec] = []
    for split in SPLITS:
        rng = random.Random(f"demo world/{demo.seed}/{split}")
        for i, events in enumerate(_deal(rng, getattr(demo, split))):
            videos.append(_video(rng, f"{split}/{i:04d}", split, events))
    return tuple(videos)


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
