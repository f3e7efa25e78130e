"""Memory and time of an evaluation and of a training whose arrays do not fit: the real code on random arrays.

    python -m benchmarks.bounded make FOLDER --queries 100000 --videos 100000
    python -m benchmarks.bounded evaluate FOLDER --memory 1
    python -m benchmarks.bounded train FOLDER --videos 20000 --width 768 --frames 128 --clips 32

`make` writes annotations, clips, image rows for zero-shot, query states and a checkpoint of random weights. `evaluate` runs the stage on
them and prints the seconds, the peak of the process, what of it no file backs, and a digest of each file it wrote. Run the second with
the code of another commit (PYTHONPATH) for a before and after.

`train` gathers the batches of an epoch, 128 videos each, with a step of `--step` seconds that leaves the processor alone, as one on a GPU
does: from memory, from mapped files that the system has cached, and from ones of which it has nothing cached, as now and without
reading ahead. Every video is used once an epoch, so with an empty cache every row comes from the disk.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import io
import mmap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.clips.recipe import recipe, recipe_name
from pipeline.config.schema import Config
from pipeline.core.store import create, open_store
from pipeline.datasets import table
from pipeline.datasets.rows import Query, Rows, Video
from pipeline.evaluation import stage
from pipeline.models.base import Dims, build
from pipeline.models.checkpoint import save_model
from pipeline.ranking import gallery
from pipeline.ranking.room import Room
from pipeline.ranking.split import PooledVideos, Queries, Split
from pipeline.training.batches import Batch, Batches, Sampler

WORDS, STORED, SHARD = 3, 4, 5000  # words of a query; image rows of a video; videos of a shard
GIGA = 1e9
PAGEOUT = 21  # MADV_PAGEOUT of Linux 5.4: drop pages, which Python has no name for


def configuration(folder: Path, runtime: dict) -> Config:
    """What the sizes of the files follow from, which lie in its own file beside them."""
    size = np.load(folder / "sizes.npy")
    frames, clips, _, hidden = (int(n) for n in size)
    return Config.model_validate(
        {
            "results": str(folder / "results"),
            "dataset": {"name": "random"},
            "encoders": {"clip": {"kind": "open_clip"}},
            "features": ["clip"],
            "text": "clip",
            "clips": {"frames": frames, "clips": clips, "method": "uniform"},
            "model": {"hidden": hidden, "heads": 2, "widths": [None]},
            "runtime": {"device": "cpu", **runtime},
        }
    )


def make(folder: Path, queries: int, videos: int, frames: int, clips: int, width: int, hidden: int) -> None:
    """Files of random rows; query i asks for a video of its own as far as there are enough. Videos nobody asks for are not ranked."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "sizes.npy", np.array([frames, clips, width, hidden]))
    config = configuration(folder, {})
    layout, chosen, random = config.layout, config.experiment("main"), np.random.default_rng(0)
    ids = [f"v{i:07d}" for i in range(videos)]
    asked = [Query(f"q{i:07d}", ids[i * 7919 % videos], "test", "random", ((1.0, 3.0),)) for i in range(queries)]
    table.save(layout.annotations, table.of(Rows(tuple(Video(video, "test", 2.0 * frames) for video in ids), tuple(asked))))
    edges = np.arange(frames + 1, dtype=np.float32) * 2
    for number, first in enumerate(range(0, videos, SHARD)):
        some, shard = ids[first : first + SHARD], f"{number:03d}"
        n = len(some)
        with create(layout.clips(recipe_name(chosen), shard), stage="clips", recipe=recipe(chosen)) as writer:
            writer.table("videos", pd.DataFrame({"video_id": pd.Series(some, dtype=object), "duration": np.full(n, 2.0 * frames)}))
            writer.array("frames", random.standard_normal((n, frames, width), np.float32).astype(np.float16))
            writer.array("frame_count", np.full(n, frames, np.int32))
            writer.array("clips", random.standard_normal((n, clips, width), np.float32).astype(np.float16))
            writer.array("sizes", np.full((n, clips), frames / clips, np.float32))
            writer.array("frame_to_clip", np.tile((np.arange(frames) * clips // frames).astype(np.uint8), (n, 1)))
            writer.array("context", np.zeros((n, clips), np.uint8))
            for name, side in (("start", edges[:-1]), ("end", edges[1:])):
                writer.array(name, np.tile(side, (n, 1)))
        with create(layout.features("clip", shard), stage="features", encoder="clip", shard=shard, dim=width) as writer:
            start = np.arange(STORED) * 2.0
            for video in some:
                rows = random.standard_normal((STORED, width), np.float32).astype(np.float16)
                writer.append("features", video, rows, {"start": start, "end": start + 2}, {"key": "k", "duration": 2.0 * STORED})
    with create(layout.text("clip"), stage="text", encoder="clip") as writer:
        for query in asked:
            states = random.standard_normal((WORDS, width), np.float32).astype(np.float16)
            writer.append("tokens", query.query_id, states, None, {"sentence": states[-1], "truncated": False, "key": "k"})
    torch.manual_seed(0)
    model = build(config.model.kind, chosen.model, Dims(width, width, frames, clips))
    save_model(layout.checkpoint("main", 1), model.state_dict(), chosen, model.dims, experiment="main", seed=1, epoch=1)


class Peak(threading.Thread):
    """The largest memory of this process while it is open, of which `own` is backed by no file."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.whole = self.own = 0.0
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(0.02):
            status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
            kilobytes = {key: int(status[key].split()[0]) for key in ("VmHWM", "RssAnon", "RssShmem")}
            self.whole = kilobytes["VmHWM"] * 1024 / GIGA
            self.own = max(self.own, (kilobytes["RssAnon"] + kilobytes["RssShmem"]) * 1024 / GIGA)

    def close(self) -> None:
        self._end.set()
        self.join()


@contextlib.contextmanager
def measured(what: str) -> Iterator[None]:
    """Print seconds, processor seconds and peaks of a block."""
    peak, wall, processor = Peak(), time.perf_counter(), time.process_time()
    peak.start()
    yield
    seconds, used = time.perf_counter() - wall, time.process_time() - processor
    peak.close()
    print(f"{what}: {seconds:.0f} s, {used:.0f} s of processors; peak {peak.whole:.2f} GB, {peak.own:.2f} GB of it in no file")


def evaluate(folder: Path, memory: float | None, block: float | None) -> None:
    if block is not None:
        gallery.BLOCK = int(block * GIGA)
    config = configuration(folder, {} if memory is None else {"memory": memory})
    with measured("evaluation"), contextlib.redirect_stderr(io.StringIO()):
        stage.run(config, config.layout, "main", 1, {})
    run = config.layout.run("main", 1)
    for path in sorted(run.iterdir()):
        if path.suffix in (".trec", ".jsonl", ".json"):
            print(f"  {path.name:15} {path.stat().st_size / 1e6:8.1f} MB  {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}")
    with open_store(config.layout.evaluation("main", 1)) as store:
        found = store.table("queries")
        ranks = found[[name for name in found if name.startswith("rank_")]].to_numpy()
        arrays = {"every rank": ranks, "top videos": store.array("top/videos"), "top scores": store.array("top/scores")}
    for name, array in arrays.items():
        print(f"  {name:15} {hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:12]}")


def split_of(new: Callable[[tuple[int, ...], str], np.ndarray], given: argparse.Namespace) -> Split:
    """Random videos in arrays that `new` makes, two queries each."""
    videos, random = given.videos, np.random.default_rng(0)
    shapes = {
        "frames": (given.frames, given.width),
        "clips": (given.clips, given.width),
        "sizes": (given.clips,),
        "frame_to_clip": (given.frames,),
        "context": (given.clips,),
        "frame_count": (),
    }
    types = {"frames": "f2", "clips": "f2", "sizes": "f4", "frame_to_clip": "u1", "context": "u1", "frame_count": "i4"}
    arrays = {name: new((videos, *shape), types[name]) for name, shape in shapes.items()}
    some = random.standard_normal((256, given.frames, given.width), np.float32).astype(np.float16)
    for first in range(0, videos, len(some)):
        part = arrays["frames"][first : first + len(some)]
        part[:] = some[: len(part)]
        arrays["clips"][first : first + len(some)] = some[: len(part), : given.clips]
    arrays["frame_count"][:] = given.frames
    times, ids, asked = np.zeros((videos, 1)), [str(i) for i in range(videos)], 2 * videos
    states = torch.zeros(asked * WORDS, given.hidden)
    queries = Queries([str(i) for i in range(asked)], torch.arange(asked) // 2, states, torch.arange(asked + 1) * WORDS, None)
    mapped = tuple(array for array in arrays.values() if isinstance(array, np.memmap))
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    known = table.of(Rows((), ()))
    return Split("random", PooledVideos(ids, **tensors, start=times, end=times, duration=times[:, 0], mapped=mapped), queries, known)


def read_bytes() -> float:
    """What this process had read from a disk so far."""
    return float(dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())["read_bytes"])


def train(given: argparse.Namespace) -> None:
    """Seconds of a batch, four ways, in turn as often as there are rounds: on a machine with other work the best of each is compared."""
    resident = split_of(lambda shape, kind: np.zeros(shape, kind), given)
    inside = Batches(resident, 32, torch.device("cpu"))
    mapped = split_of(Room(given.folder, 0).mapped, given)
    for array in mapped.videos.mapped:
        array.flush()  # type: ignore[attr-defined]
    now = Batches(mapped, 32, torch.device("cpu"))
    plain = Batches(dataclasses.replace(mapped, videos=dataclasses.replace(mapped.videos, mapped=())), 32, torch.device("cpu"))
    size = sum(array.nbytes for array in mapped.videos.mapped)
    ways: dict[str, tuple[Callable[[Sampler], Iterator[Batch]], bool]] = {
        "in memory": (inside.epoch, False),
        "mapped, cached": (now.epoch, False),
        "mapped, not cached": (now.epoch, True),
        "mapped, not cached, nothing read ahead": (lambda sampler: (plain.gather(chosen) for chosen in sampler.epoch()), True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    read: dict[str, float] = {}
    for _ in range(given.rounds):
        for name, (batches, cold) in ways.items():
            for array in mapped.videos.mapped if cold else ():
                assert isinstance(array.base, mmap.mmap)
                array.base.madvise(PAGEOUT)
            before, started, sampler = read_bytes(), time.perf_counter(), Sampler(given.videos, given.batch, 0)
            for _batch in batches(sampler):
                time.sleep(given.step)
            seconds[name].append((time.perf_counter() - started) / len(sampler))
            read[name] = (read_bytes() - before) / GIGA
    print(f"{given.videos} videos, {size / GIGA:.1f} GB; seconds of a batch of {given.batch}, {given.step} s of them the step")
    for name, found in seconds.items():
        against = min(found) / min(seconds["in memory"])
        print(f"  {name:39} best {min(found):.4f}  {against:.2f}x  median {np.median(found):.4f}  {read[name]:4.1f} GB read an epoch")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["make", "evaluate", "train"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=16)
    parser.add_argument("--memory", type=float, help="gigabytes of clips and gallery kept in memory (runtime.memory)")
    parser.add_argument("--block", type=float, help="gigabytes of one matrix of a block of queries (ranking.room.BLOCK)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--step", type=float, default=0.104, help="that of MSC on an H100 (results/gpu.md)")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.what == "make":
        make(given.folder, given.queries, given.videos, given.frames, given.clips, given.width, given.hidden)
    elif given.what == "train":
        train(given)
    else:
        evaluate(given.folder, given.memory, given.block)


if __name__ == "__main__":
    main()
