"""world-1: videos of minutes, short events in contexts that come back, near-synonyms, stretches that almost match. Draws nothing.

Every random number is `random.Random.random()`, the only draw whose stream Python guarantees across versions.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from dataclasses import dataclass, replace

from pipeline.config.inputs import Demo
from pipeline.demo.captions import pick, say
from pipeline.demo.scenes import FPS, Claim, Pair, Query, Scene, VideoSpec
from pipeline.demo.vocabulary import COLOURS, MOTIONS, PLACES, SHAPES


@dataclass(frozen=True)
class Variant:
    """What the variants differ in: `seconds` of a video, uniform between; the share of captions that are `vague` (motion or place and the
    companion left out, so that several videos answer); the share outside test that is `wrong` (true nowhere in its video)."""

    seconds: tuple[float, float] = (120, 360)
    vague: float = 0.08
    wrong: float = 0.0


VARIANTS = {"world-1": Variant(), "world-1-noisy": Variant(seconds=(150, 420), vague=0.3, wrong=0.15)}


@dataclass(frozen=True)
class _Event:
    subject: Pair
    motion: str
    companion: Pair | None = None
    group: str = "plain"
    captioned: bool = True


@dataclass
class _Draft:
    """A video in the making: contexts (place, ground), and per context the events that happen in it."""

    contexts: list[tuple[str, int]]
    free: list[int]  # the context of every event still to be drawn
    events: list[list[_Event]]

    def room(self, place: str) -> int | None:
        """Position in `free` of a slot at a place."""
        return next((i for i, context in enumerate(self.free) if self.contexts[context][0] == place), None)

    def holds(self, event: _Event) -> bool:
        """Whether the same subject already moves the same way."""
        return any((event.subject, event.motion) == (other.subject, other.motion) for events in self.events for other in events)

    def put(self, slot: int, event: _Event) -> None:
        self.events[self.free.pop(slot)].append(event)


def videos(demo: Demo, split: str) -> list[VideoSpec]:
    """The videos of a split."""
    variant, rng = VARIANTS[demo.world], random.Random(f"{demo.world}/{demo.seed}/{split}")
    drafts = [_draft(rng) for _ in range(getattr(demo, split))]
    _deal(rng, drafts)
    _almost(rng, drafts)
    return [_video(rng, f"{split}/{i:04d}", split, draft, variant) for i, draft in enumerate(drafts)]


def _draft(rng: random.Random) -> _Draft:
    """Two to five contexts of different places, and eight to twenty events spread over them."""
    places = sorted(PLACES, key=lambda _: rng.random())[: pick(rng, (2, 3, 3, 4, 4, 5))]
    contexts = [(place, int(rng.random() * 2**31)) for place in places]
    count = 8 + int(13 * rng.random())
    slots = [*range(len(contexts)), *(int(rng.random() * len(contexts)) for _ in range(count - len(contexts)))]
    return _Draft(contexts, sorted(slots, key=lambda _: rng.random()), [[] for _ in contexts])


def _subject(rng: random.Random) -> Pair:
    return pick(rng, list(COLOURS)), pick(rng, list(SHAPES))


def _deal(rng: random.Random, drafts: list[_Draft]) -> None:
    """Fill every slot; three events in ten have a twin in another video that differs in its motion, one in seven one elsewhere."""
    for draft in sorted(drafts, key=lambda _: rng.random()):
        while draft.free:
            place = draft.contexts[draft.free[0]][0]
            companion = None
            subject = _subject(rng)
            if rng.random() < 0.35:
                companion = pick(rng, [c for c in COLOURS if c != subject[0]]), pick(rng, [s for s in SHAPES if s != subject[1]])
            event = _Event(subject, pick(rng, list(MOTIONS)), companion)
            if draft.holds(event):
                continue
            kind = rng.random()
            if kind < 0.2 and _twin(rng, drafts, draft, replace(event, motion=MOTIONS[event.motion].opposite, group="motion"), (place,)):
                event = replace(event, group="motion")
            elif 0.2 <= kind < 0.3 and _twin(rng, drafts, draft, replace(event, group="place"), [p for p in PLACES if p != place]):
                event = replace(event, group="place")
            draft.put(0, event)


def _twin(rng: random.Random, drafts: list[_Draft], own: _Draft, event: _Event, places: list[str] | tuple[str, ...]) -> bool:
    """Put a twin into another video that has room at one of the places. False when forty tries find none."""
    for _ in range(40):
        other = pick(rng, drafts)
        slot = other.room(pick(rng, places))
        if other is not own and slot is not None and not other.holds(event):
            other.put(slot, event)
            return True
    return False


def _almost(rng: random.Random, drafts: list[_Draft]) -> None:
    """Three to six stretches a video without a caption that show another video's event but for one thing."""
    told = [event for draft in drafts for events in draft.events for event in events]
    for draft in drafts:
        for _ in range(3 + int(4 * rng.random())):
            event = replace(pick(rng, told), captioned=False)
            what = pick(rng, ("colour", "shape", "motion"))
            if what == "motion":
                event = replace(event, motion=MOTIONS[event.motion].opposite)
            else:
                colour, shape = event.subject
                other = (pick(rng, [c for c in COLOURS if c != colour]), shape) if what == "colour" else (colour, pick(rng, list(SHAPES)))
                event = replace(event, subject=other)
            if not draft.holds(event):
                draft.events[int(rng.random() * len(draft.contexts))].append(event)


def _visits(rng: random.Random, draft: _Draft) -> list[tuple[int, list[_Event]]]:
    """The order in which the contexts are shown, and the events of each visit: every context one to three times, never twice in a row."""
    visits: list[tuple[int, list[_Event]]] = []
    for context, events in enumerate(draft.events):
        shown = sorted(events, key=lambda _: rng.random())
        parts = max(1, min(len(shown), 1 + int(3 * rng.random())))
        visits += [(context, shown[i::parts]) for i in range(parts)]
    order: list[tuple[int, list[_Event]]] = []
    while visits:
        last = order[-1][0] if order else None
        # the context with most visits left goes first among the allowed, so that none is left to follow itself
        left: dict[int, int] = defaultdict(int)
        for context, _ in visits:
            left[context] += 1
        allowed = [visit for visit in visits if visit[0] != last] or visits
        most = max(left[context] for context, _ in allowed)
        chosen = pick(rng, [visit for visit in allowed if left[visit[0]] == most or rng.random() < 0.3] or allowed)
        visits.remove(chosen)
        order.append(chosen)
    return order


def _video(rng: random.Random, video_id: str, split: str, draft: _Draft, variant: Variant) -> VideoSpec:
    visits = _visits(rng, draft)
    # from 2.5 s on, most of them short: log-uniform
    lengths = [[int(FPS * 2.5 * math.exp(rng.random() * math.log(10 if e.captioned else 3))) for e in events] for _, events in visits]
    shown = sum(map(sum, lengths))
    total = max(int(FPS * (variant.seconds[0] + (variant.seconds[1] - variant.seconds[0]) * rng.random())), int(1.3 * shown))
    # a gap before and after every event; the square makes some stretches long and most short
    weights = [[rng.random() ** 2 + 0.02 for _ in range(len(events) + 1)] for _, events in visits]
    unit = (total - shown) / sum(map(sum, weights))
    scenes: list[Scene] = []
    queries: list[Query] = []
    for (context, events), durations, gaps in zip(visits, lengths, weights, strict=True):
        place, ground = draft.contexts[context]

        def add(frames: int, event: _Event | None = None, place: str = place, ground: int = ground) -> None:
            start, look = scenes[-1].end if scenes else 0, int(rng.random() * 2**31)
            scene = Scene(start, start + frames, place, look, ground=ground)
            if event:
                scene = replace(scene, subject=event.subject, motion=event.motion, companion=event.companion)
            if frames >= FPS // 2:
                scenes.append(scene)

        add(int(unit * gaps[0]))
        for event, frames, gap in zip(events, durations, gaps[1:], strict=True):
            add(frames, event)
            if event.captioned:
                queries.append(_query(rng, f"{video_id}#{len(queries)}", scenes[-1], event.group))
            add(int(unit * gap))
    spec = VideoSpec(video_id, split, tuple(scenes), tuple(queries))
    return replace(spec, queries=tuple(_told(rng, query, spec, variant) for query in spec.queries))


def _query(rng: random.Random, query_id: str, scene: Scene, group: str) -> Query:
    """A query that claims all its scene shows; its words come later."""
    assert scene.subject is not None
    claim = Claim(scene.subject, scene.motion, scene.place, scene.companion if rng.random() < 0.8 else None)
    return Query(query_id, "", round(scene.start / FPS, 3), round(scene.end / FPS, 3), group, claim)


def _told(rng: random.Random, query: Query, video: VideoSpec, variant: Variant) -> Query:
    """The query in words. A share of the captions is vague, and outside test a share tells what its video never shows."""
    vague, wrong = rng.random() < variant.vague, video.split != "test" and rng.random() < variant.wrong
    claim = query.claim
    if vague:
        motion, place = (None, claim.place) if pick(rng, ("motion", "place")) == "motion" else (claim.motion, None)
        claim = Claim(claim.subject, motion, place)
    while wrong and any(claim.holds(scene) for scene in video.scenes):
        claim = replace(claim, subject=_subject(rng))
    return replace(query, query=say(rng, claim), claim=claim)
