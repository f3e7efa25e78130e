"""Delivering a signal to one thread of a process, as the kernel may."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from pathlib import Path

_TGKILL = {"x86_64": 234, "aarch64": 131}


def threads(pid: int) -> list[int]:
    """The numbers of a process's threads to which the kernel may give an ending signal, the main one first.

    An allocator's own thread blocks all signals: one that is given to it by name waits there for ever.
    """
    listening = [task for task in Path(f"/proc/{pid}/task").iterdir() if not _blocked(task) & 1 << signal.SIGTERM - 1]
    return sorted((int(task.name) for task in listening), key=lambda thread: (thread != pid, thread))


def _blocked(task: Path) -> int:
    """The mask of signals a thread blocks (proc(5))."""
    (line,) = [line for line in (task / "status").read_text().splitlines() if line.startswith("SigBlk:")]
    return int(line.split()[1], 16)


def deliver(pid: int, thread: int, number: signal.Signals) -> None:
    """Give a signal to one thread (tgkill(2), which Python does not have)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_TGKILL[platform.machine()], pid, thread, int(number)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"thread {thread} of {pid}")
