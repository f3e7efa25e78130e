"""Machines that lack something: a folder nobody may write to, no shared memory, few open files, little memory. What works goes on
working, and what does not ends in a typed error."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.workflow.workspace import ROOT, Workspace, demo_config

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,ro,bind "$0" && cd "$0" && exec "$@"'
NO_SHARED_MEMORY = (
    'mount -t tmpfs none /dev && mknod /dev/null c 1 3 && mknod /dev/zero c 1 5 && mknod /dev/urandom c 1 9 && cd "$0" && exec "$@"'
)


def apart(work: Workspace, script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command in mounts of its own."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here (it needs root)")
    command = ["unshare", "-m", "sh", "-c", script, str(work.folder), sys.executable, "-m", "pipeline.cli", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=work.folder)


def test_looking_and_searching_in_a_folder_that_is_read_only(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    (work.results / "fingerprints.json").unlink()
    for index in work.results.rglob("index.*"):
        index.unlink()
    before = sorted(work.folder.rglob("*"))
    said = {words[0]: apart(work, READ_ONLY, *words) for words in (["status"], ["summary"], ["search", "a red ball"])}
    assert {name: done.returncode for name, done in said.items()} == dict.fromkeys(said, 0), said
    assert "the encoded videos are not kept for the next search: Read-only file system" in said["search"].stderr
    assert sorted(work.folder.rglob("*")) == before
    assert work.prvr("search", "a red ball").stdout == said["search"].stdout


def test_the_demo_without_shared_memory(tmp_path: Path) -> None:
    work = Workspace(tmp_path, {**demo_config(), "demo": {"train": 2, "val": 1, "test": 1}})
    done = apart(work, NO_SHARED_MEMORY, "world", "--threads", "2")
    assert done.returncode == 0, done.stderr
    assert "one process draws all videos" in done.stderr
    assert len(list((work.results / "world").rglob("*.mp4"))) == 4


@pytest.mark.parametrize(
    ("limit", "words", "code"),
    [
        ("-n 12", "frames --shard 000", "Too many open files"),
        ("-v 1500000", "clips --experiment main --shard 000", "Cannot allocate memory"),  # torch cannot be loaded
    ],
)
def test_limits_of_the_system(finished: Workspace, tmp_path: Path, limit: str, words: str, code: str) -> None:
    work = finished.copy(tmp_path / "work")
    # Where the features are there, nothing is decoded; with them gone a clips job would not come as far as torch.
    for stored in [*work.results.glob("frames/*/*"), *(work.results.glob("features/*/*") if words.startswith("frames") else ())]:
        stored.unlink()
    command = f'ulimit {limit}; exec "$0" -m pipeline.cli {words}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["sh", "-c", command, sys.executable], capture_output=True, text=True, cwd=work.folder, env=environment, check=False
    )
    assert done.returncode == 2, done.stderr
    assert f"[LIMIT] {code}" in done.stderr
    assert "Traceback" not in done.stderr
    assert not [path for path in work.results.rglob("*.tmp")]
