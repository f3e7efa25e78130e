"""What `video.frames: streamed` takes beside `stored`: time, processor, disk, memory, and the share of the time encoders wait.

    python -m benchmarks.streamed --videos 8 --seconds 20      # a CLIP and a SlowFast, on generated videos: a minute or two
    python -m benchmarks.streamed --videos 12 --seconds 30 --depth 50

Both encoders have the published code and input (224 pixels; SlowFast 32 frames) and random weights: CLIP with 2 layers, SlowFast with
the stated depth and an eighth of the channels, so that what is measured is the way of the frames. Every job is started as the workflow
starts it, one after the other: frames and two features, or two features. Prints a table (benchmarks/results/streamed.md).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch
import yaml

from pipeline.core.store import content_digest
from pipeline.video.specimens import Specimen, make

ROOT = Path(__file__).resolve().parent.parent
SIZE = 224


def save_weights(folder: Path, depth: int) -> dict[str, dict[str, Any]]:
    """Configuration entries of both encoders, whose random weights are in `folder`."""
    from open_clip.model import CLIP

    from pipeline.encoders import slowfast
    from tests.encoders.conftest import CLIP_CFG, clip_folder

    torch.manual_seed(0)
    vision = {**CLIP_CFG["vision_cfg"], "image_size": SIZE, "patch_size": 32}
    cfg = {**CLIP_CFG, "vision_cfg": vision}
    clip_folder(folder / "clip", CLIP(**cfg), cfg)
    motion = folder / "motion"
    motion.mkdir()
    pools = [[8, 7, 7], [32, 7, 7]]
    given = {"model_depth": depth, "stem_dim_outs": [8, 1], "model_num_class": 5, "head_pool_kernel_sizes": pools}
    (motion / "slowfast_config.json").write_text(json.dumps(given))
    model = slowfast.build(slowfast.read_arguments(motion / "slowfast_config.json"), 4)
    torch.save({"model_state": model.state_dict()}, motion / "slowfast_model.pyth")
    return {
        "clip": {"kind": "open_clip", "architecture": "own", "weights": str(folder / "clip"), "size": SIZE},
        "motion": {"kind": "slowfast", "architecture": "own", "weights": str(motion)},
    }


class Watch(threading.Thread):
    """The most that a folder and a process with its children took, looked at 20 times a second: bytes on disk, resident bytes."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder, self.disk, self.memory, self.ended = folder, 0, 0, threading.Event()
        self.watched: psutil.Process | None = None

    def run(self) -> None:
        while not self.ended.wait(0.05):
            self.disk = max(self.disk, sum(_size(path) for path in self.folder.rglob("*")))
            try:
                family = [self.watched, *self.watched.children(recursive=True)] if self.watched else []
                self.memory = max(self.memory, sum(each.memory_info().rss for each in family))
            except psutil.Error:
                continue


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError:
        return 0
    return 0 if path.is_dir() else status.st_blocks * 512


def extract(folder: Path, config: dict[str, Any], frames: str, threads: int) -> tuple[list[float], float, Watch, str]:
    """Seconds of each job, processor seconds of all, what they took at most, and a digest of the features."""
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "results": frames, "video": {**config["video"], "frames": frames}}))
    commands = [["frames"]] if frames == "stored" else []
    commands += [["features", "--encoder", name] for name in config["encoders"]]
    watch, took, before = Watch(folder / frames), [], resource.getrusage(resource.RUSAGE_CHILDREN)
    watch.start()
    for command in commands:
        started = time.perf_counter()
        job = [sys.executable, "-m", "pipeline.cli", *command, "--shard", "000", "--config", "config.yaml", "--threads", str(threads)]
        process = subprocess.Popen(job, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
        watch.watched = psutil.Process(process.pid)
        if process.wait():
            raise SystemExit(f"{' '.join(command)} failed")
        took.append(time.perf_counter() - started)
    watch.ended.set()
    watch.join()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    digests = [content_digest(path) for path in sorted((folder / frames).rglob("features/*/000.h5"))]
    return took, processor, watch, " ".join(digests)


def pipe_speed(megabytes: int = 2048) -> float:
    """GB a second from another process through a pipe, in rows of 32 frames, as they are read."""
    row = 32 * SIZE * SIZE * 3
    rows = megabytes * 2**20 // row
    write = f"import sys\nrow = bytes({row})\nfor _ in range({rows}): sys.stdout.buffer.write(row)\nsys.stdout.buffer.flush()"
    process = subprocess.Popen([sys.executable, "-c", write], stdout=subprocess.PIPE)
    assert process.stdout is not None
    got, started = 0, 0.0
    into = bytearray(row)
    while count := os.readv(process.stdout.fileno(), [into]):
        started = started or time.perf_counter()
        got += count
    process.wait()
    return got / 1e9 / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=20, help="of each video, 640 x 360 at 25 frames a second, H.264")
    parser.add_argument("--depth", type=int, default=18, choices=[18, 50], help="of SlowFast")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "videos").mkdir()
        for number in range(arguments.videos):
            file = f"{number}.mp4"
            make(Specimen(f"{number}", file, "libx264", frames=25 * arguments.seconds, size=(640, 360)), folder / "videos")
        config = {
            "dataset": {"name": "d", "kind": "own", "videos": "videos"},
            "video": {},
            "encoders": save_weights(folder, arguments.depth),
            "features": ["clip", "motion"],
            "text": "clip",
            "experiments": {"main": {}},
            "runtime": {"device": "auto"},
        }
        print(f"{arguments.videos} videos of {arguments.seconds} s, SlowFast of depth {arguments.depth}, {arguments.threads} threads\n")
        print("| `video.frames` | jobs, s | together, s | processor, s | disk at most, MB | memory at most, MB | encoders waited |")
        print("|---|---|---|---|---|---|---|", flush=True)
        digests = {}
        for frames in ("stored", "streamed"):
            took, processor, watch, digests[frames] = extract(folder, config, frames, arguments.threads)
            manifests = [json.loads(path.read_text()) for path in sorted((folder / frames).rglob("features/*/000.json"))]
            waited = " and ".join(f"{manifest['stats']['idle_share']:.0%}" for manifest in manifests)
            jobs = " + ".join(f"{seconds:.1f}" for seconds in took)
            parts = [frames, jobs, f"{sum(took):.1f}", f"{processor:.1f}", f"{watch.disk / 1e6:.1f}", f"{watch.memory / 1e6:.0f}", waited]
            print(f"| {' | '.join(parts)} |", flush=True)
        print(f"\nFeatures {'equal' if digests['stored'] == digests['streamed'] else 'DIFFERENT'}; a pipe takes {pipe_speed():.1f} GB/s")


if __name__ == "__main__":
    main()
