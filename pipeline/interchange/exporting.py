"""From the store to the field's layouts: caption lists with HDF5 or big-file features, and npz folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.errors import BundleError, GridError
from pipeline.core.layout import Layout
from pipeline.core.progress import track
from pipeline.core.store import AGAIN, create_foreign, open_store
from pipeline.datasets import caption_list, table
from pipeline.datasets.table import Annotations
from pipeline.interchange.bundle import leaves


def _shards(layout: Layout, encoder: str) -> list[str]:
    """The shards on disk: how the collection was cut does not matter here."""
    return sorted(path.stem for path in layout.features(encoder, "*").parent.glob("*.h5"))


def features(layout: Layout, encoders: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """(video id, rows [T, D]) of every stored video, the encoders' rows side by side. GridError when the grids differ."""
    for shard in _shards(layout, encoders[0]):
        with ExitStack() as stack:
            opened = [
                stack.enter_context(open_store(layout.features(name, shard), stage="features", encoder=name, shard=shard))
                for name in encoders
            ]
            if any("features" not in store for store in opened):
                continue  # a shard without videos
            data = [store.ragged("features", lazy=True) for store in opened]
            for video in data[0].ids:
                if not all(video in other for other in data[1:]):
                    continue
                starts = [other.columns["start"][other.rows(video)] for other in data]
                for name, start in zip(encoders[1:], starts[1:], strict=True):
                    if len(start) != len(starts[0]) or not np.allclose(start, starts[0], atol=1e-3, equal_nan=True):
                        raise GridError(
                            f"{video}: {len(starts[0])} rows of {encoders[0]} and {len(start)} rows of {name} are not of one grid",
                            where=layout.features(name, shard),
                            fix="extract both with the same `sampling.every`",
                        )
                yield video, np.concatenate([other[video] for other in data], axis=1)


def _cap_ids(queries: pd.DataFrame) -> list[str]:
    """The caption id of each query: the annotations' own, or the query id where it has that form, or counted within the video."""
    counted = [f"{v}#enc#{k}" for v, k in zip(queries["video_id"], queries.groupby("video_id").cumcount(), strict=True)]
    for column in ("cap_id", "query_id"):
        own = list(queries[column])
        if all(str(c).startswith(f"{v}#enc#") for c, v in zip(own, queries["video_id"], strict=True)) and len(set(own)) == len(own):
            return own
    return counted


def _stay(names: Iterable[str], target: Path) -> None:
    """BundleError listing every id or name that would be written outside `target`."""
    if out := [name for name in names if leaves(name)]:
        raise BundleError(
            "ids that lead out of the folder:\n  " + "\n  ".join(out), where=target, fix="give these videos or queries other ids"
        )


def _lists(annotations: Annotations, cap_ids: list[str], target: Path, collection: str, rename: dict[str, str]) -> None:
    """The caption list of each split, and the release file with durations and moments beside them."""
    durations = dict(zip(annotations.videos["video_id"], annotations.videos["duration"], strict=True))
    for split, part in annotations.queries.assign(cap=cap_ids).groupby("split", sort=False):
        name = rename.get(str(split), str(split))
        captions = [caption_list.Caption(cap, text) for cap, text in zip(part["cap"], part["query"], strict=True)]
        caption_list.write(target / "TextData" / f"{collection}{name}.caption.txt", captions)
        rows = [
            {"vid_name": video, "duration": float(durations[video]), "ts": [float(a), float(b)], "desc": text}
            for query_id, video, text in zip(part["query_id"], part["video_id"], part["query"], strict=True)
            if durations[video] > 0
            for a, b in annotations.moments[query_id]
        ]
        if rows:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (target / f"{collection}_{name}_release.jsonl").write_text(text, encoding="utf-8")


def _texts(layout: Layout, encoder: str, queries: pd.DataFrame, cap_ids: list[str], put: Callable[[str, np.ndarray], None]) -> None:
    """Token rows, last one [EOS], under the caption ids."""
    with open_store(layout.text(encoder), stage="text") as store:
        tokens = store.ragged("tokens", lazy=True)
        missing = [q for q in queries["query_id"] if q not in tokens]
        if missing:
            raise BundleError("queries without text features:\n  " + "\n  ".join(missing), where=layout.text(encoder), fix=AGAIN)
        for query_id, cap_id in track(zip(queries["query_id"], cap_ids, strict=True), total=len(cap_ids), label="text", unit="query"):
            put(cap_id, tokens[query_id].astype(np.float32, copy=False))


def _bigfile(folder: Path, rows: Iterator[tuple[str, np.ndarray]]) -> None:
    """One float32 file of all rows, and the lists that say whose they are (docs/datasets.md, bundle layouts)."""
    folder.mkdir(parents=True, exist_ok=True)
    ids: list[str] = []
    listed: dict[str, list[str]] = {}
    width = 0
    with (folder / "feature.bin").open("wb") as file:
        for video, values in rows:
            listed[video] = [f"{video}_{i}" for i in range(len(values))]
            ids += listed[video]
            width = values.shape[1]
            file.write(np.ascontiguousarray(values, dtype="<f4").tobytes())
    foreign = [name for name in listed if not all(ord(c) < 256 for c in name)]
    if foreign:
        raise BundleError(
            "video ids outside latin-1, which this layout is written in:\n  " + "\n  ".join(foreign), fix="export as msc or npz"
        )
    (folder / "id.txt").write_text(" ".join(ids), encoding="latin-1")
    (folder / "shape.txt").write_text(f"{len(ids)} {width}")
    (folder / "video2frames.txt").write_text(repr(listed), encoding="latin-1")


def export_captioned(
    layout: Layout,
    target: Path,
    *,
    video: Sequence[str],
    text: str,
    collection: str,
    kind: str = "msc",
    rename: dict[str, str] | None = None,
) -> None:
    """Write a bundle that the released MSC (`kind` msc) or MS-SL (`mssl`) code reads: features float32, tokens, caption lists, moments.

    Several `video` encoders are set side by side, as on QVHighlights. `rename` maps our split names to the released ones: that code
    evaluates `val`, so a test split goes out with {"val": "dev", "test": "val"}. ActivityNet's HDF5 keys lose their `v_`.
    Errors: BundleError, DatasetError, GridError, StoreError. Source: docs/datasets.md, bundle layouts.
    """
    annotations = table.load(layout.annotations)
    cap_ids = _cap_ids(annotations.queries)
    if "/" in collection or leaves(collection):
        raise BundleError(f"{collection!r} cannot be part of a file's name", fix="give another --collection")
    _stay([*annotations.videos["video_id"], *cap_ids], target)
    (target / "TextData").mkdir(parents=True, exist_ok=True)
    _lists(annotations, cap_ids, target, collection, rename or {})
    rows = track(features(layout, video), total=len(annotations.videos), label="features", unit="video")
    if kind == "mssl":
        _bigfile(target / "FeatureData" / "+".join(video), rows)
        text_file = target / "TextData" / f"roberta_{collection}_query_feat.hdf5"
    else:
        text_file = target / "TextData" / f"{collection}_clip_L14.h5"
        with create_foreign(target / "FeatureData" / f"{collection}_clip_L14.h5") as put:
            for name, values in rows:
                put(name.removeprefix("v_") if collection == "activitynet" else name, values.astype(np.float32, copy=False))
    with create_foreign(text_file) as put:
        _texts(layout, text, annotations.queries, cap_ids, put)


def export_npz(layout: Layout, target: Path, *, video: Sequence[str], text: str) -> None:
    """Write npz folders as moment_detr, HERO and lighthouse read them: `<encoder>/<video>.npz`, `text/qid<query>.npz`, `<split>.jsonl`.

    Errors: StoreError. Source: docs/datasets.md, bundle layouts.
    """
    annotations = table.load(layout.annotations)
    _stay([*annotations.videos["video_id"], *annotations.queries["query_id"]], target)
    for encoder in video:
        for name, values in track(features(layout, [encoder]), total=len(annotations.videos), label=encoder, unit="video"):
            path = target / encoder / f"{name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, features=values)
    with open_store(layout.text(text), stage="text") as store:
        tokens = store.ragged("tokens")
        for i, query_id in enumerate(track(tokens.ids, label="text", unit="query")):
            arrays: dict[str, Any] = {"last_hidden_state": tokens[query_id]}
            if "sentence" in tokens.items:
                arrays["pooler_output"] = tokens.items["sentence"][i]
            path = target / "text" / f"qid{query_id}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **arrays)
    durations = dict(zip(annotations.videos["video_id"], annotations.videos["duration"], strict=True))
    for split, part in annotations.queries.groupby("split", sort=False):
        lines = [
            {
                "qid": int(query_id) if str(query_id).isdigit() else query_id,
                "query": query,
                "vid": video_id,
                "duration": float(durations[video_id]) if durations[video_id] > 0 else None,
                "relevant_windows": annotations.moments[query_id].tolist(),
            }
            for query_id, video_id, query in zip(part["query_id"], part["video_id"], part["query"], strict=True)
        ]
        text_lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (target / f"{split}.jsonl").write_text(text_lines, encoding="utf-8")
