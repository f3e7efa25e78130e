"""What every way to search has in common: scores of all videos for a sentence, and from them the answer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError, EncoderError
from pipeline.encoders.base import TextEncoder, load_text
from pipeline.evaluation import moments
from pipeline.search.answers import Answer, Hit, Known, Moment, known
from pipeline.search.unrelated import sentences


class Engine:
    """Answers queries about the videos of a configuration.

    `name` says who answers, `ids` are the V videos, `trained` is the run's experiment and seed, None for the frozen encoder. A subclass
    gives `asked`, `scores` and `rows`; whatever `asked` returns is passed on to the two others.
    """

    name: str
    ids: list[str]
    trained: tuple[str, int] | None = None

    def __init__(self, config: Config, text: str) -> None:
        self.config, self._text = config, text

    @cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder, loaded for the first query."""
        return load_text(self.config.encoders[self._text], "cpu", self._text)

    @cached_property
    def known(self) -> Known:
        """What is known of the videos beside their features."""
        return known(self.config.layout)

    def asked(self, query: str) -> Any:
        """A sentence as this engine compares it."""
        raise NotImplementedError

    def scores(self, asked: Any) -> np.ndarray:
        """How well every video answers. Shapes: [V] float32."""
        raise NotImplementedError

    def rows(self, asked: Any, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How well every row of some videos answers. Shapes: n videos -> similarity [n, F], -inf at padding; start, end [n, F] s."""
        raise NotImplementedError

    def of_row(self, video: int, seconds: float) -> Any:
        """A moment of a video as a query. Errors: ConfigError where an engine cannot compare rows with rows."""
        raise ConfigError(f"{self.name} compares sentences with videos only", where="model", fix="ask the frozen encoder (--zero-shot)")

    def like(self, video: int, seconds: float, k: int = 10) -> tuple[Answer, Any]:
        """The k videos that look most like a moment of one, that one first, and the moment as a query. Errors: those of `of_row`."""
        asked = self.of_row(video, seconds)
        return self._answered(f"like {self.ids[video]} at {seconds:.1f} s", asked, np.arange(len(self.ids)), k, 3), asked

    def search(self, query: str, k: int = 10, *, moments: int = 1, split: str = "", group: str = "") -> list[Hit]:
        """The k best videos, best first, each with its best `moments`. Errors: EncoderError for an empty query, ConfigError as `answer`."""
        return list(self.answer(query, k, moments=moments, split=split, group=group).hits)

    def answer(self, query: str, k: int = 10, *, moments: int = 3, split: str = "", group: str = "") -> Answer:
        """The k best videos of a split and a group (all, where these are empty), and how far the best one stands out.

        Errors: EncoderError for an empty query, ConfigError for a split or group that no video is of.
        """
        return self.ask(query, k, moments=moments, split=split, group=group)[0]

    def ask(self, query: str, k: int = 10, *, moments: int = 3, split: str = "", group: str = "") -> tuple[Answer, Any]:
        """The answer, and the query as `asked` gives it, for who looks further into the videos. Errors: those of `answer`."""
        if not query.strip():
            raise EncoderError("the query is empty", fix="type a sentence about what happens in the video")
        among = self._among(split, group)
        asked = self.asked(" ".join(query.split()))
        return self._answered(query, asked, among, k, moments), asked

    def _answered(self, query: str, asked: Any, among: np.ndarray, k: int, moments: int) -> Answer:
        """The k best of the videos `among`, and how far the best one stands out. Shapes: `among` [n] indices of videos."""
        scores = self.scores(asked)
        best = among[np.argsort(-scores[among], kind="stable")][: max(1, k)]
        hits = self._hits(asked, best, scores, moments)
        standing = float((self._background[:, among].max(1) < scores[best[0]]).mean()) if len(best) else 0.0
        return Answer(query, self.name, tuple(hits), standing)

    @cached_property
    def _background(self) -> np.ndarray:
        """The scores of sentences about nothing here: [n, V]."""
        return np.stack([self.scores(self.asked(sentence)) for sentence in sentences()])

    def _among(self, split: str, group: str) -> np.ndarray:
        chosen = np.flatnonzero(self.known.chosen(self.ids, split, group))
        if not len(chosen) and len(self.ids):
            splits = ", ".join(self.known.split_names) or "none are known"
            groups = ", ".join(self.known.group_names) or "none are known"
            wanted = " and ".join([f"split {split!r}"] * bool(split) + [f"group {group!r}"] * bool(group))
            raise ConfigError(f"no video is of {wanted}", where=self.config.dataset.name, fix=f"splits: {splits}; groups: {groups}")
        return chosen

    def _hits(self, asked: Any, chosen: np.ndarray, scores: np.ndarray, limit: int) -> list[Hit]:
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
                    float(scores[video]),
                    tuple(Moment(*map(float, span)) for span in found if not np.isnan(span[0])),
                    float(instant),
                )
            )
            for video, found, instant in zip(chosen.tolist(), spans, middle, strict=True)
        ]
