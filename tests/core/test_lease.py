"""Two jobs never share a device; a killed job's device is free again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core import lease
from pipeline.core.errors import DeviceError

HOLD = """
import sys
from pathlib import Path
from pipeline.core.lease import lease
with lease(sys.argv[2:], where=Path(sys.argv[1])) as position:
    print(position, flush=True)
    sys.stdin.read()
"""


def holder(where: Path, *names: str) -> tuple[subprocess.Popen, int]:
    """Another process that holds one of the devices until it is closed."""
    root = Path(lease.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(where), *names],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def test_processes_get_different_devices(tmp_path: Path) -> None:
    first, a = holder(tmp_path, "0", "1")
    second, b = holder(tmp_path, "0", "1")
    try:
        assert (a, b) == (0, 1)
        with pytest.raises(DeviceError, match="no free GPU"), lease.lease(["0", "1"], timeout=0, where=tmp_path):
            pass
        first.kill()
        first.wait()
        with lease.lease(["0", "1"], timeout=5, where=tmp_path) as position:
            assert position == 0
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()


def test_waits_until_a_device_is_free(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    other, _ = holder(tmp_path, "GPU-1")

    def sleep(seconds: float) -> None:
        other.communicate("")

    monkeypatch.setattr(lease.time, "sleep", sleep)
    with lease.lease(["GPU-1"], where=tmp_path) as position:
        assert position == 0
    assert "waiting for a GPU (GPU-1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "count", "expected"),
    [
        (None, 2, ["0", "1"]),
        ("3,1", 2, ["3", "1"]),
        ("GPU-8f2,MIG-77a/1/0", 2, ["GPU-8f2", "MIG-77a/1/0"]),
        ("2,-1,3", 1, ["2"]),
        ("", 0, []),
    ],
)
def test_numbering(given: str | None, count: int, expected: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    assert lease.visible(count) == expected


def test_slurm_jobs_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm may call the first device of each job 0; only jobs' own tasks compete for it."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    one = lease.folder()
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    assert lease.folder() != one
    monkeypatch.delenv("SLURM_JOB_ID")
    assert lease.folder() not in (one, one.parent / "slurm-18")


def test_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRVR_LEASES", str(tmp_path))
    with lease.device("cpu") as device:
        assert device.type == "cpu"
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with lease.device("auto") as device:
        assert device.type == "cpu"
    with pytest.raises(DeviceError, match="no CUDA device"), lease.device("cuda"):
        pass
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", lambda index: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    other, _ = holder(tmp_path, "4")
    with lease.device() as device:
        assert (device.type, device.index) == ("cuda", 1)
    with lease.device(share=True) as device:
        assert (device.type, device.index) == ("cuda", 0)
    other.communicate("")
