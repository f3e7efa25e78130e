"""Who finds the videos worth scoring: the one protocol behind search, and the exact engine.

A query is one vector a branch, a video many tokens; its score is its best token in each branch, fused. An engine that approximates
(`Nearest`) only says which videos to look at: those are then scored from their own tokens (tokens.py), so that the score of every answer is
exact whoever found it, and an answer can only be missed, never wrong. How often that happens is measured: benchmarks/results/search.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.search.tokens import Query, Tokens

WIDER = 20  # videos looked at for one that is asked for
LEAST = 200  # and no fewer than that
FEW = 500  # so many videos, or a twentieth of all, are all scored: sooner done than asking an engine
CLOSE = 1e-4  # products in one block and by themselves differ by less


class Found(NamedTuple):
    """The answer to a query, best first, ties in the order of the videos. Shapes: `videos` int64 [k], `scores` float32 [k]."""

    videos: np.ndarray
    scores: np.ndarray


class Changes(NamedTuple):
    """The videos whose tokens were added and removed, by id; a changed video is among both."""

    added: tuple[str, ...]
    removed: tuple[str, ...]


class Nearest(Protocol):
    """Tokens that can be added, removed and asked for the nearest. Several threads may ask at once; one changes."""

    name: str

    def known(self) -> Mapping[str, str]:
        """The digest of every video whose tokens are in it, by id."""

    def add(self, videos: Sequence[tuple[str, str, Mapping[str, np.ndarray]]]) -> None:
        """Add videos: id, digest, and of each branch the tokens, float32 [L, H], of which products with a unit query are compared."""

    def remove(self, videos: Sequence[str]) -> None:
        """Remove all tokens of some videos."""

    def keep(self) -> None:
        """Put what changed where it is found again."""

    def near(self, query: Query, count: int, among: Sequence[str] | None) -> list[str]:
        """About `count` videos whose tokens are near the query in some branch, of those in `among`."""


class Index:
    """Answers queries about some tokens. Errors of every question: StoreDamaged."""

    name: str

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens

    def search(self, query: Query, k: int, among: np.ndarray | None = None) -> Found:
        """The k best of the videos `among` (all, where None). Shapes: `among` int64 [n], rising."""
        chosen = np.arange(len(self.tokens.ids)) if among is None else np.asarray(among)
        if not len(chosen) or k < 1:
            return Found(np.empty(0, np.int64), np.empty(0, np.float32))
        looked_at = chosen if self._few(chosen, k) else self.candidates(query, k, None if among is None else chosen)
        scores = self.tokens.scores(query, looked_at.tolist())
        best = np.argsort(-scores, kind="stable")[:k]
        return Found(looked_at[best], scores[best])

    def candidates(self, query: Query, k: int, among: np.ndarray | None) -> np.ndarray:
        """The numbers of the videos to score, rising. Shapes: int64 [n], n >= min(k, number of videos)."""
        raise NotImplementedError

    def _few(self, chosen: np.ndarray, k: int) -> bool:
        return len(chosen) <= max(k, min(FEW, len(self.tokens.ids) // 20))


class Exact(Index):
    """The exact engine: every video is scored, in one pass over the mapped tokens, and many queries in the same one."""

    name = "exact"

    def candidates(self, query: Query, k: int, among: np.ndarray | None) -> np.ndarray:
        """Those that score as high as the k best in one pass, up to what a pass rounds."""
        scores = self.tokens.scan([query])[0] if query.scanned is None else query.scanned
        some = scores if among is None else scores[among]
        least = np.partition(some, len(some) - k)[len(some) - k] if k < len(some) else -np.inf
        kept = np.flatnonzero(some >= least - CLOSE)
        return kept if among is None else among[kept]


class Approximate(Index):
    """An index that looks only at the videos a `Nearest` names, brought in line with the tokens when it is opened.

    `changes` says what that took. Errors: those of the engine.
    """

    def __init__(self, tokens: Tokens, nearest: Nearest) -> None:
        super().__init__(tokens)
        self.nearest, self.name = nearest, nearest.name
        self.changes = _in_line(nearest, tokens)

    def candidates(self, query: Query, k: int, among: np.ndarray | None) -> np.ndarray:
        """Those the engine names; where it cannot name k, all."""
        wanted = max(k * WIDER, LEAST)
        total = len(self.tokens.ids) if among is None else len(among)
        if wanted < total:
            ids = None if among is None else [self.tokens.ids[i] for i in among]
            found = np.array(sorted(self.tokens.place[video] for video in self.nearest.near(query, wanted, ids)), np.int64)
            if len(found) >= k:
                return found
        return np.arange(total) if among is None else among


def _in_line(nearest: Nearest, tokens: Tokens, at_once: int = 256) -> Changes:
    """Remove the videos that went or changed, add those that came or changed, and no other."""
    known, now = nearest.known(), dict(zip(tokens.ids, tokens.digests, strict=True))
    removed = [video for video, digest in known.items() if now.get(video) != digest]
    added = [video for video, digest in now.items() if known.get(video) != digest]
    if removed:
        nearest.remove(removed)
    for first in range(0, len(added), at_once):
        some = added[first : first + at_once]
        nearest.add([(video, now[video], tokens.of(tokens.place[video])) for video in some])
    if added or removed:
        nearest.keep()
    return Changes(tuple(added), tuple(removed))
