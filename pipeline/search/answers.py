"""What a search answers with: videos, the moments in them, what is known of each, and how far the best one stands out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from pipeline.core.layout import Layout
from pipeline.datasets import table
from pipeline.jobs import saved

UNUSUAL = 0.95  # share of unrelated sentences whose best video must score lower for an answer to pass as a match
CAPTIONS = 3  # shown of a video


@dataclass(frozen=True)
class Moment:
    """A stretch of a video: `start`, `end` in seconds, and the score of its best row."""

    start: float
    end: float
    score: float


@dataclass(frozen=True)
class Filter:
    """Which videos may answer: of a split, with a query of a group, `shortest` to `longest` seconds long. Empty names choose all."""

    split: str = ""
    group: str = ""
    shortest: float = 0.0
    longest: float = math.inf

    def __str__(self) -> str:
        named = [f"{what} {name!r}" for what, name in (("split", self.split), ("group", self.group)) if name]
        if self.longest < math.inf:
            named.append(f"{self.shortest:g} to {self.longest:g} seconds")
        elif self.shortest > 0:
            named.append(f"{self.shortest:g} seconds or more")
        return " and ".join(named)


EVERY = Filter()


@dataclass(frozen=True)
class Hit:
    """One answer.

    `score` is what ranks it; `moments`, best first, none where the rows carry no times; `best` the best instant in seconds (NaN unknown);
    `duration` s (NaN unknown); `paths` its files, `captions` the annotated sentences about it, `split` the one it belongs to, where known.
    """

    video_id: str
    score: float
    moments: tuple[Moment, ...] = ()
    best: float = math.nan
    paths: tuple[str, ...] = ()
    split: str = ""
    captions: tuple[str, ...] = ()
    duration: float = math.nan

    @property
    def start(self) -> float:
        """Start of the best moment in seconds, NaN unknown."""
        return self.moments[0].start if self.moments else math.nan

    @property
    def end(self) -> float:
        """End of the best moment in seconds, NaN unknown."""
        return self.moments[0].end if self.moments else math.nan


@dataclass(frozen=True)
class Answer:
    """The hits of one query, best first, and who answered.

    `standing` in [0, 1]: the share of queries `against` which it was judged whose best video scores lower. `first` of all `found` videos
    that could have answered is the first hit here. `learnt`: the model was trained on the videos of split `train`.
    """

    query: str
    model: str
    hits: tuple[Hit, ...]
    standing: float
    against: str = "unrelated sentences"
    first: int = 0
    found: int = 0
    learnt: bool = False

    @property
    def matches(self) -> bool:
        """Whether the best hit stands out from what a sentence about something else would get."""
        return bool(self.hits) and self.standing >= UNUSUAL

    def json(self) -> str:
        """The answer for programs; unknown numbers are null."""
        plain = {**asdict(self), "matches": self.matches, "hits": [_finite(asdict(hit)) for hit in self.hits]}
        return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def render(answer: Answer) -> str:
    """Lines for a terminal: of each hit rank, score, moments, split, file or id, a caption; last how far the best one stands out."""
    lines = []
    for rank, hit in enumerate(answer.hits, start=1):
        spans = [f"{clock(moment.start)} - {clock(moment.end)}" for moment in hit.moments]
        first = f"{spans[0]} (best {clock(hit.best)})" if spans else "time unknown"
        name = "; ".join(hit.paths) or hit.video_id
        lines.append(f"{rank:3}  {hit.score:.3f}  {first:32}  {f'[{hit.split}] ' if hit.split else ''}{name}")
        if len(spans) > 1:
            lines.append(f"            also {', '.join(' '.join(span.split()) for span in spans[1:])}")
        lines += [f'            "{caption}"' for caption in hit.captions[:1]]
    lines.append(verdict(answer))
    if answer.learnt and any(hit.split == "train" for hit in answer.hits):
        lines.append("[train]: the model has learnt from these videos; --split test leaves them out")
    return "\n".join(lines)


def verdict(answer: Answer) -> str:
    """One sentence: whether anything matches, and against what that was judged."""
    if not answer.hits:
        return "no video is left to search in"
    share = f"{answer.standing:.0%} of {answer.against} find nothing that scores as high"
    return f"{'the best answer stands out' if answer.matches else 'nothing matches well'}: {share} ({answer.model})"


def clock(seconds: float) -> str:
    """Minutes and seconds, hours where there are any."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes:2}:{rest:04.1f}"


@dataclass(frozen=True)
class Known:
    """What is known of the videos beside their features, by video id: files, split, groups, captions; empty where nothing is.

    Shapes: `spans` per caption [n, 2] s, what it is about, n = 0 unknown.
    """

    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    captions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spans: Mapping[str, tuple[np.ndarray, ...]] = field(default_factory=dict)

    @property
    def split_names(self) -> list[str]:
        """The splits there are."""
        return sorted(set(self.split.values()))

    @property
    def group_names(self) -> list[str]:
        """The groups there are."""
        return sorted({name for names in self.groups.values() for name in names if name})

    def of(self, hit: Hit) -> Hit:
        """The hit with what is known of its video; of its captions, those about the best instant first."""
        video = hit.video_id
        captions, spans = self.captions.get(video, ()), self.spans.get(video, ())
        about = {i for i, times in enumerate(spans) if np.any((times[:, 0] <= hit.best) & (hit.best <= times[:, 1]))}
        order = sorted(range(len(captions)), key=lambda i: i not in about)
        said = tuple(captions[i] for i in order[:CAPTIONS])
        return replace(hit, paths=self.paths.get(video, ()), split=self.split.get(video, ""), captions=said)

    def chosen(self, ids: Sequence[str], durations: np.ndarray, wanted: Filter) -> np.ndarray:
        """Which videos may answer; one of unknown length only where no length is asked for. Shapes: `durations` [V] s -> bool [V]."""
        named = [
            (not wanted.split or self.split.get(i) == wanted.split) and (not wanted.group or wanted.group in self.groups.get(i, ()))
            for i in ids
        ]
        if wanted.shortest <= 0 and math.isinf(wanted.longest):
            return np.array(named, dtype=bool)
        return np.array(named, dtype=bool) & (durations >= wanted.shortest) & (durations <= wanted.longest)


def known(layout: Layout) -> Known:
    """What the last run of the workflow knew of the videos. Errors: StoreError when the annotations are damaged."""
    paths = {}
    if layout.listing.exists():
        paths = {source.video_id: tuple(str(Path(path)) for path in source.paths) for source in saved.videos(layout.listing)}
    if not layout.annotations.exists():
        return Known(paths)
    rows = table.load(layout.annotations)
    by_video = rows.queries.groupby("video_id", sort=False)
    return Known(
        paths,
        dict(zip(rows.videos["video_id"], rows.videos["split"], strict=True)),
        {str(video): frozenset(map(str, values)) for video, values in by_video["group"]},
        {str(video): tuple(map(str, values)) for video, values in by_video["query"]},
        {str(video): tuple(rows.moments[query] for query in values) for video, values in by_video["query_id"]},
    )


def _finite(hit: dict[str, object]) -> dict[str, object]:
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in hit.items()}
