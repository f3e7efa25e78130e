"""Features of videos: from the stored frames, or those that are being decoded, through encoders, into the store."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.core.atomic import write_json
from pipeline.core.errors import EncoderError, StoreMissing
from pipeline.core.layout import Layout
from pipeline.core.lease import device as leased
from pipeline.core.progress import Meter
from pipeline.core.shards import ShardStore, key, parts
from pipeline.core.source import Frames, Reading, Source
from pipeline.core.store import Ragged, open_store, recipe_hash
from pipeline.core.store import Reader as StoreReader
from pipeline.encoders import attributes, base, batching
from pipeline.encoders.base import VideoEncoder
from pipeline.encoders.batch_size import BatchSize, find_batch
from pipeline.encoders.batching import Encoding, Stats

FLUSH_EVERY = 20.0  # seconds of finished work a kill may cost
READ = 8  # rows read of a store at a time

# Gives the frames of the videos that encoders lack (encoder -> videos), until the event is set.
Reader = Callable[[Mapping[str, list[Source]], threading.Event], Generator[Frames]]


def run_video(
    config: Config,
    layout: Layout,
    encoder: str,
    shard: str,
    sources: list[Source],
    recipe: dict[str, Any],
    trace: str = "",
    fed: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Features of one shard's videos by one encoder and `recipe` (jobs.recipes.features): features/<encoder>/<shard>.h5 and its manifest.

    Videos whose features are already stored (same content, same recipe) are kept, and all others are encoded from their stored frames;
    those in the frames' quarantine are carried into the manifest, as is `trace`, by which the workflow knows which job made it, and what
    was `fed` to the encoder before (as `feed` gives it).
    Errors: WeightsError, EncoderError, DeviceError, StoreError (frames missing or of another content).
    """
    quarantine = json.loads(layout.frames_manifest(shard).read_text())["quarantine"]
    dropped = {entry["id"] for entry in quarantine}
    made = _Features(config, layout, encoder, shard, [source for source in sources if source.video_id not in dropped], recipe)
    with ExitStack() as stack:
        rows, read = 0, _nothing
        if made.todo:
            place = layout.frames(made.stream.name, shard)
            frames = stack.enter_context(open_store(place, stage="frames", shard=shard, recipe=recipe))
            rows, read = _count(frames, made.todo), lambda todo, stop: _stored(frames, made.stream.name, todo[encoder])
        stats = _encode(config, [made], read, rows, len(dropped))
    # How long it took is in the manifest alone: the same inputs give the same bytes.
    counts = {"shard": shard, "videos": len(made.keys), "quarantined": len(quarantine)}
    attrs = {**(made.attrs or attributes.empty(config, encoder)), "encoder": encoder}
    manifest = {
        "videos": len(made.keys),
        "rows": made.store.finish(made.keys, **attrs, **counts),
        "computed": len(made.todo),
        "quarantine": quarantine,
        "trace": trace,
        "stats": stats.get(encoder, Stats()).as_dict(),
    }
    write_json(layout.features_manifest(encoder, shard), {**manifest, **fed})


def feed(
    config: Config, layout: Layout, shard: str, sources: list[Source], recipes: Mapping[str, dict[str, Any]], read: Reader
) -> dict[str, dict[str, Any]]:
    """Encode what `read` gives of these videos with every encoder that lacks some (encoder -> recipe), each into its own store.

    The stores are finished by each encoder's `run_video`. Returns what the manifest of every encoder that had something to do says of it.
    Errors: as those of `run_video`, and of `read`.
    """
    made = [_Features(config, layout, encoder, shard, sources, recipe) for encoder, recipe in recipes.items()]
    made = [each for each in made if each.todo]
    stats = _encode(config, made, read)
    for each in made:
        each.store.flush()
    return {encoder: {"computed": each.videos, "stats": each.as_dict()} for encoder, each in stats.items()}


class _Features:
    """One encoder's features of a shard: what its store lacks of these videos, and how they come into it."""

    def __init__(self, config: Config, layout: Layout, encoder: str, shard: str, sources: list[Source], recipe: dict[str, Any]) -> None:
        self.config, self.encoder, self.shard, self.stream = config, encoder, shard, config.network(encoder).stream
        path = layout.features(encoder, shard)
        self.store = ShardStore(path, stage="features", recipe=recipe, group="features")
        self.keys = {source.video_id: key(source.fingerprint, recipe) for source in sources}
        missing = set(self.store.missing(self.keys))
        self.todo = [source for source in sources if source.video_id in missing]
        self.attrs = attributes.previous([path, *parts(path).glob("*.h5")], recipe_hash(recipe))
        self._flushed = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether no model has to be loaded for it."""
        return not self.todo and (self.attrs is not None or not self.keys)

    def encoding(self, model: VideoEncoder, meter: Meter, unusable: int) -> Encoding:
        """Its encoder at work; progress goes to `meter`."""
        stream = self.stream
        self.attrs = self.store.attrs = attributes.of(self.config, self.encoder, model)
        shape = (*([stream.count] if stream.count > 1 else []), stream.size, stream.size, 3)

        def report(stats: Stats, rows: int) -> None:
            trouble = f", {unusable} unusable" if unusable else ""
            trouble += f", out of memory {stats.halved}x" if stats.halved else ""
            meter.update(rows, f"{stats.videos}/{len(self.todo)} videos, idle {stats.idle:.0%}, batch {stats.batch}{trouble}")

        return Encoding(
            stream.name,
            model.encode,
            BatchSize(self.config.runtime.batch_size or find_batch(model.encode, shape, model.device)),
            frozenset(source.video_id for source in self.todo),
            self._write,
            report,
            pin=model.device.type == "cuda",
        )

    def _write(self, reading: Reading, rows: np.ndarray) -> None:
        video_id = reading.video_id
        with np.errstate(over="ignore"):
            values = rows.astype(np.float16)
        if not np.isfinite(values).all():
            raise EncoderError(
                f"{self.encoder}: the features of {video_id!r} are not finite in float16",
                fix="set precision: fp32 (or bf16); check the weights",
            )
        start, end = reading.times[self.stream.name]
        self.store.add(video_id, self.keys[video_id], values, {"start": start, "end": end}, {"duration": reading.duration})
        if time.monotonic() - self._flushed > FLUSH_EVERY:
            self.store.flush()
            self._flushed = time.monotonic()


def _encode(config: Config, made: Sequence[_Features], read: Reader, rows: int | None = None, unusable: int = 0) -> dict[str, Stats]:
    """Encode what the stores lack, `rows` where their number is known; encoder -> what it took, where there was something to do."""
    at_work = [each for each in made if not each.idle]
    if not at_work:
        return {}
    stop = threading.Event()
    with leased(config.runtime.device, share=config.runtime.share_gpu) as device, ExitStack() as meters:
        models = {each.encoder: base.load(config.network(each.encoder), device, each.encoder) for each in at_work}
        encodings = {}
        for each in at_work:
            meter = meters.enter_context(Meter(rows, f"{each.encoder} {each.shard}", "rows"))
            encodings[each.encoder] = each.encoding(models[each.encoder], meter, unusable)
        batching.run(read({each.encoder: each.todo for each in at_work}, stop), list(encodings.values()), stop)
    return {encoder: encoding.stats for encoder, encoding in encodings.items()}


def _nothing(todo: Mapping[str, list[Source]], stop: threading.Event) -> Generator[Frames]:
    """A Reader of no video."""
    yield from ()


def _count(frames: StoreReader, todo: list[Source]) -> int:
    """The rows of these videos among the stored ones.

    Errors: StoreMissing when some are not there or were decoded from another content.
    """
    windows = frames.ragged("windows")
    for source in todo:
        if source.video_id not in windows or windows.items["fingerprint"][windows.index[source.video_id]] != source.fingerprint:
            raise StoreMissing(
                f"no frames of the present content of {source.video_id!r}",
                where=frames.path,
                fix="run the workflow again: it decodes the video once more",
            )
    return sum(len(windows[source.video_id]) for source in todo)


def _stored(frames: StoreReader, stream: str, todo: list[Source]) -> Generator[Frames]:
    """The stored frames of these videos."""
    windows, pixels = frames.ragged("windows"), frames.ragged("frames", lazy=True)
    for source in todo:
        place = windows.rows(source.video_id)
        times = windows.columns["start"][place], windows.columns["end"][place]
        reading = Reading(source.video_id, float(windows.items["duration"][windows.index[source.video_id]]), {stream: times})
        for rows in _rows(windows[source.video_id], pixels, pixels.rows(source.video_id).start):
            yield Frames(reading, stream, rows)
        yield Frames(reading, stream, None)


def _rows(index: np.ndarray, pixels: Ragged, first: int) -> Iterator[np.ndarray]:
    """A video's rows as encoders take them, from its frames, which begin at `first`: see Frames."""
    for start in range(0, len(index), READ):
        wanted = index[start : start + READ]
        low, high = int(wanted.min()), int(wanted.max()) + 1
        rows = np.asarray(pixels.values[first + low : first + high])[wanted - low]
        yield rows[:, 0] if index.shape[1] == 1 else rows
