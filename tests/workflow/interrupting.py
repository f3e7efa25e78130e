"""What the tests of interruptions look at: results, leftovers and processes of a workspace."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pipeline.core.store import open_store
from tests.workflow.workspace import Workspace


def digests(work: Workspace, *only: str) -> dict[str, str]:
    """Every HDF5 result and the tables, by path; or those below some folders."""
    files = [p for p in work.results.rglob("*.h5") if "frames" not in p.parts]
    files += [work.results / "table.md", work.results / "quarantine.tsv"]
    found = {str(p.relative_to(work.results)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    return {path: digest for path, digest in found.items() if not only or path.startswith(only)}


def whole(work: Workspace) -> None:
    """Every file under its final name can be read, and nothing temporary is beside the running jobs' own."""
    for path in work.results.rglob("*.h5"):
        if not any(part.startswith(".") for part in path.relative_to(work.results).parts):
            with open_store(path):
                pass


def leftovers(work: Workspace) -> list[Path]:
    return [p for p in work.results.rglob(".*") if p.name.endswith((".tmp", ".parts", ".spool", ".part"))]


def processes(work: Workspace, word: str = "") -> list[psutil.Process]:
    """What still runs in the workspace, by a word of its command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == work.folder and process.status() != psutil.STATUS_ZOMBIE and word in " ".join(process.cmdline()):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def until(holds: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)
