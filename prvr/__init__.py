"""prvr from Python, in a few names (docs/python.md). Each is imported when it is first used: `import prvr` itself waits for no torch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.config.reading import load as load_config
    from pipeline.core.errors import PrvrError
    from pipeline.core.store import open_store
    from pipeline.evaluation.inputs import load_split
    from pipeline.models.checkpoint import load_model
    from pipeline.ranking.measure import rank
    from pipeline.ranking.metrics import ranks, recalls
    from pipeline.search.files import FileEncoder
    from pipeline.search.searcher import open_run
    from pipeline.training.arrays import Arrays, experiment, train

# name -> the module it lives in, and its name there where that is another
_NAMES = {
    "Arrays": "pipeline.training.arrays",
    "FileEncoder": "pipeline.search.files",
    "PrvrError": "pipeline.core.errors",
    "experiment": "pipeline.training.arrays",
    "load_config": "pipeline.config.reading:load",
    "load_model": "pipeline.models.checkpoint",
    "load_split": "pipeline.evaluation.inputs",
    "open_run": "pipeline.search.searcher",
    "open_store": "pipeline.core.store",
    "rank": "pipeline.ranking.measure",
    "ranks": "pipeline.ranking.metrics",
    "recalls": "pipeline.ranking.metrics",
    "train": "pipeline.training.arrays",
}
__all__ = [
    "Arrays",
    "FileEncoder",
    "PrvrError",
    "experiment",
    "load_config",
    "load_model",
    "load_split",
    "open_run",
    "open_store",
    "rank",
    "ranks",
    "recalls",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'prvr' has no attribute {name!r}; it has {', '.join(_NAMES)}")
    module, _, inner = _NAMES[name].partition(":")
    value = getattr(import_module(module), inner or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_NAMES])
