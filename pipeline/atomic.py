"""Files that appear whole or not at all: every final file of the project is written through here."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield a temporary name beside `path`; when the block ends the file there is synced to disk and takes the final name in one step.

    Nothing is left behind when the block raises. What a killed process left is removed by the next writer of the same file, unless
    `shared` says that several processes may write it at once (each then has its own temporary file, and the last to end wins).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not shared:
        for orphan in path.parent.glob(f".{path.name}.*.tmp"):
            orphan.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        publish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path) -> None:
    """Sync `temporary` to disk and give it its final name in one step (both in one folder)."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)


def write_text(path: str | Path, text: str, *, shared: bool = False) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path, shared=shared) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, *, shared: bool = False) -> None:
    """Write JSON atomically (manifests, metrics), indented, with sorted keys."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str) + "\n", shared=shared)
