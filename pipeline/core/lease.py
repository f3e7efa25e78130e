"""One job per GPU: a file lock on each device, whoever numbers the devices (CUDA_VISIBLE_DEVICES, Slurm, MIG).

Snakemake's `gpu` resource is only a count, and without `--resources` not even that, so a job also takes a lease.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from pipeline.core.errors import DeviceError

if TYPE_CHECKING:
    import torch

POLL = 0.5  # seconds between two looks at devices that are all taken


def folder() -> Path:
    """Where the locks lie: on this host, and under Slurm for this allocation only, since Slurm may number each job's devices from 0."""
    base = Path(os.environ.get("PRVR_LEASES") or Path(tempfile.gettempdir()) / f"prvr-leases-{os.getuid()}")
    job = os.environ.get("SLURM_JOB_ID")
    return base / f"slurm-{job}" if job else base


def visible(count: int) -> list[str]:
    """Names of the devices this process may use, in CUDA's order: indices, GPU or MIG UUIDs as given, else 0..count-1.

    CUDA stops at the first entry it cannot use (a negative number); so does this.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is None:
        return [str(i) for i in range(count)]
    names: list[str] = []
    for entry in (part.strip() for part in given.split(",")):
        if not entry or entry.startswith("-"):
            break
        names.append(entry)
    return names[:count] if count else names


@contextlib.contextmanager
def lease(names: Sequence[str], timeout: float | None = None, where: Path | None = None) -> Iterator[int]:
    """Hold the first free device of `names` for the block; yields its position. Waits when all are taken.

    Errors: DeviceError after `timeout` seconds (None: never). The operating system frees the lock of a killed process.
    """
    locks_in = where or folder()
    locks_in.mkdir(parents=True, exist_ok=True)
    locks = [FileLock(locks_in / f"{name.replace('/', '_')}.lock") for name in names]
    started, told = time.monotonic(), False
    while True:
        for position, lock in enumerate(locks):
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            try:
                yield position
            finally:
                lock.release()
            return
        if timeout is not None and time.monotonic() - started > timeout:
            raise DeviceError(
                f"no free GPU among {', '.join(names)} after {timeout:.0f} s", where=locks_in, fix="wait, or set runtime.share_gpu"
            )
        if not told:
            print(f"waiting for a GPU ({', '.join(names)} are taken by other jobs)", file=sys.stderr, flush=True)
            told = True
        time.sleep(POLL)


@contextlib.contextmanager
def device(kind: str = "auto", *, share: bool = False) -> Iterator[torch.device]:
    """The device a job computes on, leased for the block when it is a GPU and jobs do not `share` it.

    `kind`: auto (CUDA where there is one), cpu or cuda.

    Errors: DeviceError when `device: cuda` is asked for and torch sees none.
    """
    import torch

    count = torch.cuda.device_count() if kind != "cpu" else 0
    if kind == "cuda" and not count:
        raise DeviceError(
            "runtime.device is cuda, but torch sees no CUDA device", fix="set runtime.device: auto or cpu, or mend the driver"
        )
    if not count:
        yield torch.device("cpu")
    elif share:
        yield torch.device("cuda", 0)
    else:
        with lease(visible(count)) as position:
            torch.cuda.set_device(position)
            yield torch.device("cuda", position)
