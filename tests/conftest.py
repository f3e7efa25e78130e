"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two pytest workers on two cores
settings.register_profile("prvr", deadline=None, derandomize=True)  # the same examples every time, on a machine of any speed
settings.load_profile("prvr")
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden arrays, annotation files and sample videos beside the project; the test is skipped without it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("no ../shared folder (golden arrays, annotations, sample videos)")
    return path
