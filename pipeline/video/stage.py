"""The frames stage: one shard's videos, decoded once for every stream, into one HDF5 per stream and a manifest; or to whoever reads them.

First every wanted video is decoded into a spool beside the manifest, where finished ones survive a kill; then the spool is moved into
the HDF5 files in the order of the shard, so the bytes depend neither on interruptions nor on which process was faster. Streamed, rows
go from the decoding processes to the encoders through pipes, and never lie on a disk.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.config.streams import Stream
from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.core.progress import Meter
from pipeline.core.provenance import UNUSABLE
from pipeline.core.source import Frames, Reading, Source
from pipeline.core.store import Ragged, Writer, create
from pipeline.video.grids import rows
from pipeline.video.messages import Again, Event, Job, Outcome, Row
from pipeline.video.pool import Pool
from pipeline.video.quarantine import row
from pipeline.video.spool import Decoded, Spool, about


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
    spool = Spool(layout.spool(shard), recipe)
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
    todo = [source for source in sources if (done := spool.find(source)) is None or not done.sound()]
    bad: dict[str, dict[str, Any]] = {}
    for source, outcome in _decoded(config, todo, {source.video_id: streams for source in todo}, workers, folder=spool.begin):
        assert isinstance(outcome, Outcome)
        assert outcome.job.folder is not None
        if outcome.code:
            shutil.rmtree(outcome.job.folder, ignore_errors=True)
            bad[source.video_id] = _unusable(outcome)
        else:
            spool.keep(source, outcome)
    return [bad[source.video_id] for source in sources if source.video_id in bad]


@dataclass
class Decoding:
    """The videos of a shard, streamed to who encodes them; when they have ended, `videos` and `quarantine` are as manifests hold them."""

    config: Config
    workers: int = 1
    videos: dict[str, Any] = field(default_factory=dict)
    quarantine: dict[str, dict[str, Any]] = field(default_factory=dict)

    def frames(self, sources: list[Source], streams: Mapping[str, Mapping[str, Stream]], stop: threading.Event) -> Generator[Frames]:
        """Decode each video for its streams (video id -> name -> stream); all rows as they come, until `stop` is set.

        Errors: see `Pool.run`.
        """
        readings: dict[str, Reading] = {}
        for source, event in _decoded(self.config, sources, streams, self.workers, stop=stop):
            before = readings.get(source.video_id)
            if isinstance(event, Row):
                assert before is not None  # every reading begins with Again
                stream = streams[source.video_id][event.stream]
                shape = (1, *([stream.count] if stream.count > 1 else []), stream.size, stream.size, 3)
                yield Frames(before, stream.name, event.frames.reshape(shape))
            elif isinstance(event, Outcome) and not event.code:
                assert before is not None
                yield from self._ended(before, source, event, streams[source.video_id])
            else:
                if before is not None:
                    before.failed = True
                if isinstance(event, Again):
                    readings[source.video_id] = Reading(source.video_id)
                else:
                    self.quarantine[source.video_id] = _unusable(event)

    def _ended(self, reading: Reading, source: Source, outcome: Outcome, streams: Mapping[str, Stream]) -> Iterator[Frames]:
        reading.duration = outcome.duration
        reading.times = {name: rows(outcome.duration, stream.every) for name, stream in streams.items()}
        counts = {name: len(start) for name, (start, _) in reading.times.items()}
        self.videos[source.video_id] = {**about(source, outcome), "rows": counts}
        for name in streams:
            yield Frames(reading, name, None)


def _decoded(
    config: Config,
    sources: list[Source],
    streams: Mapping[str, Mapping[str, Stream]],
    workers: int,
    *,
    folder: Callable[[Source], Path | None] = lambda source: None,
    stop: threading.Event | None = None,
) -> Iterator[tuple[Source, Event]]:
    """Decode every video for its streams (video id -> name -> stream), into its `folder` if it is given one: what comes of each."""
    settings, named = config.video, {source.video_id: source for source in sources}
    jobs = [
        Job(
            video_id=source.video_id,
            paths=source.paths,
            streams={name: stream.recipe for name, stream in streams[source.video_id].items()},
            folder=folder(source),
            frames_fps=settings.frames_fps,
            keep_truncated=settings.keep_truncated,
            decoder=settings.decoder,
        )
        for source in sources
    ]
    patience = {"timeout": settings.timeout, "timeout_per_second": settings.timeout_per_second}
    bad = 0
    with Pool(workers, **patience, memory_mb=settings.memory_mb, stop=stop) as pool, Meter(len(jobs), "decode", "video") as meter:
        for event in pool.run(jobs):
            source = named[event.job.video_id]
            if isinstance(event, Outcome):
                if not event.code and source.fingerprint.startswith(UNUSABLE):
                    # It came while the run was at work. What is stored under that fingerprint would be taken for any other such file's.
                    message = "it could not be read when the run began; run again"
                    event = replace(event, code="MISSING", message=message, path=source.paths[0])
                bad += bool(event.code)
                meter.update(1, f"{bad} unusable" if bad else "")
            yield source, event


def _unusable(outcome: Outcome) -> dict[str, Any]:
    return row(outcome.job.video_id, outcome.path, outcome.code, outcome.message, outcome.decoder)


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
