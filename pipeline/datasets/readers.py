"""One dataset kind, one reader; every kind's rows end up alike."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.inputs import Dataset
from pipeline.config.schema import Config
from pipeline.core.errors import DatasetError
from pipeline.core.layout import Layout
from pipeline.datasets import activitynet, charades, own, qvhighlights, tvr
from pipeline.datasets.folder import locate
from pipeline.datasets.rows import Rows, check

BENCHMARKS = {"qvhighlights": qvhighlights, "tvr": tvr, "activitynet": activitynet, "charades": charades}


def as_own(config: Config, layout: Layout) -> Dataset:
    """The demo's dataset section, once its world is rendered: an own dataset like any other."""
    return Dataset(kind="own", name=config.dataset.name, videos=str(layout.world / "videos"), annotations=str(layout.world / "queries.csv"))


def read(config: Config, layout: Layout) -> tuple[Rows, list[str]]:
    """The dataset's rows with every video's files looked up, and one line for each file that `allow_missing_videos` let pass.

    A benchmark without `dataset.videos` keeps all its rows and no files: features may come from a published bundle.
    Errors: DatasetError, each listing every instance.
    """
    dataset = config.dataset
    if dataset.kind == "demo":
        return own.read(as_own(config, layout))
    if dataset.kind == "own":
        return own.read(dataset)
    rows = benchmark(dataset)
    if not dataset.videos:
        return rows, []
    frame_folders = BENCHMARKS[dataset.kind].FRAME_FOLDERS
    return locate(
        rows, dataset.videos, report=layout.missing_videos, allow_missing=dataset.allow_missing_videos, frame_folders=frame_folders
    )


def benchmark(dataset: Dataset) -> Rows:
    """The rows of one of the four benchmarks, from its original annotation files alone."""
    reader = BENCHMARKS[dataset.kind]
    galleries: tuple[str, ...] = reader.GALLERIES
    if dataset.gallery is not None and dataset.gallery not in galleries:
        raise DatasetError(
            f"{dataset.kind} has no gallery {dataset.gallery!r}",
            where="dataset.gallery",
            fix=f"choose {' or '.join(galleries)} (docs/datasets.md)",
        )
    if not dataset.annotations:
        raise DatasetError(
            "dataset.annotations is empty", where="dataset.annotations", fix="name the folder of the original annotation files"
        )
    return check(reader.read(Path(dataset.annotations), dataset.gallery), dataset.annotations)
