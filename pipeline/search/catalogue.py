"""The engines that a search page can ask, and the folders whose files it may show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.schema import Config
from pipeline.core.names import unknown
from pipeline.search.engine import Engine
from pipeline.search.together import Together


class _Asked(NamedTuple):
    """What is to be made of an engine, and the sentence it will be asked for, where it is one."""

    work: Callable[[Engine], Any]
    query: str


class Catalogue:
    """The engines of a configuration, each opened when it is first asked; those who wait for one are answered together."""

    def __init__(self, config: Config, engines: dict[str, Callable[[], Engine]]) -> None:
        self.config, self._open = config, engines
        self._opened: dict[str, Engine] = {}
        self.queues = {name: Together(partial(self._ahead, name), partial(self._work, name)) for name in engines}

    @property
    def models(self) -> list[str]:
        """Their names, the default first."""
        return list(self._open)

    def ask(self, model: str, work: Callable[[Engine], Any], query: str = "") -> Any:
        """What `work` makes of an engine, which it has for itself meanwhile; `query` is the sentence that it asks, if any.

        Errors: ConfigError when there is no such model; those of `work`.
        """
        model = model or self.models[0]
        if model not in self._open:
            raise unknown("model", model, self.models, where="model")
        return self.queues[model](_Asked(work, query))

    def _ahead(self, model: str, asked: Sequence[_Asked]) -> None:
        self._engine(model).ahead([one.query for one in asked])

    def _work(self, model: str, asked: _Asked) -> Any:
        return asked.work(self._engine(model))

    def _engine(self, model: str) -> Engine:
        if model not in self._opened:
            self._opened[model] = self._open[model]()
        return self._opened[model]

    @cached_property
    def roots(self) -> tuple[Path, ...]:
        """The folders whose files may be shown."""
        given = self.config.dataset.videos
        return (Path(given) if given else self.config.layout.world / "videos",)
