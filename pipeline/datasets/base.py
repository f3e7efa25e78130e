"""What a dataset reader is: a module of this room, or of a user's own, that `dataset.kind` names (docs/extending.md)."""

from __future__ import annotations

from typing import Protocol, cast

from pipeline.config.inputs import Dataset
from pipeline.core import plugins
from pipeline.core.errors import ConfigError
from pipeline.datasets.rows import Rows


class Reader(Protocol):
    """A reader's module. It may also say: which `GALLERIES` it has; whether a folder of pictures may stand for a video (`FRAME_FOLDERS`);
    the `TELLTALE` files by which `prvr init` recognises its dataset, and the `ADVICE` given then."""

    def read(self, dataset: Dataset) -> Rows:
        """Videos and queries as the dataset's own files have them.

        A video says where its `files` are, or by which names (`parts`) they are to be looked for below `dataset.videos`.
        Errors: DatasetError, listing every instance.
        """
        ...


def reader(kind: str) -> Reader:
    """The reader of a kind, loaded alone: the others' code decides nothing. Errors: ConfigError when there is none."""
    module = plugins.load("datasets", kind)
    if not hasattr(module, "read"):
        raise ConfigError(f"kind: {kind} has no function read(dataset)", where=module.__file__, fix="docs/extending.md shows one")
    return cast(Reader, module)


def galleries(kind: str) -> tuple[str, ...]:
    """The evaluation galleries of a kind, the usual one first; empty where there are no several."""
    named: tuple[str, ...] = getattr(reader(kind), "GALLERIES", ())
    return named


def frame_folders(kind: str) -> bool:
    """Whether a folder of pictures may stand for a video."""
    return bool(getattr(reader(kind), "FRAME_FOLDERS", False))


def telltales() -> dict[str, tuple[str, ...]]:
    """kind -> the annotation files that tell it from the others, of our own readers that have some."""
    files = {kind: getattr(plugins.load("datasets", kind), "TELLTALE", ()) for kind in plugins.kinds("datasets")}
    return {kind: names for kind, names in files.items() if names}
