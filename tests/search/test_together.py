"""Calls of many threads at once: those that wait are run together, each gets what it would get alone, and fails alone."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.errors import ConfigError, EncoderError
from pipeline.encoders.base import Caption
from pipeline.search import shown
from pipeline.search.answers import Filter
from pipeline.search.catalogue import Catalogue
from pipeline.search.engine import Engine
from pipeline.search.frozen import BRANCH, Frozen
from pipeline.search.searcher import Searcher
from pipeline.search.together import Together
from pipeline.search.tokens import Tokens
from tests.evaluation.conftest import World, typeable

THREADS = 50


class Held:
    """Fifty threads of which the first is held until all others wait."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool, self.holds, self.go = pool, threading.Event(), threading.Event()

    def hold(self, _: object = None) -> None:
        self.holds.set()
        assert self.go.wait(60)

    def behind(self, ask: Callable[[Any], Any], waiting: Callable[[], int], given: Sequence[Any], first: Any) -> list[Future[Any]]:
        """What `ask` makes of all that is given, asked while it is busy with `first`, which calls `hold`."""
        self.pool.submit(ask, first)
        assert self.holds.wait(60)
        asked = [self.pool.submit(ask, one) for one in given]
        while waiting() < len(given):
            time.sleep(0.001)
        self.go.set()
        return asked


@pytest.fixture
def held() -> Any:
    with ThreadPoolExecutor(THREADS) as pool:
        yield Held(pool)


@pytest.mark.parametrize("failing", [False, True])
def test_all_that_wait_share_and_each_fails_alone(held: Held, failing: bool) -> None:
    shared: list[list[int]] = []

    def share(given: Sequence[int]) -> None:
        shared.append(sorted(given))
        if failing:
            raise RuntimeError("of nobody's in particular")

    def each(given: int) -> int:
        if given < 0:
            held.hold()
        return 100 // given

    together = Together(share, each)
    made = held.behind(together, lambda: len(together.waiting), range(THREADS - 1), -1)
    assert [one.result(60) for one in made[1:]] == [100 // i for i in range(1, THREADS - 1)]
    with pytest.raises(ZeroDivisionError):
        made[0].result(60)
    assert shared == [list(range(THREADS - 1))]
    assert together(4) == 25
    with pytest.raises(ZeroDivisionError):
        together(0)


def test_every_call_is_made_once_and_one_at_a_time() -> None:
    at_work, made, sizes = threading.Lock(), list[int](), list[int]()

    def each(given: int) -> int:
        assert at_work.acquire(blocking=False), "two at a time"
        made.append(given)
        time.sleep(0)
        at_work.release()
        return -given

    together = Together(lambda given: sizes.append(len(given)), each)
    with ThreadPoolExecutor(THREADS) as pool:
        assert list(pool.map(together, range(2000))) == [-i for i in range(2000)]
    assert sorted(made) == list(range(2000))
    assert all(size > 1 for size in sizes)


def test_an_interruption_leaves_nobody_waiting(held: Held) -> None:
    def each(given: int) -> int:
        if given < 0:
            held.hold()
        if given == 1:
            raise KeyboardInterrupt
        return given

    together = Together(lambda _: None, each)
    made = held.behind(together, lambda: len(together.waiting), range(4), -1)
    assert [type(one.exception(60)) for one in made].count(KeyboardInterrupt) == 1
    assert together(7) == 7


class Reader:
    """A vector of its own for every sentence, in the space of the images that `World` makes up."""

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def encode_texts(self, texts: Sequence[str]) -> list[Caption]:
        drawn = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dim).astype(np.float32) for text in texts]
        return [Caption(torch.from_numpy(vector)[None], torch.from_numpy(vector), False) for vector in drawn]


def frozen(world: World) -> Frozen:
    made = Frozen(world.config)
    made.encoder = Reader(made.tokens.width(BRANCH))  # type: ignore[assignment]
    return made


@pytest.fixture(params=["zero-shot", "trained"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Engine]:
    """The frozen encoder, and a trained model behind a real, tiny CLIP."""
    if request.param == "zero-shot":
        made = World(tmp_path)
        return lambda: frozen(made)
    world = typeable(tmp_path)
    world.train("main", 1, text_dim=64)
    return lambda: Searcher(world.config, world.layout, "main", 1)


def test_fifty_who_ask_at_once_get_what_each_would_get_alone(opened: Callable[[], Engine], held: Held, monkeypatch: Any) -> None:
    """Filters, later ranks, one sentence asked twice, sentences of several lengths; an empty one and an unknown split fail alone."""
    wanted: list[dict[str, Any]] = [{"k": 3}, {"k": 2, "first": 2}, {"k": 4, "wanted": Filter("test")}]
    queries = [f"text {' and '.join(map(str, range(i % 6)))} {i // 2}" for i in range(THREADS - 3)]
    questions = [(query, wanted[i % 3]) for i, query in enumerate(queries)]
    alone, engine = opened(), opened()
    right = [shown.plain(alone, *alone.ask(query, **given), "", 100) for query, given in questions]
    catalogue = Catalogue(engine.config, {"it": lambda: engine})
    engine.answer("something else")
    encoded: list[int] = []
    scanned: list[int] = []
    encode, scan = engine.encoder.encode_texts, Tokens.scan
    monkeypatch.setattr(engine.encoder, "encode_texts", lambda texts: (encoded.append(len(texts)), encode(texts))[1])
    monkeypatch.setattr(Tokens, "scan", lambda tokens, queries: (scanned.append(len(queries)), scan(tokens, queries))[1])

    def ask(question: tuple[str, dict[str, Any]] | None) -> Any:
        if question is None:
            return catalogue.ask("it", held.hold)
        query, given = question
        return catalogue.ask("it", lambda engine: shown.plain(engine, *engine.ask(query, **given), "", 100), query)

    bad = [("  ", {}), ("text", {"wanted": Filter("tset")})]
    made = held.behind(ask, lambda: len(catalogue.queues["it"].waiting), [*questions, *bad], None)
    assert [one.result(60) for one in made[:-2]] == right
    with pytest.raises(EncoderError, match="the query is empty"):
        made[-2].result(60)
    with pytest.raises(ConfigError, match="did you mean test"):
        made[-1].result(60)
    assert encoded == scanned == [len({*queries, "text"})]


def test_a_sentence_that_cannot_be_encoded_fails_alone(opened: Callable[[], Engine], held: Held, monkeypatch: Any) -> None:
    alone, engine = opened(), opened()
    catalogue = Catalogue(engine.config, {"it": lambda: engine})
    real = engine.encoder.encode_texts

    def encode(texts: Sequence[str]) -> Any:
        if "bad" in texts:
            raise EncoderError("nobody reads that")
        return real(texts)

    monkeypatch.setattr(engine.encoder, "encode_texts", encode)
    asked = [*(f"text {i}" for i in range(8)), "bad"]

    def ask(query: str) -> Any:
        return catalogue.ask("it", (lambda engine: engine.answer(query)) if query else held.hold, query)

    made = held.behind(ask, lambda: len(catalogue.queues["it"].waiting), asked, "")
    assert [one.result(60) for one in made[:-1]] == [alone.answer(query) for query in asked[:-1]]
    with pytest.raises(EncoderError, match="nobody reads that"):
        made[-1].result(60)


def test_a_model_that_is_not_there_is_told_from_the_nearest(opened: Callable[[], Engine]) -> None:
    catalogue = Catalogue(opened().config, {"main": opened, "zero-shot": opened})
    with pytest.raises(ConfigError, match="no model 'zeroshot'") as refused:
        catalogue.ask("zeroshot", lambda engine: engine.name)
    assert refused.value.fix == "did you mean zero-shot? there are: main, zero-shot"
    assert catalogue.ask("", lambda engine: len(engine.ids)) == catalogue.ask("main", lambda engine: len(engine.ids))
