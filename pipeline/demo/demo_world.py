"""The demo's world: short videos of three to six events, families of events that resemble each other. Draws nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pipeline.config.inputs import Demo
from pipeline.demo.captions import pick, say
from pipeline.demo.scenes import FPS, Claim, Pair, Query, Scene, VideoSpec
from pipeline.demo.vocabulary import COLOURS, MOTIONS, PLACES, SHAPES


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


def _claim(rng: random.Random, event: _Event) -> Claim:
    """Says what sets the event apart, and the rest by chance."""
    motion = event.motion if event.group == "motion" or rng.random() < 0.7 else None
    place = event.place if event.group == "place" or rng.random() < (0.6 if motion else 0.9) else None
    companion = event.companion if rng.random() < 0.8 else None
    return Claim(event.subject, motion, place, companion)


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
        claim = _claim(rng, event)
        queries.append(Query(f"{video_id}#{len(queries)}", say(rng, claim), round(start, 3), round(end, 3), event.group, claim))
    if total - sum(frames) - before >= FPS // 2:
        add(total - sum(frames) - before, pick(rng, list(PLACES)))
    return VideoSpec(video_id, split, tuple(scenes), tuple(queries))


def videos(demo: Demo, split: str) -> list[VideoSpec]:
    """The videos of a split."""
    rng = random.Random(f"demo world/{demo.seed}/{split}")
    return [_video(rng, f"{split}/{i:04d}", split, events) for i, events in enumerate(_deal(rng, getattr(demo, split)))]
