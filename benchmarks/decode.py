"""Decoding alone: the frames stage's processes against an ffmpeg pipe that produces the same frames.

    python -m benchmarks.decode [--videos ../shared/videos] [--copies 2] [--repeats 3] [--ffmpeg PATH]
    python -m benchmarks.decode --rates [--videos ../shared/videos] [--repeats 3]

`--rates`: how many seconds of video one processor second decodes and scales, of each file of 720 lines or more, for stills alone and for
stills and windows in one go, as a shard of CLIP and SlowFast needs them. Without it:

Two kinds of frames, 224 pixels square: stills at 1 a second, and SlowFast's windows (32 frames, every second one of 30 a second; in
2 seconds of video that is 15 frames a second). The pipe is what extractors use: one ffmpeg per video, `fps` and `scale` filters (bicubic),
raw RGB read from its output into memory. Ours includes the probe, the placing by presentation time, the start of the processes, and the
hand-over through files (in memory where there is /dev/shm, as a pipe is). "1 core": both are kept to one processor; "2 cores": ours has
two processes and ffmpeg its own threads.
In turn, `--repeats` times, the best of each: other work on the machine only ever adds.
ffmpeg: `--ffmpeg`, the one on the path, or imageio-ffmpeg's (`pip install imageio-ffmpeg`).
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.extraction import NAMES, timed
from pipeline.config.streams import Stream
from pipeline.core.errors import VideoError
from pipeline.video.choose import choose
from pipeline.video.decode import decode, inspect
from pipeline.video.messages import Job
from pipeline.video.opening import one_thread, open_container
from pipeline.video.pool import Pool
from pipeline.video.probe import probe

LINES = 720  # of a large file's shorter side
MORE = ("sk_bigbuckbunny.mp4", "mpy_smpte-2997.mp4", "d_vp9.webm", "ax_h265_bframes.mp4")
KINDS = {"stills": (Stream(1.0, "middle", 224), 1), "windows": (Stream(2.0, "window", 224, 32, 30.0, 2), 15)}
FILTER = "fps={fps},scale=w='if(gt(iw,ih),-2,224)':h='if(gt(iw,ih),224,-2)':flags=bicubic,crop=224:224"


def ffmpeg_path(given: str) -> str:
    """The program to compare with. SystemExit when there is none."""
    found = given or shutil.which("ffmpeg")
    if not found:
        try:
            from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-not-found]
        except ImportError:
            raise SystemExit("no ffmpeg: give --ffmpeg, or pip install imageio-ffmpeg") from None
        found = get_ffmpeg_exe()
    return str(found)


def pipe(files: list[Path], ffmpeg: str, fps: int, cores: int) -> int:
    """One ffmpeg after the other; returns the frames read."""
    one = ["-threads", "1", "-filter_threads", "1"] if cores == 1 else []
    total = 0
    for file in files:
        command = [ffmpeg, "-v", "error", "-nostdin", *one, "-i", str(file), "-an", "-vf", FILTER.format(fps=fps)]
        done = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"], check=True, stdout=subprocess.PIPE)
        total += len(np.frombuffer(done.stdout, np.uint8).reshape(-1, 224, 224, 3))
    return total


def ours(files: list[Path], stream: Stream, cores: int, decoder: str) -> int:
    """The frames stage's pool, into a folder; returns the frames made."""
    total, memory = 0, "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(dir=memory) as temporary, Pool(cores, timeout=60, timeout_per_second=2, memory_mb=4096) as pool:
        recipe = {stream.name: stream.recipe}
        jobs = [Job(str(i), (str(file),), recipe, Path(temporary) / str(i), decoder=decoder) for i, file in enumerate(files)]
        for outcome in pool.run(jobs):
            if outcome.code:
                raise SystemExit(f"{outcome.job.paths[0]}: {outcome.code} {outcome.message}")
            total += len(np.load(outcome.job.folder / f"{stream.name}.time.npy"))
            shutil.rmtree(outcome.job.folder)
    return total


class Counted:
    """A sink that keeps nothing but the number of bytes."""

    bytes = 0

    def add(self, _: str, frame: np.ndarray, times: int) -> None:
        self.bytes += frame.nbytes

    def clear(self) -> None:
        self.bytes = 0


def made(path: str, decoder: str, *streams: Stream) -> int:
    """Read one file as a worker of the frames stage does, without writing; returns the bytes of its frames."""
    sink = Counted()
    decode(inspect([path], decoder=decoder), {str(i): stream for i, stream in enumerate(streams)}, sink)
    return sink.bytes


def bare(path: str) -> None:
    """Decode a file from end to end and look at nothing. decord has no such loop: what it is asked to skip it does not decode."""
    with open_container(path) as container:
        stream = container.streams.video[0]
        one_thread(stream)
        for packet in container.demux(stream):
            packet.decode()


def used(work: Callable[..., object], *given: object) -> float:
    """Processor seconds of some work."""
    before = time.process_time()
    work(*given)
    return time.process_time() - before


def race(title: str, runs: dict[str, Callable[[], int]], repeats: int) -> None:
    """Time each of `runs` in turn and print the best, as a share of the first."""
    found: dict[str, list[tuple[float, float, int]]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            found[name].append(timed(run))
    base = None
    for name, results in found.items():
        wall, processor = min(r[0] for r in results), min(r[1] for r in results)
        base = base or (wall, processor)
        print(
            f"| {title} | {name} | {results[0][2]} | {wall:.2f} | {processor:.2f} | {wall / base[0]:.2f} | {processor / base[1]:.2f} |",
            flush=True,
        )


def rates(folder: Path, repeats: int) -> None:
    """Print a row for each file of the folder that is large, longer than two seconds and not broken."""
    stills, windows = (stream for stream, _ in KINDS.values())
    print("| file | codec | lines | frames a second | seconds | stills, times real time | stills and windows |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for file in sorted(folder.iterdir()):
        try:
            found = probe(str(file))
            lines, length = min(found.width, found.height), found.duration
            if lines < LINES or length < 2:
                continue
            seconds = [min(used(made, str(file), "pyav", *of) for _ in range(repeats)) for of in ((stills,), (stills, windows))]
        except VideoError:
            continue
        speeds = " | ".join(f"{length / each:.1f}" for each in seconds)
        print(f"| {file.name} | {found.codec} | {lines} | {found.frames / length:.0f} | {length:.1f} | {speeds} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=Path("../shared/videos"), help="folder with the sample videos")
    parser.add_argument("--copies", type=int, default=2, help="each video so many times")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ffmpeg", default="", help="the ffmpeg program")
    parser.add_argument("--rates", action="store_true")
    arguments = parser.parse_args()
    if arguments.rates:
        rates(arguments.videos, arguments.repeats)
        return
    ffmpeg = ffmpeg_path(arguments.ffmpeg)
    files = [arguments.videos / name for name in (*NAMES, *MORE) if (arguments.videos / name).exists()]
    allowed = [file for file in files if choose(probe(str(file)), "decord").decoder == "decord"]
    files, allowed = files * arguments.copies, allowed * arguments.copies
    version = subprocess.run([ffmpeg, "-version"], check=True, capture_output=True, text=True).stdout.split()[2]
    print(f"{len(files)} videos; decord may read {len(allowed)} of them. ffmpeg {version}. Seconds, best of {arguments.repeats}.\n")
    print("| frames, cores, videos | who | frames | seconds | processor seconds | of the pipe's time | of its processor time |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    processors = sorted(os.sched_getaffinity(0))
    for cores in (1, 2):
        os.sched_setaffinity(0, processors[:cores])
        for kind, (stream, fps) in KINDS.items():
            for title, chosen in (("all", files), ("decord's", allowed)):
                runs = {"ffmpeg pipe": lambda c=chosen, f=fps, n=cores: pipe(c, ffmpeg, f, n)}
                runs["PyAV"] = lambda c=chosen, s=stream, n=cores: ours(c, s, n, "pyav")
                if title != "all":
                    runs["decord"] = lambda c=chosen, s=stream, n=cores: ours(c, s, n, "decord")
                race(f"{kind}, {cores}, {title}", runs, arguments.repeats)


if __name__ == "__main__":
    main()
