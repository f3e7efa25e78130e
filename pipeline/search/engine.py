"""What every way to search has in common: scores of all videos for a sentence, and from them the answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError, EncoderError
from pipeline.core.names import choice
from pipeline.encoders.base import TextEncoder, load_text
from pipeline.evaluation import moments
from pipeline.search.answers import EVERY, Answer, Filter, Hit, Known, Moment, known
from pipeline.search.nearest import Approximate, Exact, Found, Index
from pipeline.search.tokens import Query
from pipeline.search.unrelated import sentences

FILTERS = 64  # filters whose rivals are remembered
MOMENTS = 64  # of the videos themselves, which a moment or a picture is judged against
_SEEN = "other moments of these videos"


class _Question(NamedTuple):
    """A query as an engine compares it, which of its hits are wanted, and what its best score is judged against."""

    query: str
    asked: Any
    k: int
    moments: int
    first: int
    against: str = "unrelated sentences"
    own: int = -1  # the video it was taken from
    scanned: np.ndarray | None = None  # the score of every video, where many queries were compared in one pass


class Engine:
    """Answers queries about the videos of a configuration.

    `name` says who answers, `ids` are the V videos, `trained` is the run's experiment and seed, None for the frozen encoder. A subclass
    gives `asked`, `scores` and `rows`; whatever `asked` returns is passed on to the two others.
    """

    name: str
    ids: list[str]
    trained: tuple[str, int] | None = None
    index: Index | None = None  # where a video's score is its best token; without one every video is scored by `scores`

    def __init__(self, config: Config, text: str) -> None:
        self.config, self._text = config, text
        self._matrices: dict[str, np.ndarray] = {}
        self._remembered: dict[tuple[str, int], list[tuple[Found, int]]] = {}
        self._ready: dict[str, tuple[Any, np.ndarray | None]] = {}

    @cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder, loaded for the first query."""
        return load_text(self.config.encoders[self._text], "cpu", self._text, at_once=1)

    @cached_property
    def known(self) -> Known:
        """What is known of the videos beside their features."""
        return known(self.config.layout)

    def asked(self, query: str) -> Any:
        """A sentence as this engine compares it."""
        raise NotImplementedError

    def asked_all(self, queries: Sequence[str]) -> list[Any]:
        """The same of several sentences."""
        return [self.asked(query) for query in queries]

    def scores(self, asked: Any) -> np.ndarray:
        """How well every video answers. Shapes: [V] float32."""
        raise NotImplementedError

    def query(self, asked: Any) -> Query:
        """What `asked` gave, as tokens are compared with it; for engines with an `index`."""
        raise NotImplementedError

    def rows(self, asked: Any, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How well every row of some videos answers. Shapes: n videos -> similarity [n, F], -inf at padding; start, end [n, F] s."""
        raise NotImplementedError

    @property
    def durations(self) -> np.ndarray:
        """How long every video is, NaN unknown. Shapes: [V] s."""
        raise NotImplementedError

    def of_row(self, video: int, seconds: float) -> Any:
        """A moment of a video as a query. Errors: ConfigError where an engine cannot compare rows with rows."""
        raise NotImplementedError

    def of_picture(self, rgb: np.ndarray) -> Any:
        """A picture as a query. Shapes: uint8 [H, W, 3]. Errors: ConfigError where an engine cannot compare pictures with videos."""
        raise ConfigError(f"{self.name} reads no pictures", where="model", fix="ask the frozen encoder (--zero-shot)")

    def search(self, query: str, k: int = 10, *, moments: int = 1, wanted: Filter = EVERY) -> list[Hit]:
        """The k best videos, best first, each with its best `moments`. Errors: EncoderError for an empty query, ConfigError as `answer`."""
        return list(self.answer(query, k, moments=moments, wanted=wanted).hits)

    def answer(self, query: str, k: int = 10, *, moments: int = 3, wanted: Filter = EVERY) -> Answer:
        """The k best of the wanted videos, and how far the best one stands out.

        Errors: EncoderError for an empty query, ConfigError when no video is wanted.
        """
        return self.ask(query, k, moments=moments, wanted=wanted)[0]

    def ask(self, query: str, k: int = 10, *, moments: int = 3, wanted: Filter = EVERY, first: int = 0) -> tuple[Answer, Any]:
        """The answer from rank `first` on, and the query as `asked` gives it, for who looks further. Errors: those of `answer`."""
        if not query.strip():
            raise EncoderError("the query is empty", fix="type a sentence about what happens in the video")
        among, words = self._among(wanted), _plain(query)
        asked, scanned = self._ready.get(words) or (self.asked(words), None)
        return self._answered(_Question(query, asked, k, moments, first, scanned=scanned), among), asked

    def ahead(self, queries: Sequence[str]) -> None:
        """Do at once what several sentences need: encode them, and compare them with all tokens in one pass. The next `ask` of one finds
        that done, and answers as it would without. Errors: those of `asked`, for any of them.
        """
        words = list(dict.fromkeys(filter(None, map(_plain, queries))))
        if not words:
            return
        asked = self.asked_all(words)
        scanned: Sequence[np.ndarray | None] = [None] * len(words)
        if isinstance(self.index, Exact):
            scanned = list(self.index.tokens.scan([self.query(one) for one in asked]))
        self._ready = dict(zip(words, zip(asked, scanned, strict=True), strict=True))

    def like(
        self, video: int, seconds: float, k: int = 10, *, moments: int = 3, wanted: Filter = EVERY, first: int = 0
    ) -> tuple[Answer, Any]:
        """The videos that look most like a moment of one, that one as a rule first. Errors: those of `of_row` and `answer`."""
        among, asked = self._among(wanted), self.of_row(video, seconds)
        question = _Question(f"like {self.ids[video]} at {seconds:.1f} s", asked, k, moments, first, _SEEN, video)
        return self._answered(question, among), asked

    def picture(self, rgb: np.ndarray, k: int = 10, *, moments: int = 3, wanted: Filter = EVERY, first: int = 0) -> tuple[Answer, Any]:
        """The videos that look most like a picture. Shapes: uint8 [H, W, 3]. Errors: those of `of_picture` and `answer`."""
        among, asked = self._among(wanted), self.of_picture(rgb)
        return self._answered(_Question("a picture", asked, k, moments, first, _SEEN), among), asked

    def _answered(self, question: _Question, among: np.ndarray) -> Answer:
        """The best of the videos `among`, and how far the best one stands out. Shapes: `among` [n] indices of videos."""
        first, last = question.first, question.first + max(1, question.k)
        best = self._best(question.asked, among, max(2, last), question.scanned)
        hits = self._hits(question.asked, Found(best.videos[first:last], best.scores[first:last]), question.moments)
        standing, learnt = self._standing(best, among, question), self.trained is not None
        return Answer(question.query, self.name, tuple(hits), standing, question.against, first, len(among), learnt)

    def _best(self, asked: Any, among: np.ndarray, k: int, scanned: np.ndarray | None = None) -> Found:
        """The k best of the videos `among`, ties in their order. Shapes: `scanned` as in `Query`."""
        index = self._index_for(asked)
        if index is not None:
            return index.search(self.query(asked)._replace(scanned=scanned), k, None if len(among) == len(self.ids) else among)
        scores = self.scores(asked)
        best = among[np.argsort(-scores[among], kind="stable")][:k]
        return Found(best, scores[best])

    def _index_for(self, asked: Any) -> Index | None:
        """The index that can answer what `asked` gave."""
        return self.index

    def _standing(self, best: Found, among: np.ndarray, question: _Question) -> float:
        """The share of other queries whose best video scores lower than this one's; the video a moment was taken from does not count."""
        others = best.scores[best.videos != question.own]
        if not len(others):
            return 0.0
        return float((self._rivals(question.against, among, question.own) < others[0]).mean())

    def _rivals(self, against: str, among: np.ndarray, own: int) -> np.ndarray:
        """The best score of each query that others are judged against, among some videos but for `own`. Shapes: [n]."""
        queries = self._seen if against == _SEEN else self._background
        if not isinstance(self._index_for(queries[0][0]), Approximate):
            return self._scored(against)[:, among[among != own]].max(1)
        place = (against, hash(among.tobytes()))
        if place not in self._remembered:
            found = [(self._best(asked, among, 3), theirs) for asked, theirs in queries]
            self._remembered = {**dict(list(self._remembered.items())[-FILTERS:]), place: found}
        left = [best.scores[~np.isin(best.videos, (own, theirs))] for best, theirs in self._remembered[place]]
        return np.array([scores[0] if len(scores) else -np.inf for scores in left], np.float32)

    @cached_property
    def _background(self) -> list[tuple[Any, int]]:
        """Sentences about nothing here."""
        return [(asked, -1) for asked in self.asked_all(sentences())]

    @cached_property
    def _seen(self) -> list[tuple[Any, int]]:
        """Moments from the middle of videos all over the collection, and the video of each."""
        taken = np.unique(np.linspace(0, len(self.ids) - 1, MOMENTS).astype(int)).tolist()
        return [(self.of_row(video, float(np.nan_to_num(self.durations[video])) / 2), video) for video in taken]

    def _scored(self, against: str) -> np.ndarray:
        """The score of every video for each query that others are judged against, minus infinity in its own video: [n, V]."""
        if against not in self._matrices:
            queries = self._seen if against == _SEEN else self._background
            index = self._index_for(queries[0][0])
            if index is None:
                scores = np.stack([self.scores(asked) for asked, _ in queries])
            else:
                scores = index.tokens.scan([self.query(asked) for asked, _ in queries]).copy()
            for row, (_, video) in zip(scores, queries, strict=True):
                if video >= 0:
                    row[video] = -np.inf
            self._matrices[against] = scores
        return self._matrices[against]

    def _among(self, wanted: Filter) -> np.ndarray:
        chosen = np.flatnonzero(self.known.chosen(self.ids, self.durations, wanted))
        if not len(chosen) and len(self.ids):
            each = [("split", wanted.split, self.known.split_names), ("group", wanted.group, self.known.group_names)]
            fixes = [f"{kind}: {choice(name, names)}" for kind, name, names in each if name]
            lengths = f"lengths: {np.nanmin(self.durations):.0f} to {np.nanmax(self.durations):.0f} seconds"
            raise ConfigError(f"no video is of {wanted}", where=self.config.dataset.name, fix="; ".join([*fixes, lengths]))
        return chosen

    def _hits(self, asked: Any, found: Found, limit: int) -> list[Hit]:
        chosen = found.videos
        if not len(chosen):
            return []
        similarity, start, end = self.rows(asked, chosen.tolist())
        spans = moments.windows(similarity, start, end, limit=limit)
        row = similarity.argmax(1)
        place = np.arange(len(chosen))
        middle = (start[place, row] + end[place, row]) / 2
        return [
            self.known.of(
                Hit(
                    self.ids[video],
                    float(score),
                    tuple(Moment(*map(float, span)) for span in best if not np.isnan(span[0])),
                    float(instant),
                    duration=float(self.durations[video]),
                )
            )
            for video, score, best, instant in zip(chosen.tolist(), found.scores, spans, middle, strict=True)
        ]


def _plain(query: str) -> str:
    return " ".join(query.split())
