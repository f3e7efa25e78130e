"""The engines that a search page can ask, and the folders whose files it may show."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError
from pipeline.search.engine import Engine


class Catalogue:
    """The engines of a configuration, each opened when it is first asked, one query at a time."""

    def __init__(self, config: Config, engines: dict[str, Callable[[], Engine]]) -> None:
        self.config, self._open = config, engines
        self._opened: dict[str, Engine] = {}
        self._locks = {name: threading.Lock() for name in engines}

    @property
    def models(self) -> list[str]:
        """Their names, the default first."""
        return list(self._open)

    def ask(self, model: str, work: Callable[[Engine], Any]) -> Any:
        """What `work` makes of an engine, which it has for itself meanwhile. Errors: ConfigError when there is no such model."""
        model = model or self.models[0]
        if model not in self._open:
            raise ConfigError(f"there is no model {model!r}", where="model", fix=f"one of {', '.join(self.models)}")
        with self._locks[model]:
            if model not in self._opened:
                self._opened[model] = self._open[model]()
            return work(self._opened[model])

    @cached_property
    def roots(self) -> tuple[Path, ...]:
        """The folders whose files may be shown."""
        given = self.config.dataset.videos
        return (Path(given) if given else self.config.layout.world / "videos",)
