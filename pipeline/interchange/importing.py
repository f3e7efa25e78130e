"""From an opened bundle to the store: annotations, features and text files that the later stages read as if they had been extracted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import pandas as pd

from pipeline.config import Config
from pipeline.errors import BundleError
from pipeline.interchange.bundle import Bundle, Caption, Rows, as_rows, text_key, video_key
from pipeline.interchange.checks import Findings, check, require
from pipeline.layout import Layout
from pipeline.progress import track
from pipeline.shards import assign
from pipeline.store import Ragged, create, write_json

Teacher = Literal["auto", "sentences", "last_token", "last_row", "none"]


def import_bundle(
    bundle: Bundle, config: Config, layout: Layout, *, video: str, text: str, teacher: Teacher = "auto", allow_missing: bool = False
) -> Findings:
    """Check a bundle, then write annotations.h5, features/<video>/*.h5 and text/<text>.h5; nothing is written when a check fails.

    Values keep their precision (float32 stays float32). Row i of T covers [i*d/T, (i+1)*d/T) of a video of d seconds, or the publisher's
    grid where it is fixed; without either its times are NaN. `teacher` says what the sentence vector of a query is: `sentences` stored
    beside the tokens, `last_token` (the last row that fits the word limit, which is what the released code takes for [EOS]), `last_row`
    of the file, or `none` (RoBERTa rows have none: TCPL then needs a `teacher` encoder). `auto`: sentences where there are any,
    last_token for MSC bundles, none for MS-SL ones.

    Errors: BundleError listing every problem. Source: METHODS 9.1-9.3.
    """
    findings = check(bundle, allow_missing=allow_missing)
    require(findings, layout.root)
    if teacher == "auto":
        teacher = "sentences" if bundle.sentences is not None else "none" if bundle.layout == "mssl" else "last_token"
    if teacher == "sentences" and bundle.sentences is None:
        raise BundleError(
            "the bundle holds no sentence vectors", where=layout.root, fix="choose another teacher: last_token, last_row or none"
        )
    recipe = {"bundle": bundle.collection, "layout": bundle.layout}
    _annotations(bundle, layout, recipe)
    _features(bundle, config, layout, video, recipe)
    _text(bundle, layout, text, {**recipe, "teacher": teacher, "max_words": config.model.max_words}, teacher, config.model.max_words)
    return findings


def _annotations(bundle: Bundle, layout: Layout, recipe: dict[str, Any]) -> None:
    split_of: dict[str, str] = {}
    owner: dict[str, str] = {}
    for split, captions in bundle.splits.items():
        for caption in captions:
            split_of.setdefault(caption.video_id, split)
            owner.setdefault(caption.query_id, split)
    captions = list(bundle.captions())
    videos = pd.DataFrame(
        {
            "video_id": list(split_of),
            "split": list(split_of.values()),
            "duration": [bundle.durations.get(video, float("nan")) for video in split_of],
        }
    )
    queries = pd.DataFrame(
        {
            "query_id": [c.query_id for c in captions],
            "video_id": [c.video_id for c in captions],
            "split": [owner[c.query_id] for c in captions],
            "query": [c.text for c in captions],
        }
    )
    spans = [np.asarray(c.moments, dtype=np.float64).reshape(-1, 2) for c in captions]
    moments = Ragged(
        [c.query_id for c in captions], np.cumsum([0, *(len(s) for s in spans)]), np.concatenate(spans) if spans else np.zeros((0, 2))
    )
    with create(layout.annotations, stage="annotations", recipe=recipe, gallery=bundle.collection) as writer:
        writer.table("videos", videos)
        writer.table("queries", queries)
        writer.ragged("moments", moments)


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


def _features(bundle: Bundle, config: Config, layout: Layout, encoder: str, recipe: dict[str, Any]) -> None:
    keys = {video: key for video in bundle.video_ids() if (key := video_key(video, bundle.videos)) is not None}
    dtype = _dtype(bundle.videos, list(keys.values()))
    about = {"encoder": encoder, "architecture": f"published:{bundle.layout}", "preprocessing": "published", "normalised": False}
    shards = assign(bundle.video_ids(), config.video.shard_size)
    for shard, videos in track(shards.items(), total=len(shards), label=f"features/{encoder}", unit="shard"):
        stored, rows, width = [video for video in videos if video in keys], 0, 0
        with create(layout.features(encoder, shard), stage="features", recipe=recipe, **about) as writer:
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


def _sentence(caption: Caption, tokens: np.ndarray, bundle: Bundle, teacher: Teacher, max_words: int) -> np.ndarray:
    if teacher == "sentences" and bundle.sentences is not None:
        key = text_key(caption, bundle.sentences)
        if key is None:
            raise BundleError("a caption has tokens but no sentence vector", where=caption.query_id, fix="choose another teacher")
        return as_rows(bundle.sentences[key])[0]
    return tokens[min(len(tokens), max_words) - 1] if teacher == "last_token" else tokens[-1]


def _text(bundle: Bundle, layout: Layout, encoder: str, recipe: dict[str, Any], teacher: Teacher, max_words: int) -> None:
    found: list[tuple[Caption, str]] = [(c, key) for c in bundle.captions() if (key := text_key(c, bundle.texts)) is not None]
    dtype = _dtype(bundle.texts, [key for _, key in found])
    truncated = 0

    def items() -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
        for caption, key in track(found, label=f"text/{encoder}", unit="query"):
            tokens = as_rows(bundle.texts[key]).astype(dtype, copy=False)
            item: dict[str, Any] = {"truncated": len(tokens) > max_words, "key": _key(tokens)}
            if teacher != "none":
                item["sentence"] = _sentence(caption, tokens, bundle, teacher, max_words).astype(dtype, copy=False)
            yield caption.query_id, tokens, item

    with create(layout.text(encoder), stage="text", recipe=recipe, encoder=encoder, architecture=f"published:{bundle.layout}") as writer:
        for query_id, tokens, item in items():
            writer.append("tokens", query_id, tokens, None, item)
            truncated += item["truncated"]
    write_json(
        layout.text_manifest(encoder), {"queries": len(found), "truncated": truncated, "stats": {"teacher": teacher, "dtype": str(dtype)}}
    )
