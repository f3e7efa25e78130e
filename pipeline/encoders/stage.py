"""Features of videos and states of queries: from the stored frames and annotations, through one encoder, into the store."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.core.atomic import write_json
from pipeline.core.errors import EncoderError, StoreError, StoreMissing
from pipeline.core.layout import Layout
from pipeline.core.lease import device as leased
from pipeline.core.progress import Meter, track
from pipeline.core.shards import ShardStore, key, parts
from pipeline.core.source import Source
from pipeline.core.store import Ragged, Reader, open_store, recipe_hash
from pipeline.encoders import base, batching
from pipeline.encoders.base import VideoEncoder
from pipeline.encoders.batch_size import BatchSize, find_batch
from pipeline.encoders.batching import Stats, VideoRows

FLUSH_EVERY = 20.0  # seconds of finished work a kill may cost
TEXT_CHUNK = 2048  # captions between two looks at the clock


def run_video(
    config: Config, layout: Layout, encoder: str, shard: str, sources: list[Source], recipe: dict[str, Any], trace: str = ""
) -> None:
    """Features of one shard's videos by one encoder and `recipe` (jobs.recipes.features): features/<encoder>/<shard>.h5 and its manifest.

    Videos whose features are already stored (same content, same recipe) are kept; those in the frames' quarantine are carried into the
    manifest, as is `trace`, by which the workflow knows which job made it.
    Errors: WeightsError, EncoderError, DeviceError, StoreError (frames missing or of another content).
    """
    path = layout.features(encoder, shard)
    store = ShardStore(path, stage="features", recipe=recipe, group="features")
    quarantine = json.loads(layout.frames_manifest(shard).read_text())["quarantine"]
    dropped = {entry["id"] for entry in quarantine}
    good = [source for source in sources if source.video_id not in dropped]
    keys = {source.video_id: key(source.fingerprint, recipe) for source in good}
    missing = set(store.missing(keys))
    todo = [source for source in good if source.video_id in missing]
    stats, attrs = Stats(), _previous([path, *parts(path).glob("*.h5")], recipe_hash(recipe))
    if todo or (good and attrs is None):
        with leased(config.runtime.device, share=config.runtime.share_gpu) as device:
            model = base.load(config.network(encoder), device, encoder)
            attrs = _attributes(config, encoder, model)
            stats = _encode(config, layout, encoder, shard, todo, model, store, recipe, len(dropped)) if todo else stats
    # How long it took is in the manifest alone: the same inputs give the same bytes.
    counts = {"shard": shard, "videos": len(good), "quarantined": len(quarantine)}
    rows = store.finish(keys, **{**(attrs or _empty(config, encoder)), "encoder": encoder}, **counts)
    manifest = {
        "videos": len(good),
        "rows": rows,
        "computed": len(todo),
        "quarantine": quarantine,
        "trace": trace,
        "stats": stats.as_dict(),
    }
    write_json(layout.features_manifest(encoder, shard), manifest)


def _attributes(config: Config, encoder: str, model: VideoEncoder) -> dict[str, Any]:
    return {
        "encoder": encoder,
        "architecture": config.network(encoder).architecture,
        "weights_sha256": model.weights.sha256 if model.weights else "",
        "preprocessing": model.preprocessing,
        "dim": model.dim,
        "normalised": False,
    }


def _empty(config: Config, encoder: str) -> dict[str, Any]:
    """Attributes of a shard without a single usable video: no model was loaded for it."""
    return {"encoder": encoder, "architecture": config.network(encoder).architecture, "dim": 0, "normalised": False}


def _previous(files: Iterable[Path], recipe: str, stage: str = "features") -> dict[str, Any] | None:
    """The stage's own attributes of a finished file that is there, for when nothing is computed; None when there is none of the recipe."""
    names = ("encoder", "architecture", "weights_sha256", "preprocessing", "dim", "normalised", "teacher")
    for file in files:
        with suppress(StoreError), open_store(file, stage=stage) as store:
            if store.attrs["recipe_hash"] == recipe and "encoder" in store.attrs:
                return {name: store.attrs[name] for name in names if name in store.attrs}
    return None


def _encode(
    config: Config,
    layout: Layout,
    encoder: str,
    shard: str,
    todo: list[Source],
    model: VideoEncoder,
    store: ShardStore,
    recipe: dict[str, Any],
    unusable: int,
) -> Stats:
    stream = config.network(encoder).stream
    with open_store(layout.frames(stream.name, shard), stage="frames", shard=shard, recipe=recipe) as frames:
        windows = frames.ragged("windows")
        pixels = frames.ragged("frames", lazy=True)
        videos = [_video(source, windows, pixels, frames) for source in todo]
        shape = (*([stream.count] if stream.count > 1 else []), *pixels.values.shape[1:])
        size = BatchSize(config.runtime.batch_size or find_batch(model.encode, shape, model.device))
        fingerprints = {source.video_id: source.fingerprint for source in todo}
        flushed = time.monotonic()

        def write(video_id: str, rows: np.ndarray) -> None:
            nonlocal flushed
            place = windows.rows(video_id)
            with np.errstate(over="ignore"):
                values = rows.astype(np.float16)
            if not np.isfinite(values).all():
                raise EncoderError(
                    f"{encoder}: the features of {video_id!r} are not finite in float16",
                    fix="set precision: fp32 (or bf16); check the weights",
                )
            store.add(
                video_id,
                key(fingerprints[video_id], recipe),
                values,
                {"start": windows.columns["start"][place], "end": windows.columns["end"][place]},
                {"duration": windows.items["duration"][windows.index[video_id]]},
            )
            if time.monotonic() - flushed > FLUSH_EVERY:
                store.flush()
                flushed = time.monotonic()

        with Meter(sum(video.rows for video in videos), f"{encoder} {shard}", "rows") as meter:

            def report(stats: Stats, rows: int) -> None:
                trouble = f", {unusable} unusable" if unusable else ""
                trouble += f", out of memory {stats.halved}x" if stats.halved else ""
                meter.update(rows, f"{stats.videos}/{len(videos)} videos, idle {stats.idle:.0%}, batch {stats.batch}{trouble}")

            return batching.run(videos, model.encode, size, write, pin=model.device.type == "cuda", report=report)


def _video(source: Source, windows: Ragged, pixels: Ragged, frames: Reader) -> VideoRows:
    """A video's rows as the encoder takes them: stills uint8 [n, S, S, 3], windows uint8 [n, k, S, S, 3].

    Errors: StoreMissing when the frames are not there or were decoded from another content.
    """
    video_id = source.video_id
    if video_id not in windows or windows.items["fingerprint"][windows.index[video_id]] != source.fingerprint:
        raise StoreMissing(
            f"no frames of the present content of {video_id!r}",
            where=frames.path,
            fix="run the workflow again: it decodes the video once more",
        )
    index, first = windows[video_id], pixels.rows(video_id).start

    def read(start: int, stop: int) -> np.ndarray:
        wanted = index[start:stop]
        low, high = int(wanted.min()), int(wanted.max()) + 1
        rows = np.asarray(pixels.values[first + low : first + high])[wanted - low]
        return rows[:, 0] if index.shape[1] == 1 else rows

    return VideoRows(video_id, len(index), read)


def run_text(config: Config, layout: Layout, encoder: str, recipe: dict[str, Any], trace: str = "") -> None:
    """Token states and sentence vectors of every query: text/<encoder>.h5 and its manifest, which carries `trace` as that of features does.

    A query whose text did not change is kept. Attribute `teacher`: `last` where a sentence is made from its last token's state, else
    `sentence` (ranking/data.py). Errors: WeightsError, EncoderError, DeviceError.
    """
    started = time.monotonic()
    with open_store(layout.annotations, stage="annotations") as store:
        queries = store.table("queries")
    ids, texts = [str(i) for i in queries["query_id"]], [str(q) for q in queries["query"]]
    keys = {i: key(hashlib.sha256(text.encode()).hexdigest()[:16], recipe) for i, text in zip(ids, texts, strict=True)}
    shard = ShardStore(layout.text(encoder), stage="text", recipe=recipe, group="tokens")
    missing = set(shard.missing(keys))
    todo = [(i, text) for i, text in zip(ids, texts, strict=True) if i in missing]
    attrs = _previous([layout.text(encoder), *parts(layout.text(encoder)).glob("*.h5")], recipe_hash(recipe), stage="text")
    if todo or attrs is None:
        with leased(config.runtime.device, share=config.runtime.share_gpu) as device:
            settings = config.network(encoder)
            model = base.load_text(settings, device, encoder)
            attrs = {"encoder": encoder, "architecture": settings.architecture, "normalised": False}
            attrs["teacher"] = "last" if model.sentence_is_last else "sentence"
            chunks = [todo[i : i + TEXT_CHUNK] for i in range(0, len(todo), TEXT_CHUNK)]
            for chunk in track(chunks, label=f"{encoder} queries", unit=f"x{TEXT_CHUNK}"):
                for (query_id, _), caption in zip(chunk, model.encode_texts([text for _, text in chunk]), strict=True):
                    items = {"sentence": caption.sentence.numpy().astype(np.float16), "truncated": caption.truncated}
                    shard.add(query_id, keys[query_id], caption.states.numpy().astype(np.float16), items=items)
                shard.flush()
    rows = shard.finish(keys, **attrs)
    with open_store(layout.text(encoder), stage="text") as store:
        flags = store.ragged("tokens", lazy=True).items["truncated"] if ids else np.zeros(0, bool)
    truncated = [i for i, flag in zip(ids, flags, strict=True) if flag]
    stats = {"seconds": round(time.monotonic() - started, 3), "computed": len(todo)}
    write_json(layout.text_manifest(encoder), {"queries": len(ids), "rows": rows, "truncated": truncated, "trace": trace, "stats": stats})
