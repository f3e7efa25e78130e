"""The processes that draw a world do not outlive a job that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

DRAW = """
import sys
from pathlib import Path
from pipeline.config.inputs import Demo
from pipeline.demo import stage
from pipeline.demo.world import world
if __name__ == "__main__":
    specs = world(Demo(world="world-1", seed=1, train=60, val=1, test=1))
    for _ in stage._render(specs, Path(sys.argv[1]), 2):
        print("drawn", flush=True)
"""


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_they_end_with_a_killed_job(tmp_path: Path, root: Path) -> None:
    (tmp_path / "draw.py").write_text(DRAW)
    command = [sys.executable, str(tmp_path / "draw.py"), str(tmp_path / "videos")]
    job = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(root)}, stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    assert job.stdout.readline() == "drawn\n"
    workers = psutil.Process(job.pid).children(recursive=True)
    assert len(workers) >= 2
    job.send_signal(signal.SIGKILL)
    job.wait()
    _, alive = psutil.wait_procs(workers, timeout=60)
    for process in alive:
        process.kill()
    assert alive == [], "they wait for ever for a job that is gone"
