"""A Slurm for the tests of this folder, or a reason to skip them."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.slurm import Slurm, missing


@pytest.fixture(scope="package")
def slurm() -> Iterator[Slurm]:
    """A running cluster of one node; two test runs on one machine take turns."""
    with (Path(tempfile.gettempdir()) / "prvr-cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if reason := missing():
            pytest.skip(reason)
        # A short path: munge's socket may have 107 characters.
        cluster = Slurm(Path(tempfile.mkdtemp(prefix="slurm-")))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
