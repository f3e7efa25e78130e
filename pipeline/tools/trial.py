"""What this machine does in a second, measured on the user's own videos and settings: `python -m pipeline.tools.trial FILE`.

Each kind of work is tried for less than a second; most of the time goes into loading libraries, which is measured as well, since every job
does it. On a CPU, processor seconds are counted, so that other work on the machine changes nothing; on a GPU, seconds by the clock.
"""

from __future__ import annotations

import json
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.method import Experiment
from pipeline.config.reading import load
from pipeline.core.errors import PrvrError
from pipeline.core.source import Source
from pipeline.jobs.dag import Dag, gpus_per_job
from pipeline.jobs.estimates import TRAINING_SHARE, Costs, Machine, Speeds

if TYPE_CHECKING:
    import numpy as np
    import torch

VIDEOS = 12  # decoded in part
DECODING = 0.25  # processor seconds of each
ENCODING = 0.4  # seconds of each encoder at least
TRAINING = 0.7  # seconds of steps of each experiment at least
LONG_STEP = 2.0  # seconds of one step above which fewer videos are stepped
FEWEST = 8  # videos of such a step
EXPERIMENTS = 3  # measured at most, of different settings
WORDS = 12  # of a caption


class _Enough(BaseException):
    """Ends a decoding that has shown its speed; nothing between takes it for an error of the video."""


def measure(dag: Dag) -> Iterator[Speeds]:
    """Measure what can be, more with every value: weights or videos that are not here leave their stage to the arithmetic."""
    found = Speeds(python=time.process_time())
    import torch

    from pipeline.encoders import stage as _encoders  # noqa: F401  (part of what a job starts with)
    from pipeline.training import stage as _training  # noqa: F401

    yield (found := replace(found, torch=time.process_time()))
    gpu = bool(gpus_per_job(dag.config)) and torch.cuda.is_available()
    torch.set_num_threads(dag.config.runtime.threads)
    device = torch.device("cuda" if gpu else "cpu")
    sources = [source for members in dag.shards.values() for source in members]
    with tempfile.TemporaryDirectory() as folder:
        render, sample = _rendered(dag, sources, Path(folder))
        yield (found := replace(found, render=render, decode=_decoding(dag, sample, Path(folder))))
    costs = Costs(dag, Machine(dag.config.runtime.threads, gpu))
    experiments = {Speeds.key(settings): settings for settings in map(dag.experiment, dict.fromkeys(name for name, _ in dag.runs("table")))}
    for key, settings in list(experiments.items())[:EXPERIMENTS]:
        with suppress(PrvrError):
            found.step[key] = _training_step(costs, settings, len(sources), device)
            yield found
    for name in dict.fromkeys([*dag.encoders_to_run(), *(t for t in dag.text_encoders() if not dag.imported(t))]):
        with suppress(PrvrError):
            row, text, loaded = _encoder(dag, name, device)
            kind = dag.config.network(name).kind
            found.load[kind] = max(loaded, found.load.get(kind, 0.0))  # the first of a kind also imports its library
            found.row.update({name: row} if row else {})
            found.query.update({name: text} if text else {})
            yield found


def _seconds(device: torch.device) -> float:
    """A clock: of the processor, or on a GPU by the wall, when it is done."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)
        return time.monotonic()
    return time.process_time()


def _rendered(dag: Dag, sources: list[Source], folder: Path) -> tuple[float | None, list[Source]]:
    """Processor seconds a second of the demo's videos takes to draw, where they are not there, and the one that was drawn."""
    if dag.config.dataset.kind != "demo" or any(os.path.isfile(path) for source in sources for path in source.paths):
        return None, sources
    from pipeline.demo import render
    from pipeline.demo.world import world

    spec = sorted(world(dag.config.demo), key=lambda spec: spec.duration)[0]
    began = time.process_time()
    render.video(spec, folder / "sample.mp4")
    return (time.process_time() - began) / spec.duration, [Source(spec.video_id, (str(folder / "sample.mp4"),), "sample", spec.duration)]


def _decoding(dag: Dag, sources: list[Source], folder: Path) -> float | None:
    """Processor seconds a second of video takes to decode for every stream, over a part of some videos."""
    from pipeline.core.errors import VideoError
    from pipeline.video.decode import decode, inspect, length
    from pipeline.video.worker import Files

    class Sample(Files):
        """Ends the decoding after a while. `frames`: how many came."""

        frames, until = 0, math.inf

        def add(self, stream: str, frame: np.ndarray, times: int) -> None:
            super().add(stream, frame, times)
            self.frames += 1
            if time.process_time() > self.until:
                raise _Enough

    settings, streams, took, shown = dag.config.video, dag.streams, 0.0, 0.0
    if not streams:
        return None
    for source in sources[:: max(1, len(sources) // VIDEOS)][:VIDEOS]:
        began, sink = time.process_time(), Sample(folder / "frames")
        with suppress(VideoError, OSError):
            parts = inspect(source.paths, frames_fps=settings.frames_fps, keep_truncated=settings.keep_truncated, decoder=settings.decoder)
            looked, seconds, share = time.process_time(), length(parts), 1.0
            sink.until = looked + DECODING
            try:
                decode(parts, streams, sink)
            except _Enough:
                share = min(1.0, sink.frames / max(1.0, sum(stream.frames(seconds) for stream in streams.values())))
            took += looked - began + (time.process_time() - looked) / share
            shown += seconds
        sink.clear()
    return took / shown if shown else None


def _encoder(dag: Dag, name: str, device: torch.device) -> tuple[float | None, float | None, float]:
    """Seconds of a row and of a query, where they are wanted, on one thread's worth of processor or on the GPU; and of loading it."""
    import torch

    from pipeline.encoders import base
    from pipeline.encoders.batch_size import cpu_batch

    began = _seconds(device)
    model, stream = base.load(dag.config.network(name), device, name), dag.config.network(name).stream
    loaded = _seconds(device) - began
    shape = (*([stream.count] if stream.count > 1 else []), stream.size, stream.size, 3)
    most = cpu_batch(math.prod(shape)) if device.type == "cpu" else 64
    row = text = None
    with torch.inference_mode():
        if name in dag.encoders_to_run():
            row = _each(lambda n: model.encode(torch.zeros((n, *shape), dtype=torch.uint8)), most, device)
        if name in dag.text_encoders() and isinstance(model, base.TextEncoder):
            text = _each(lambda n: model.encode_texts([f"somebody opens a door and walks into room {i}" for i in range(n)]), 32, device)
    return row, text, loaded


def _each(work: Callable[[int], Any], most: int, device: torch.device) -> float:
    """Seconds of one item, in batches that grow to `most` until they take long enough; the first warms up."""
    work(1)
    count, done, took = 1, 0, 0.0
    while True:
        began = _seconds(device)
        work(count)
        seconds = _seconds(device) - began
        if count == most or seconds > ENCODING:
            done, took = done + count, took + seconds
            if took > ENCODING:
                return took / done
        else:
            count = min(most, count * 4)


def _training_step(costs: Costs, settings: Experiment, videos: int, device: torch.device) -> tuple[float, float]:
    """Seconds of a step of a whole batch, and of measuring one video of the split that chooses the epoch."""
    import torch

    from pipeline.ranking.measure import measure as rank
    from pipeline.training import loop
    from pipeline.training.batches import Batches
    from pipeline.training.stage import prepare

    torch.set_num_threads(settings.training.threads)
    whole = min(max(1, round(videos * TRAINING_SHARE)), settings.training.batch_videos)
    expected = costs.step(settings, whole)
    count = whole if expected < LONG_STEP else min(whole, max(FEWEST, round(whole * LONG_STEP / expected)))
    split = _arrays(costs, settings, count, videos).split(settings, "train")
    trainee, optimizer, _ = prepare(settings, split, 1, device)
    batches = Batches(split.to(device), settings.model.max_words, device, raw=settings.model.reads_raw_rows)

    def step() -> None:
        batch = batches.gather(torch.arange(count))
        optimizer.zero_grad()
        loss, _ = loop.loss_of(trainee, batch, settings, 0)
        loss.backward()
        optimizer.step()

    trainee.train()
    took = _repeated(step, device)
    began = _seconds(device)
    rank(trainee.model, split, settings.evaluation, device)
    return took * whole / count, (_seconds(device) - began) / count


def _repeated(step: Callable[[], None], device: torch.device) -> float:
    """Seconds of a step, the first left out unless it takes long."""
    began = _seconds(device)
    step()
    first = _seconds(device) - began
    if first > TRAINING:
        return first
    began, done = _seconds(device), 0
    while (took := _seconds(device) - began) < TRAINING and done < 50:
        step()
        done += 1
    return (took if done < 50 else _seconds(device) - began) / done


def _arrays(costs: Costs, settings: Experiment, count: int, videos: int) -> Any:
    """Made-up rows and words of the sizes an experiment has."""
    import numpy as np

    from pipeline.training.arrays import Arrays

    dag, random = costs.collection, np.random.default_rng(0)
    asked = max(1, round(sum(dag.queries.values()) / max(1, videos)))
    words = costs.words(settings.text)

    def rows(n: int, width: int) -> np.ndarray:
        return random.standard_normal((n, width)).astype(np.float32)

    teaching = settings.teaching
    seen = costs.width(teaching) if teaching else 0
    return Arrays(
        videos={f"v{i}": rows(settings.clips.frames, costs.width(settings)) for i in range(count)},
        queries=[(f"v{i}", rows(WORDS, words)) for i in range(count) for _ in range(asked)],
        teacher=rows(count * asked, seen or words),
        sentences=rows(count * asked, words),
        teacher_frames={f"v{i}": rows(settings.clips.frames, seen) for i in range(count)} if teaching else None,
    )


def main(words: Iterable[str]) -> None:
    """Print the speeds of a configuration as lines of JSON, each with more than the one before."""
    (config,) = words
    for found in measure(Dag.of(load(config))):
        print(json.dumps(asdict(found)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
