"""From an opened bundle to the store: annotations, features and text files that the later stages read as if they had been extracted."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.core.atomic import write_json
from pipeline.core.errors import BundleError
from pipeline.core.layout import Layout
from pipeline.core.progress import track
from pipeline.core.shards import USUAL, assign
from pipeline.core.store import create
from pipeline.datasets import readers, table
from pipeline.datasets.rows import Query, Video
from pipeline.datasets.rows import Rows as DatasetRows
from pipeline.datasets.table import Annotations
from pipeline.interchange.bundle import Bundle, Rows, as_rows, text_key, video_key
from pipeline.interchange.checks import Findings, check, require
from pipeline.interchange.teachers import Teacher


def import_bundle(
    bundle: Bundle,
    config: Config,
    layout: Layout,
    *,
    video: str,
    text: str,
    teacher: Teacher = "auto",
    annotations: Annotations | None = None,
    allow_missing: bool = False,
) -> Findings:
    """Check a bundle, then write features/<video>/*.h5, text/<text>.h5 and, unless given, annotations.h5; nothing when a check fails.

    `video` and `text` are the encoder names the files go under. With `annotations` these decide which videos and queries there are, and
    captions are found by their caption ids; they are read from the dataset's own files where the configuration names a benchmark and its
    annotations. Otherwise the bundle's caption lists become the annotations.
    Values keep their precision (float32 stays float32). Row i of T covers [i*d/T, (i+1)*d/T) of a video of d seconds, or the publisher's
    grid where it is fixed; without either its times are NaN. `teacher` says what the sentence vector of a query is: `sentences` stored
    beside the tokens, `last_token` (the last row that fits the word limit, which is what the released code takes for [EOS]), `last_row`
    of the file, or `none` (RoBERTa rows have none: TCPL then needs a `teacher` encoder). `auto`: sentences where there are any,
    last_token for MSC bundles, none for MS-SL ones.

    Errors: BundleError listing every problem. Source: docs/datasets.md, bundle layouts.
    """
    differing: list[str] = []
    if annotations is None and config.dataset.original and config.dataset.annotations:
        annotations = table.of(readers.annotated(config.dataset))
    if annotations is not None:
        bundle, differing = annotated(bundle, annotations)
    findings = check(bundle, allow_missing=allow_missing)
    findings.add("captions whose text differs between the annotations and the bundle", differing)
    require(findings, layout.root)
    if teacher == "auto":
        teacher = "sentences" if bundle.sentences is not None else "none" if bundle.layout == "mssl" else "last_token"
    if teacher == "sentences" and bundle.sentences is None:
        raise BundleError(
            "the bundle holds no sentence vectors", where=layout.root, fix="choose another teacher: last_token, last_row or none"
        )
    recipe = {"bundle": bundle.collection, "layout": bundle.layout}
    if annotations is None:
        found = table.of(_dataset_rows(bundle))
        table.save(layout.annotations, found, recipe=recipe, dataset=config.dataset.name, kind="bundle", notes=findings.notes)
    videos = bundle.video_ids() if annotations is None else [str(video) for video in annotations.videos["video_id"]]
    _features(bundle, config, layout, video, recipe, videos)
    _text(bundle, layout, text, {**recipe, "teacher": teacher, "max_words": config.model.max_words}, teacher, config.model.max_words)
    return findings


def annotated(bundle: Bundle, annotations: Annotations) -> tuple[Bundle, list[str]]:
    """The bundle with the videos, queries and times of `annotations` in place of its own, and the captions whose texts disagree."""
    own = {caption.cap_id: caption.text for caption in bundle.captions() if caption.cap_id}
    rows = table.rows_of(annotations)
    splits: dict[str, list[Query]] = {}
    for query in rows.queries:
        splits.setdefault(query.split, []).append(query)
    differing = [f"{q.cap_id}: {q.text!r} / {own[q.cap_id]!r}" for q in rows.queries if q.cap_id in own and own[q.cap_id] != q.text]
    durations = {video.video_id: video.duration for video in rows.videos if video.duration > 0}
    return replace(bundle, splits=splits, durations=bundle.durations | durations), differing


def _dataset_rows(bundle: Bundle) -> DatasetRows:
    """The bundle's caption lists as a dataset; a list that repeats an earlier one adds nothing."""
    split_of: dict[str, str] = {}
    for split, captions in bundle.splits.items():
        for caption in captions:
            split_of.setdefault(caption.video_id, split)
    videos = tuple(Video(video, split, bundle.durations.get(video, math.nan)) for video, split in split_of.items())
    return DatasetRows(videos, tuple(bundle.captions()), bundle.collection)


def _dtype(rows: Rows, keys: list[str]) -> np.dtype:
    """float16 when everything is stored so, else float32."""
    return np.dtype(np.float16 if all(rows.peek(key)[1] == np.float16 for key in keys) else np.float32)


def _times(rows: int, duration: float | None, every: float | None) -> tuple[np.ndarray, np.ndarray]:
    """Start and end in seconds of each of `rows` rows."""
    if every is not None:
        edges = np.arange(rows + 1) * every
    elif duration is not None:
        edges = np.linspace(0.0, duration, rows + 1)
    else:
        edges = np.full(rows + 1, np.nan)
    return edges[:-1], edges[1:]


def _key(array: np.ndarray) -> str:
    return "bundle-" + hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


def _features(bundle: Bundle, config: Config, layout: Layout, encoder: str, recipe: dict[str, Any], wanted: list[str]) -> None:
    keys = {video: key for video in wanted if (key := video_key(video, bundle.videos)) is not None}
    dtype = _dtype(bundle.videos, list(keys.values()))
    about = {"encoder": encoder, "architecture": f"published:{bundle.layout}", "preprocessing": "published", "normalised": False}
    asked = config.video.shard_size
    shards = assign(wanted, USUAL if asked == "auto" else asked)
    for shard, videos in track(shards.items(), total=len(shards), label=f"features/{encoder}", unit="shard"):
        stored, rows, width = [video for video in videos if video in keys], 0, 0
        with create(layout.features(encoder, shard), stage="features", recipe=recipe, shard=shard, **about) as writer:
            for video in stored:
                values = as_rows(bundle.videos[keys[video]]).astype(dtype, copy=False)
                duration = bundle.durations.get(video)
                start, end = _times(len(values), duration, bundle.every)
                length = float("nan") if duration is None else duration
                writer.append("features", video, values, {"start": start, "end": end}, {"key": _key(values), "duration": length})
                rows, width = rows + len(values), values.shape[1]
            writer.attrs(dim=width)
        stats = {"dtype": str(dtype), "dim": width, "missing": [video for video in videos if video not in keys]}
        write_json(layout.features_manifest(encoder, shard), {"videos": len(stored), "rows": rows, "quarantine": [], "stats": stats})


def _sentence(caption: Query, tokens: np.ndarray, bundle: Bundle, teacher: Teacher, max_words: int) -> np.ndarray:
    if teacher == "sentences" and bundle.sentences is not None:
        key = text_key(caption, bundle.sentences)
        if key is None:
            raise BundleError("a caption has tokens but no sentence vector", where=caption.query_id, fix="choose another teacher")
        return as_rows(bundle.sentences[key])[0]
    return tokens[min(len(tokens), max_words) - 1] if teacher == "last_token" else tokens[-1]


def _text(bundle: Bundle, layout: Layout, encoder: str, recipe: dict[str, Any], teacher: Teacher, max_words: int) -> None:
    keyed: list[tuple[Query, str]] = [(c, key) for c in bundle.captions() if (key := text_key(c, bundle.texts)) is not None]
    dtype = _dtype(bundle.texts, [key for _, key in keyed])
    truncated: list[str] = []
    rows = 0
    with create(layout.text(encoder), stage="text", recipe=recipe, encoder=encoder, architecture=f"published:{bundle.layout}") as writer:
        for caption, key in track(keyed, label=f"text/{encoder}", unit="query"):
            tokens = as_rows(bundle.texts[key]).astype(dtype, copy=False)
            item: dict[str, Any] = {"truncated": len(tokens) > max_words, "key": _key(tokens)}
            if teacher != "none":
                item["sentence"] = _sentence(caption, tokens, bundle, teacher, max_words).astype(dtype, copy=False)
            writer.append("tokens", caption.query_id, tokens, None, item)
            truncated += [caption.query_id] * (len(tokens) > max_words)
            rows += len(tokens)
    stats = {"teacher": teacher, "dtype": str(dtype)}
    write_json(layout.text_manifest(encoder), {"queries": len(keyed), "rows": rows, "truncated": truncated, "stats": stats})
