"""How fast this machine is for a configuration: tried once in a child process (trial.py), and kept in the user's cache."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.config.encoder import cache_home
from pipeline.core.atomic import write_json
from pipeline.core.errors import PrvrError
from pipeline.core.store import recipe_hash
from pipeline.jobs.dag import Dag
from pipeline.jobs.estimates import Speeds

LIMIT = 180.0  # seconds after which a measurement is given up: a machine that is busy otherwise


def known(dag: Dag, config_file: str | Path) -> tuple[Speeds | None, str]:
    """This machine's speeds for a configuration, measured in a child process where they are not yet, and where they come from.

    They lie in the user's cache, by machine and configuration, outside of all results.
    """
    place = cache_home() / "prvr" / "speeds" / f"{recipe_hash({'machine': machine(), 'config': dag.config.model_dump(mode='json')})}.json"
    with suppress(OSError, ValueError, TypeError):
        return Speeds(**json.loads(place.read_text())), f"measured before ({place}; delete it to measure again)"
    began, threads = time.monotonic(), str(dag.config.runtime.threads)
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "pipeline.tools.trial", str(config_file)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment, check=False)
        printed, why = done.stdout, "" if done.returncode == 0 else "".join(done.stderr.strip().splitlines()[-1:])
    except subprocess.TimeoutExpired as error:
        printed, why = (error.stdout or b"").decode(), f"not done in {LIMIT:.0f} s"
    speeds = _last(printed)
    if speeds is None or why:
        return speeds, f"{'nothing' if speeds is None else 'not everything'} could be measured: {why or 'it said nothing'}"
    with suppress(PrvrError, OSError):  # a home that cannot be written costs the next plan the measurement
        write_json(place, asdict(speeds))
    return speeds, f"measured in {time.monotonic() - began:.0f} s, kept in {place}"


def _last(printed: str) -> Speeds | None:
    """The last whole line of a measurement's output."""
    for line in reversed(printed.splitlines()):
        with suppress(ValueError, TypeError):
            return Speeds(**json.loads(line))
    return None


def machine() -> dict[str, Any]:
    """What tells this machine from another one."""
    model = ""
    with suppress(OSError):
        model = next(
            (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ""
        )
    gpus = sorted(str(path) for path in Path("/proc/driver/nvidia/gpus").glob("*"))
    return {"host": platform.node(), "cpu": model or platform.processor(), "cores": os.cpu_count(), "gpus": gpus}
