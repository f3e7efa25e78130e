"""Files that appear whole or not at all: every result is written through here."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.core.errors import system_error

# Containers may share a host name and yet not see each other's processes.
HOST = f"{socket.gethostname()}-{Path('/proc/self/ns/pid').stat().st_ino}"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; when the block ends the file there is synced to disk and takes the final name in one step.

    Nothing is left behind when the block raises. What a killed process left is removed by the next writer of the same file. Several
    processes, on several hosts too, may write one file at once: each has its own temporary one, and the last to end wins.
    Errors: DiskError, LimitError or OSError for the folder and the name; what the block raises.
    """
    path = Path(path)
    with typed():
        path.parent.mkdir(parents=True, exist_ok=True)
        for file in path.parent.glob(f".{path.name}.*.tmp"):
            if _orphan(file):
                file.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.name}.{HOST}-{os.getpid()}.tmp")
    try:
        yield temporary
        with typed():
            publish(temporary, path)
    finally:
        with suppress(OSError):  # what cannot be removed was not made here, or says so above
            temporary.unlink(missing_ok=True)


@contextmanager
def typed() -> Iterator[None]:
    """Refusals of the system as DiskError or LimitError, which say what to do."""
    try:
        yield
    except OSError as error:
        raise system_error(error) or error from error


def _orphan(file: Path) -> bool:
    """Whether the writer of a temporary file is gone: its process on this host, or for a day, as far as can be seen of another."""
    host, _, number = file.name.removesuffix(".tmp").rpartition("-")
    if not (host.endswith(f".{HOST}") and number.isdecimal()):
        try:
            return time.time() - file.stat().st_mtime > 86400
        except FileNotFoundError:
            return False
    return int(number) != os.getpid() and not psutil.pid_exists(int(number))


def publish(temporary: Path, path: Path) -> None:
    """Sync `temporary` to disk and give it its final name in one step (both in one folder)."""
    descriptor = os.open(temporary, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with replacing(path) as temporary, typed():
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON atomically (manifests, metrics), indented, with sorted keys."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")
