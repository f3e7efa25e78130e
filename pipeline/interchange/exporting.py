"""From the store to the field's layouts: caption lists with HDF5 or big-file features, and npz folders."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.errors import BundleError, GridError
from pipeline.layout import Layout
from pipeline.progress import track
from pipeline.shards import assign
from pipeline.store import Ragged, create_foreign, open_store


@dataclass(frozen=True)
class Stored:
    """What is exported: the annotation tables, and the shards in which the features lie."""

    videos: pd.DataFrame
    queries: pd.DataFrame
    moments: Ragged
    shards: list[str]


def _stored(config: Config, layout: Layout, encoders: Sequence[str]) -> Stored:
    with open_store(layout.annotations, stage="annotations") as store:
        videos, queries, moments = store.table("videos"), store.table("queries"), store.ragged("moments")
    # The shards are those on disk: how the collection was cut does not matter here.
    names = sorted(path.stem for path in layout.features(encoders[0], "*").parent.glob("*.h5"))
    return Stored(videos, queries, moments, names or list(assign(videos["video_id"], config.video.shard_size)))


def features(layout: Layout, encoders: Sequence[str], shards: Sequence[str]) -> Iterator[tuple[str, np.ndarray]]:
    """(video id, rows [T, D]) of every stored video, the encoders' rows side by side. GridError when their rows differ in number or time."""
    for shard in shards:
        with ExitStack() as stack:
            opened = [stack.enter_context(open_store(layout.features(name, shard), stage="features")) for name in encoders]
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
    """`<video_id>#enc#<k>` for each query: its own id where it has that form, else counted within the video. BundleError on unusable ids."""
    bad = sorted({str(v) for v in queries["video_id"] if "#" in v or any(c.isspace() for c in v)})
    if bad:
        raise BundleError(
            "video ids with white space or `#` cannot stand in a caption list:\n  " + "\n  ".join(bad),
            fix="rename these videos, or export as npz",
        )
    own = [
        str(q).startswith(f"{v}#") and not any(c.isspace() for c in str(q))
        for q, v in zip(queries["query_id"], queries["video_id"], strict=True)
    ]
    if all(own):
        return [str(q) for q in queries["query_id"]]
    return [f"{v}#enc#{k}" for v, k in zip(queries["video_id"], queries.groupby("video_id").cumcount(), strict=True)]


def _lists(stored: Stored, cap_ids: list[str], target: Path, collection: str, rename: dict[str, str]) -> None:
    """The caption list of each split, and the release file with durations and moments beside them."""
    durations = dict(zip(stored.videos["video_id"], stored.videos["duration"], strict=True))
    for split, part in stored.queries.assign(cap_id=cap_ids).groupby("split", sort=False):
        name = rename.get(str(split), str(split))
        (target / "TextData" / f"{collection}{name}.caption.txt").write_text(
            "".join(f"{cap} {query}\n" for cap, query in zip(part["cap_id"], part["query"], strict=True)), encoding="utf-8"
        )
        rows = []
        for query_id, video, text in zip(part["query_id"], part["video_id"], part["query"], strict=True):
            if durations[video] > 0:
                rows += [
                    {"vid_name": video, "duration": durations[video], "ts": [float(a), float(b)], "desc": text}
                    for a, b in stored.moments[query_id]
                ]
        if rows:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (target / f"{collection}_{name}_release.jsonl").write_text(text, encoding="utf-8")


def _texts(layout: Layout, encoder: str, stored: Stored, cap_ids: list[str], put: Callable[[str, np.ndarray], None]) -> None:
    """Token rows, last one [EOS], under the caption ids."""
    with open_store(layout.text(encoder), stage="text") as store:
        tokens = store.ragged("tokens", lazy=True)
        missing = [q for q in stored.queries["query_id"] if q not in tokens]
        if missing:
            raise BundleError(
                "queries without text features:\n  " + "\n  ".join(missing), where=layout.text(encoder), fix="run the text stage again"
            )
        for query_id, cap_id in track(
            zip(stored.queries["query_id"], cap_ids, strict=True), total=len(cap_ids), label="text", unit="query"
        ):
            put(cap_id, tokens[query_id].astype(np.float32, copy=False))


def _bigfile(folder: Path, rows: Iterator[tuple[str, np.ndarray]]) -> None:
    """One float32 file of all rows, and the lists that say whose they are (METHODS 9.1)."""
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
    (folder / "id.txt").write_text(" ".join(ids), encoding="latin-1", errors="strict")
    (folder / "shape.txt").write_text(f"{len(ids)} {width}")
    (folder / "video2frames.txt").write_text(repr(listed), encoding="latin-1", errors="strict")


def export_captioned(
    config: Config,
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
    Errors: BundleError, GridError, StoreError. Source: METHODS 9.1, 9.2.
    """
    stored = _stored(config, layout, video)
    cap_ids = _cap_ids(stored.queries)
    (target / "TextData").mkdir(parents=True, exist_ok=True)
    _lists(stored, cap_ids, target, collection, rename or {})
    rows = track(features(layout, video, stored.shards), total=len(stored.videos), label="features", unit="video")
    if kind == "mssl":
        _bigfile(target / "FeatureData" / "+".join(video), rows)
        text_file = target / "TextData" / f"roberta_{collection}_query_feat.hdf5"
    else:
        text_file = target / "TextData" / f"{collection}_clip_L14.h5"
        with create_foreign(target / "FeatureData" / f"{collection}_clip_L14.h5") as put:
            for name, values in rows:
                put(name.removeprefix("v_") if collection == "activitynet" else name, values.astype(np.float32, copy=False))
    with create_foreign(text_file) as put:
        _texts(layout, text, stored, cap_ids, put)


def export_npz(config: Config, layout: Layout, target: Path, *, video: Sequence[str], text: str) -> None:
    """Write npz folders as moment_detr, HERO and lighthouse read them: `<encoder>/<video>.npz`, `text/qid<query>.npz`, `<split>.jsonl`.

    Errors: StoreError. Source: DATASETS 4.
    """
    stored = _stored(config, layout, video)
    for encoder in video:
        for name, values in track(features(layout, [encoder], stored.shards), total=len(stored.videos), label=encoder, unit="video"):
            path = target / encoder / f"{name}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, features=values)
    (target / "text").mkdir(parents=True, exist_ok=True)
    with open_store(layout.text(text), stage="text") as store:
        tokens = store.ragged("tokens")
        for i, query_id in enumerate(track(tokens.ids, label="text", unit="query")):
            arrays = {"last_hidden_state": tokens[query_id]}
            if "sentence" in tokens.items:
                arrays["pooler_output"] = tokens.items["sentence"][i]
            np.savez(target / "text" / f"qid{query_id}.npz", **arrays)
    durations = dict(zip(stored.videos["video_id"], stored.videos["duration"], strict=True))
    for split, part in stored.queries.groupby("split", sort=False):
        lines = [
            {
                "qid": int(query_id) if str(query_id).isdigit() else query_id,
                "query": query,
                "vid": video_id,
                "duration": float(durations[video_id]),
                "relevant_windows": stored.moments[query_id].tolist(),
            }
            for query_id, video_id, query in zip(part["query_id"], part["video_id"], part["query"], strict=True)
        ]
        text_lines = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (target / f"{split}.jsonl").write_text(text_lines, encoding="utf-8")
