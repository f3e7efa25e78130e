"""Tests that need ../shared are counted where it is missing, and are a failure in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_passes():
    pass

def test_needs_the_folder(shared):
    raise AssertionError("not skipped")

@pytest.mark.parametrize("n", [1, 2])
def test_skipped_for_another_reason(n):
    pytest.skip("no root")
"""


@pytest.mark.parametrize(("ci", "workers", "code"), [("", "0", 0), ("true", "0", 1), ("true", "2", 1)])
def test_they_are_counted_and_fail_in_ci(root: Path, tmp_path: Path, ci: str, workers: str, code: int) -> None:
    folder = tmp_path / "clone" / "tests"
    folder.mkdir(parents=True)
    shutil.copy(root / "tests" / "conftest.py", folder)
    (folder / "test_one.py").write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", workers, "-p", "no:cacheprovider", str(folder)],
        cwd=folder,
        env={**{k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}, "CI": ci},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "1 tests skipped for want of ../shared" in done.stdout
    assert "1 passed, 3 skipped" in done.stdout


def test_nothing_is_said_where_nothing_is_missing(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clone" / "tests"
    folder.mkdir(parents=True)
    (tmp_path / "shared").mkdir()
    shutil.copy(root / "tests" / "conftest.py", folder)
    (folder / "test_one.py").write_text("def test_has_the_folder(shared):\n    assert shared.is_dir()\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, cwd=folder, env={**os.environ, "CI": "true"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
