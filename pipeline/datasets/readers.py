"""One dataset kind, one reader; every kind's rows end up alike."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config, Dataset
from pipeline.datasets import own
from pipeline.datasets.folder import locate
from pipeline.datasets.rows import Rows, check
from pipeline.errors import DatasetError
from pipeline.layout import Layout

BENCHMARKS: dict = {}


def as_own(config: Config, layout: Layout) -> Dataset:
    """The demo's dataset section, once its world is rendered: an own dataset like any other."""
    return Dataset(kind="own", name=config.dataset.name, videos=str(layout.world / "videos"), annotations=str(layout.world / "queries.csv"))


def read(config: Config, layout: Layout) -> tuple[Rows, list[str]]:
    """The dataset's rows with every video's files looked up, and the lines of `allow_missing_videos` describing absent ones.

    A benchmark without `dataset.videos` keeps all its rows and no files: features may come from a published bundle.
    Errors: DatasetError, each listing every instance.
    """
    dataset = config.dataset
    if dataset.kind == "demo":
        return own.read(as_own(config, layout))
    if dataset.kind == "own":
        return own.read(dataset)
    reader = BENCHMARKS[dataset.kind]
    if dataset.gallery not in (None, *reader.GALLERIES):
        raise DatasetError(
            f"gallery {dataset.gallery!r} does not exist",
            where="dataset.gallery",
            fix=f"choose {' or '.join(reader.GALLERIES)} (docs/datasets.md)",
        )
    if not dataset.annotations:
        raise DatasetError(
            "dataset.annotations is empty", where="dataset.annotations", fix="name the folder of the original annotation files"
        )
    rows = check(reader.read(Path(dataset.annotations), dataset.gallery), dataset.annotations)
    if not dataset.videos:
        return rows, []
    return locate(rows, dataset.videos, allow_missing=dataset.allow_missing_videos, frame_folders=reader.FRAME_FOLDERS)
