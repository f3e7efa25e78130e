"""Features and results as Parquet, a row group at a time: what pandas, DuckDB, Polars and the Hugging Face hub read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.atomic import replacing, write_text
from pipeline.core.errors import LibraryError
from pipeline.core.layout import Layout
from pipeline.core.progress import track
from pipeline.core.store import Ragged, Reader, open_store
from pipeline.datasets import table
from pipeline.interchange.cards import MEASURES, dataset_card

GROUP_BYTES = 32 << 20  # of the vectors of a row group, the most that is in memory at once


def export_parquet(
    layout: Layout,
    target: Path,
    *,
    video: Sequence[str],
    text: Sequence[str],
    runs: Sequence[tuple[str, int]],
    name: str,
    demo: bool = False,
    licence: str = "",
) -> None:
    """Write features, query states, annotations, ranks and metrics, and the card that says what they are.

    Files: `features/<encoder>/<shard>.parquet` and `text/<encoder>.parquet` (an id, `row`, for videos `start` and `end` in seconds, and
    `vector`, a list of fixed size in the stored precision, float16 most often), `videos.parquet`, `queries.parquet`, and of the runs that
    were evaluated `ranks.parquet` and `metrics.parquet`. File names come from the configuration, never from ids.
    Errors: LibraryError, StoreError, DiskError.
    """
    _arrow()
    target.mkdir(parents=True, exist_ok=True)
    parts: dict[str, str] = {}
    about: dict[str, dict[str, Any]] = {}
    for encoder in video:
        about[encoder] = _features(layout, encoder, target / "features" / encoder)
        parts[f"features-{encoder}"] = f"features/{encoder}/*.parquet"
    for encoder in text:
        _text(layout, encoder, target / "text" / f"{encoder}.parquet")
        parts[f"text-{encoder}"] = f"text/{encoder}.parquet"
    known = table.load(layout.annotations)
    moments = [[{"start": float(a), "end": float(b)} for a, b in known.moments[query]] for query in known.queries["query_id"]]
    for part, frame in {"videos": known.videos, "queries": known.queries.assign(moments=pd.Series(moments, dtype=object))}.items():
        _write(target / f"{part}.parquet", [frame], moments=part == "queries")
        parts[part] = f"{part}.parquet"
    evaluated = [run for run in runs if layout.evaluation(*run).exists()]
    for part, frames in {"ranks": _ranks(layout, evaluated), "metrics": _metrics(layout, evaluated)}.items():
        if evaluated:
            _write(target / f"{part}.parquet", frames)
            parts[part] = f"{part}.parquet"
    write_text(target / "README.md", dataset_card(name, demo, parts, about, licence))


def _arrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise LibraryError("pyarrow is not installed", where="--layout parquet", fix="pip install 'prvr[parquet]'") from error
    return pyarrow


def _features(layout: Layout, encoder: str, folder: Path) -> dict[str, Any]:
    """Every shard of an encoder; what the card says of it."""
    files = sorted(layout.features(encoder, "*").parent.glob("*.h5"))
    about: dict[str, Any] = {"architecture": "", "dim": 0, "dtype": "", "videos": 0, "rows": 0}
    for left in set(folder.glob("*.parquet")) - {folder / f"{file.stem}.parquet" for file in files}:
        if left.stem.isdecimal():
            left.unlink()  # of an export with other shards
    for file in track(files, total=len(files), label=encoder, unit="shard"):
        with open_store(file, stage="features", encoder=encoder, shard=file.stem) as store:
            if "features" not in store:
                continue  # a shard without videos
            data = store.ragged("features", lazy=True)
            said = _said(store, "encoder", "architecture", "weights_sha256", "preprocessing")
            _vectors(folder / f"{file.stem}.parquet", "video_id", data, said)
            about |= {"architecture": said.get("architecture", ""), "dim": data.values.shape[1], "dtype": str(data.values.dtype)}
            about |= {"videos": about["videos"] + len(data), "rows": about["rows"] + len(data.values)}
    return about


def _text(layout: Layout, encoder: str, path: Path) -> None:
    with open_store(layout.text(encoder), stage="text", encoder=encoder) as store:
        _vectors(path, "query_id", store.ragged("tokens", lazy=True), _said(store, "encoder", "architecture"))


def _said(store: Reader, *names: str) -> dict[str, Any]:
    return {name: store.attrs[name] for name in names if name in store.attrs}


def _vectors(path: Path, key: str, data: Ragged, about: Mapping[str, Any]) -> None:
    """The rows of every item, in row groups of so many bytes. Shapes: `data.values` [N, D] -> N rows with a list of D values."""
    arrow = _arrow()
    width, dtype = data.values.shape[1], data.values.dtype
    vector = arrow.list_(arrow.from_numpy_dtype(dtype), width)
    times = [name for name in ("start", "end") if name in data.columns]
    fields = [(key, arrow.string()), ("row", arrow.int32()), *((name, arrow.float64()) for name in times), ("vector", vector)]
    schema = arrow.schema(fields, metadata={"prvr": json.dumps({**about, "dtype": str(dtype), "dim": width}, sort_keys=True)})
    with _writer(path, schema, dictionary=[key]) as put:
        for ids, rows, values, chosen in _groups(data, max(1, GROUP_BYTES // max(1, width * dtype.itemsize))):
            lists = arrow.FixedSizeListArray.from_arrays(arrow.array(values.reshape(-1)), width)
            seconds = [arrow.array(data.columns[name][chosen].astype(np.float64), from_pandas=True) for name in times]
            put(arrow.table([arrow.array(ids, arrow.string()), arrow.array(rows, arrow.int32()), *seconds, lists], schema=schema))


def _groups(data: Ragged, most: int) -> Iterator[tuple[list[str], np.ndarray, np.ndarray, slice]]:
    """`most` rows at a time, whatever item they are of: the item of each, its row in it, the values, and which of all rows they are."""
    offsets = np.asarray(data.offsets)
    for first in range(0, len(data.values), most):
        chosen = slice(first, min(first + most, len(data.values)))
        rows = np.arange(chosen.start, chosen.stop)
        owner = np.searchsorted(offsets, rows, side="right") - 1
        yield [data.ids[i] for i in owner], rows - offsets[owner], data.values[chosen], chosen


def _ranks(layout: Layout, runs: Sequence[tuple[str, int]]) -> Iterator[pd.DataFrame]:
    """One row a run, query and ranking."""
    for experiment, seed in runs:
        with open_store(layout.evaluation(experiment, seed), stage="evaluation") as store:
            queries, about = store.table("queries"), json.loads(store.array("metrics")[0])
        for column in (name for name in queries if str(name).startswith("rank_")):
            yield pd.DataFrame(
                {
                    **{"experiment": experiment, "seed": seed, "run": about.get("run", ""), "split": about["split"]},
                    **{name: queries[name].astype(str) for name in ("query_id", "video_id")},
                    "ranking": str(column).removeprefix("rank_"),
                    "rank": queries[column].astype(np.int64),
                }
            )


def _metrics(layout: Layout, runs: Sequence[tuple[str, int]]) -> Iterator[pd.DataFrame]:
    """One row a run, ranking, group of queries and measure; the group is empty for all queries."""
    for experiment, seed in runs:
        with open_store(layout.evaluation(experiment, seed), stage="evaluation") as store:
            about = json.loads(store.array("metrics")[0])
        named = {"experiment": experiment, "seed": seed, "run": about.get("run", ""), "split": about["split"]}
        of_groups = {"": about["recalls"], **about["groups"]}
        yield pd.DataFrame(
            [
                {**named, "group": group, "ranking": ranking, "measure": measure, "value": float(values[measure])}
                for group, rankings in of_groups.items()
                for ranking, values in rankings.items()
                if isinstance(values, dict)
                for measure in MEASURES
            ]
        )


def _write(path: Path, frames: Any, *, moments: bool = False) -> None:
    """Frames of one form, a row group each."""
    arrow, frames = _arrow(), iter(frames)
    first = next(frames)
    schema = arrow.Schema.from_pandas(first, preserve_index=False).remove_metadata()
    if moments:
        spans = arrow.list_(arrow.struct([("start", arrow.float64()), ("end", arrow.float64())]))
        schema = schema.set(schema.get_field_index("moments"), arrow.field("moments", spans))
    with _writer(path, schema) as put:
        for frame in (first, *frames):
            put(arrow.Table.from_pandas(frame, schema=schema, preserve_index=False))


@contextmanager
def _writer(path: Path, schema: Any, dictionary: Any = True) -> Iterator[Any]:
    """A Parquet file that appears whole; yields what writes a table as one row group."""
    from pyarrow.parquet import ParquetWriter

    with replacing(path) as temporary, ParquetWriter(temporary, schema, compression="zstd", use_dictionary=dictionary) as writer:
        yield lambda rows: writer.write_table(rows, row_group_size=max(1, len(rows)))
