"""The frames stage: one shard's videos, decoded once for every stream, into one HDF5 per stream and a manifest.

First every wanted video is decoded into a spool beside the manifest, where finished ones survive a kill; then the spool is moved into
the HDF5 files in the order of the shard, so the bytes depend neither on interruptions nor on which process was faster.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.config.streams import Stream
from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.core.progress import Meter
from pipeline.core.provenance import UNUSABLE
from pipeline.core.source import Source
from pipeline.core.store import Ragged, Writer, create
from pipeline.video.grids import rows
from pipeline.video.pool import Job, Pool
from pipeline.video.quarantine import row
from pipeline.video.spool import Decoded, Spool


def run(
    config: Config,
    layout: Layout,
    shard: str,
    sources: list[Source],
    streams: dict[str, Stream],
    wanted: set[str],
    recipe: dict[str, Any],
    *,
    workers: int = 1,
) -> None:
    """Decode the `wanted` videos of a shard, by `recipe` (jobs.recipes.frames).

    Writes, per stream, frames/<stream>/<shard>.h5: ragged `frames` (uint8 [M, S, S, 3] RGB, column `time` s) and ragged `windows`
    (int32 [N, count] rows of that video's frames, columns `start`, `end` s; items fingerprint, duration s, decoder, reason, origin s);
    both are there, without items, when no video is wanted. And frames/<shard>.json: videos, quarantine, skipped.
    """
    spool = Spool(layout.frames_manifest(shard).with_name(f".{shard}.spool"), recipe)
    chosen = [source for source in sources if source.video_id in wanted]
    quarantine = _decode(config, chosen, streams, spool, workers)
    videos: dict[str, Any] = {}
    with ExitStack() as stack:
        writers = {}
        for name, stream in streams.items():
            made_by = {"stream": stream.recipe, "decoding": recipe["decoding"]}
            writers[name] = stack.enter_context(
                create(layout.frames(name, shard), stage="frames", recipe=made_by, shard=shard, **versions())
            )
        bad = {entry["id"] for entry in quarantine}
        for source in chosen:
            if source.video_id not in bad:
                done = spool.take(source)
                counts = {name: _append(writers[name], source, stream, done) for name, stream in streams.items()}
                videos[source.video_id] = {**done.about, "rows": counts}
                done.remove()
        for name, stream in streams.items():
            if not videos:
                _empty(writers[name], stream)
    skipped = sorted({source.video_id for source in sources} - wanted)
    write_json(layout.frames_manifest(shard), {"videos": videos, "quarantine": quarantine, "skipped": skipped})
    spool.remove()


def versions() -> dict[str, str]:
    """The decoders' versions, for attributes."""
    import av

    return {"decord": version("decord"), "pyav": version("av"), "libavcodec": ".".join(map(str, av.library_versions["libavcodec"]))}


def _decode(config: Config, sources: list[Source], streams: dict[str, Stream], spool: Spool, workers: int) -> list[dict[str, Any]]:
    """Decode what the spool does not hold yet; returns the quarantine rows, in the order of the shard."""
    settings = config.video
    todo = {source.video_id: source for source in sources if (done := spool.find(source)) is None or not done.sound()}
    jobs = [
        Job(
            video_id=source.video_id,
            paths=source.paths,
            streams={name: stream.recipe for name, stream in streams.items()},
            folder=spool.begin(source),
            frames_fps=settings.frames_fps,
            keep_truncated=settings.keep_truncated,
            decoder=settings.decoder,
        )
        for source in todo.values()
    ]
    bad: dict[str, dict[str, Any]] = {}
    pool = Pool(workers, timeout=settings.timeout, timeout_per_second=settings.timeout_per_second, memory_mb=settings.memory_mb)
    with pool, Meter(len(jobs), "decode", "video") as meter:
        for outcome in pool.run(jobs):
            source = todo[outcome.job.video_id]
            if not outcome.code and source.fingerprint.startswith(UNUSABLE):
                # It came while the run was at work. What is stored under that fingerprint would be taken for any other such file's.
                outcome = replace(
                    outcome, code="MISSING", message="it could not be read when the run began; run again", path=source.paths[0]
                )
            if outcome.code:
                shutil.rmtree(outcome.job.folder, ignore_errors=True)
                bad[source.video_id] = row(source.video_id, outcome.path, outcome.code, outcome.message, outcome.decoder)
            else:
                spool.keep(source, outcome)
            meter.update(1, f"{len(bad)} unusable" if bad else "")
    return [bad[source.video_id] for source in sources if source.video_id in bad]


def _append(writer: Writer, source: Source, stream: Stream, done: Decoded) -> int:
    """Move one video into a stream's file; returns its rows."""
    start, end = rows(done.about["duration"], stream.every)
    name = stream.name
    writer.append("frames", source.video_id, done.frames(name, stream.size), {"time": done.array(name, "time")})
    items = {key: done.about[key] for key in ("fingerprint", "duration", "decoder", "reason", "origin")}
    writer.append("windows", source.video_id, done.array(name, "windows"), {"start": start, "end": end}, items)
    return len(start)


def _empty(writer: Writer, stream: Stream) -> None:
    """Both groups without items: a Writer makes a group with its first item, and readers should not have to care."""
    none, text, zero = np.zeros(0), np.zeros(0, dtype=object), np.zeros(1, np.int64)
    writer.ragged("frames", Ragged([], zero, np.zeros((0, stream.size, stream.size, 3), np.uint8), {"time": none}))
    items = {"fingerprint": text, "duration": none, "decoder": text, "reason": text, "origin": none}
    writer.ragged("windows", Ragged([], zero, np.zeros((0, stream.count), np.int32), {"start": none, "end": none}, items))
