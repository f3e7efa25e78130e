"""One dataset kind, one reader; every kind's rows end up alike."""

from __future__ import annotations

from pipeline.config.inputs import Dataset
from pipeline.config.schema import Config
from pipeline.core.errors import DatasetError
from pipeline.core.layout import Layout
from pipeline.datasets.base import frame_folders, galleries, reader
from pipeline.datasets.folder import locate
from pipeline.datasets.rows import Rows, check


def as_read(config: Config, layout: Layout) -> Dataset:
    """The section a reader reads: the demo, once its world is rendered, is an own dataset like any other."""
    if config.dataset.kind != "demo":
        return config.dataset
    return Dataset(kind="own", name=config.dataset.name, videos=str(layout.world / "videos"), annotations=str(layout.world / "queries.csv"))


def read(config: Config, layout: Layout) -> tuple[Rows, list[str]]:
    """The dataset's rows with every video's files looked up, and one line for each file that `allow_missing_videos` let pass.

    Without `dataset.videos` files that are to be looked for stay unknown: features may come from a published bundle.
    Errors: DatasetError, each listing every instance.
    """
    dataset = as_read(config, layout)
    rows = annotated(dataset)
    if not dataset.videos or not any(video.parts for video in rows.videos):
        return rows, list(rows.missing)
    return locate(
        rows,
        dataset.videos,
        report=layout.missing_videos,
        allow_missing=dataset.allow_missing_videos,
        frame_folders=frame_folders(dataset.kind),
    )


def annotated(dataset: Dataset) -> Rows:
    """The rows of a dataset's own files alone. Errors: DatasetError; ConfigError for a kind there is no reader of."""
    named = galleries(dataset.kind)
    if dataset.gallery is not None and named and dataset.gallery not in named:
        raise DatasetError(
            f"{dataset.kind} has no gallery {dataset.gallery!r}",
            where="dataset.gallery",
            fix=f"choose {' or '.join(named)} (docs/datasets.md)",
        )
    if dataset.original and not dataset.annotations:
        raise DatasetError(
            "dataset.annotations is empty", where="dataset.annotations", fix="name the folder of the original annotation files"
        )
    return check(reader(dataset.kind).read(dataset), dataset.annotations or dataset.videos)
