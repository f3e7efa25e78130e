"""How near each part of the pipeline is to what the machine can do: the least time its operations and bytes need, as a share of its own.

    python -m benchmarks.limits [--parts step,clip-b16] [--device cuda] [--precision bf16] [--threads 1,2] [--clock cpu] [--profile step]

The least time is the larger of operations / (peak of a large matrix product) and bytes / (bandwidth of memory), both measured in the same
run with as many threads, before and after the parts, the better of the two; of decoding it is that of PyAV's bare loop over the same files,
which makes every picture and converts none. Operations: benchmarks/peaks.py. Bytes: what must be read and written at least once, stated
below the table; what a part keeps between its operations is not among them. Times are the best of `--repeats`. `--clock cpu`: shares by
processor seconds, for a machine with other work, where only `--threads 1` counts. `--profile`: what a part's time is spent on.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.parts import PARTS, Part, Seconds, parts
from benchmarks.peaks import COPIED, Peaks, busy, measure, seconds
from benchmarks.threads import SLEEP


@dataclass
class Found:
    """A part's figures with so many threads."""

    part: Part
    threads: int
    operations: int
    taken: Seconds
    floor: Seconds | None

    def bounds(self, peaks: Peaks, clock: str) -> dict[str, float]:
        """The least seconds by each of what bounds it."""
        if self.floor:
            return {"decoder": busy(self.floor, clock, self.threads)}
        return {
            "operations": self.operations / peaks.products[self.part.precision],
            "bytes": self.part.bytes / peaks.bandwidth,
        }

    def share(self, peaks: Peaks, clock: str) -> float:
        """The least seconds of those taken. Above 1 the count is wrong, or the peak was measured beside other work."""
        return max(self.bounds(peaks, clock).values()) / busy(self.taken, clock, self.threads)

    def row(self, peaks: Peaks, clock: str) -> str:
        """The line of the table."""
        bounds = self.bounds(peaks, clock)
        bound = max(bounds, key=lambda name: bounds[name])
        work = f"{self.operations / 1e9:,.3g} G" if self.operations else ""
        share = self.share(peaks, clock)
        cells = [self.part.name, self.part.shapes, self.part.precision, f"{self.threads}", work, f"{self.part.bytes / 1e6:,.0f} MB", bound]
        return "| " + " | ".join([*cells, f"{bounds[bound]:.3g}", *(f"{value:.3g}" for value in self.taken), f"{share:.2g}"]) + " |"


def examine(part: Part, counts: list[int], device: torch.device, options: argparse.Namespace) -> Iterator[Found]:
    """Count once, which also warms up, then time with each number of threads."""
    count = part.count()
    for threads in counts:
        torch.set_num_threads(threads)
        taken = part.spread(threads) if part.spread else seconds(part.run, device, options.repeats, options.seconds)
        yield Found(part, threads, count, taken, part.floor(threads) if part.floor else None)


def impossible(found: list[Found], peaks: dict[int, Peaks], clock: str) -> list[str]:
    """The parts, with their threads, that took less than the least time."""
    return [f"{one.part.name} ({one.threads})" for one in found if one.share(peaks[one.threads], clock) > 1]


def profile(part: Part, device: torch.device) -> str:
    """The operators that take most of a part's own time, in percent."""
    from torch.profiler import ProfilerActivity, profile

    cuda = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as profiler:
        part.run()
    own = {event.key: event.self_device_time_total if cuda else event.self_cpu_time_total for event in profiler.key_averages()}
    most = sorted(own, key=lambda name: own[name], reverse=True)[:10]
    return f"{part.name}: " + ", ".join(f"{name} {100 * own[name] / sum(own.values()):.0f}" for name in most)


def report(options: argparse.Namespace) -> None:
    """Measure and print."""
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    counts = [1] if cuda else [int(count) for count in options.threads.split(",")]
    name = torch.cuda.get_device_name(device) if cuda else f"{platform.processor() or platform.machine()}, {os.cpu_count()} processors"
    print(f"{name}, torch {torch.__version__}, {options.clock} clock, best of {options.repeats}, load {os.getloadavg()[0]:.1f}", flush=True)
    started, load, found, profiles = time.time(), [os.getloadavg()[0]], [], []

    def limits() -> dict[int, Peaks]:
        measured = {}
        for threads in counts:
            torch.set_num_threads(threads)
            measured[threads] = measure(device, options.clock, options.copied)
        return measured

    peaks = limits()
    with tempfile.TemporaryDirectory() as folder:
        for part in parts(options, device, Path(folder)):
            for one in examine(part, counts, device, options):
                print(one.row(peaks[one.threads], options.clock), file=sys.stderr, flush=True)  # by the peaks measured so far
                found.append(one)
            load.append(os.getloadavg()[0])
            if part.name in options.profile.split(","):
                profiles.append(profile(part, device))
                print(profiles[-1], file=sys.stderr, flush=True)
    peaks = {threads: before.or_better(after) for (threads, before), after in zip(peaks.items(), limits().values(), strict=True)}
    print(f"{time.time() - started:.0f} s in all, load {min(load):.1f} to {max(load):.1f}\n")
    print("| threads | fp32 GFLOP/s | bf16 GFLOP/s | copied GB/s (read and written) | read GB/s |\n| ---: | ---: | ---: | ---: | ---: |")
    for threads, peak in peaks.items():
        products = " | ".join(f"{value / 1e9:,.3g}" for value in peak.products.values())
        print(f"| {threads} | {products} | {peak.copied / 1e9:,.3g} | {peak.read / 1e9:,.3g} |")
    print("\n| part | shapes | precision | threads | operations | bytes | bound | least s | wall s | processor s | share |")
    print("| --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |")
    for one in found:
        print(one.row(peaks[one.threads], options.clock))
    if above := impossible(found, peaks, options.clock):
        print(f"\n**Above 1, so the count is wrong or the peak was measured beside other work**: {', '.join(above)}")
    print("\nBytes:")
    for part_name, said in {one.part.name: one.part.said for one in found}.items():
        print(f"- {part_name}: {said}")
    for line in profiles:
        print(f"\nProfile, percent of its time, {line}")


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of the step and the encoders")
    parser.add_argument("--threads", default="1,2", help="on a CPU: numbers of threads, each a row")
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12, help="no more repeats of a part once these have passed")
    parser.add_argument("--profile", default="", help="parts whose operators are listed")
    parser.add_argument("--folder", type=Path, default=Path("../shared/videos"), help="with the sample videos")
    parser.add_argument("--videos", type=int, default=128, help="of a step, and merged")
    parser.add_argument("--queries-per-video", type=int, default=5)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--rows", type=int, default=0, help="an encoder computes at once; 0: as many as its stage would")
    parser.add_argument("--queries", type=int, default=10895, help="ranked")
    parser.add_argument("--gallery", type=int, default=2179, help="videos they are ranked among")
    parser.add_argument("--asked", type=int, default=256, help="queries that are scored")
    parser.add_argument("--copied", type=int, default=COPIED, help="bytes copied to measure the bandwidth")
    return parser


def main() -> None:
    options = arguments().parse_args()
    if any(os.environ.get(name) != value for name, value in SLEEP.items()):  # as the stages' threads wait; read at start
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.limits", *sys.argv[1:]], {**os.environ, **SLEEP})
    report(options)


if __name__ == "__main__":
    main()
