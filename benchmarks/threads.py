"""What a training's number of threads costs, and letting them sleep while they wait: alone, beside other work, beside another training.

    python -m benchmarks.threads [--seconds 3] [--busy 2] [--sizes demo,published]

Training steps of both sizes, by one thread (`training.threads`), by two that sleep while they wait (`OMP_WAIT_POLICY=PASSIVE
GOMP_SPINCOUNT=0`, which the stages set) and by two that spin, as OpenMP's own settings have them. "beside 2 busy": as many processes that
only compute. "beside its like": two such trainings at once; compare half of its seconds with those of one alone. Prints the median seconds
of a step, its processor seconds, and how much processor anything else took meanwhile: a row of "alone" counts where that is near 0.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import psutil

SLEEP = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
SPIN: dict[str, str] = {}  # what OpenMP does unless told otherwise
ARMS: dict[str, tuple[int, dict[str, str]]] = {"1 thread": (1, SLEEP), "2, sleeping": (2, SLEEP), "2, spinning": (2, SPIN)}
SIZES: dict[str, dict[str, Any]] = {
    "demo": {"videos": 32, "dim": 736, "model": {"hidden": 64, "widths": [None, 1.0]}},
    "published": {"videos": 32, "dim": 768, "model": {"hidden": 384}},  # its batch is 128 videos: 15 times as long a step
}
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(10**5))"


def child(size: str, threads: int) -> None:
    """Make a training ready, then do its steps for as long as each line of the standard input says."""
    import torch

    from benchmarks.training_step import ours, stored, world
    from pipeline.config.method import Experiment
    from pipeline.models.base import Dims
    from pipeline.models.msc import DualBranch
    from pipeline.training.checkpoint import seed_everything

    torch.set_num_threads(threads)
    seed_everything(0)
    wanted = SIZES[size]
    settings = Experiment.model_validate({"features": ["a"], "text": "a", "model": wanted["model"]})
    videos, captions = world(argparse.Namespace(videos=wanted["videos"], dim=wanted["dim"], queries_per_video=5))
    model = DualBranch(settings.model, Dims(wanted["dim"], wanted["dim"])).train()
    rate = {"learning_rate": 1e-4, "total_steps": 10000, "warmup": 0.01}
    optimizer, load, compute = ours(model, settings, stored(videos, captions), torch.device("cpu"), rate)

    def step() -> tuple[float, float]:
        wall, used = time.perf_counter(), time.process_time()
        for parameter in model.parameters():
            parameter.grad = None
        compute(load()).backward()
        optimizer.step()
        return time.perf_counter() - wall, time.process_time() - used

    step()
    print("ready", flush=True)
    for line in sys.stdin:
        until, steps = time.perf_counter() + float(line), [step()]
        while time.perf_counter() < until:
            steps.append(step())
        print(json.dumps({"wall": [wall for wall, _ in steps], "used": [used for _, used in steps]}), flush=True)


def training(size: str, arm: str) -> subprocess.Popen[str]:
    threads, waiting = ARMS[arm]
    environment = {name: value for name, value in os.environ.items() if name not in SLEEP} | waiting | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "benchmarks.threads", "--child", size, "--threads", str(threads)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    said = process.stdout.readline()
    if not said:
        raise SystemExit(f"{' '.join(map(str, process.args))} ended with {process.wait()}")  # type: ignore[arg-type]
    return said.strip()


def machine() -> float:
    """Processor seconds of the whole machine so far."""
    times = psutil.cpu_times()._asdict()
    return sum(value for name, value in times.items() if name not in ("idle", "iowait", "guest", "guest_nice"))


def processor(processes: list[subprocess.Popen]) -> float:
    """Processor seconds of this process and these so far."""
    times = [psutil.Process(process.pid).cpu_times() for process in processes]
    return sum(found.user + found.system for found in times) + time.process_time()


def measure(trainings: list[subprocess.Popen[str]], busy: int, seconds: float) -> tuple[float, float, float]:
    """Median seconds and processor seconds of a step, and the processors that anything else took."""
    others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
    try:
        ours = [*trainings, *others]
        began, before = time.perf_counter(), machine() - processor(ours)
        for process in trainings:
            assert process.stdin
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        found = [json.loads(line(process)) for process in trainings]
        foreign = (machine() - processor(ours) - before) / (time.perf_counter() - began)
    finally:
        for process in others:
            process.kill()
            process.wait()
    wall, used = (statistics.median([value for one in found for value in one[clock]]) for clock in ("wall", "used"))
    return wall, used, max(foreign, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3, help="of steps in each cell")
    parser.add_argument("--busy", type=int, default=2, help="processes of other work")
    parser.add_argument("--sizes", default=",".join(SIZES))
    parser.add_argument("--child", choices=SIZES, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.threads)
        return
    import torch

    print(f"{psutil.cpu_count()} processors, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    print(f"{'size':11}{'threads':13}{'':17}{'step s':>9}{'processor s':>13}{'of 1 thread':>13}{'others':>8}")
    for size in options.sizes.split(","):
        pairs = {arm: [training(size, arm) for _ in range(2)] for arm in ARMS}
        for pair in pairs.values():
            for process in pair:
                line(process)
        for place, count, busy in (("alone", 1, 0), (f"beside {options.busy} busy", 1, options.busy), ("beside its like", 2, 0)):
            base = None
            for arm, pair in pairs.items():
                wall, used, foreign = measure(pair[:count], busy, options.seconds)
                base = base or wall
                print(f"{size:11}{arm:13}{place:17}{wall:9.4f}{used:13.4f}{wall / base:12.2f}x{foreign:8.2f}", flush=True)
        for pair in pairs.values():
            for process in pair:
                process.communicate()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{children.ru_utime + children.ru_stime:.0f} processor seconds in all")


if __name__ == "__main__":
    main()
