"""Delivering a signal to one thread of a process, as the kernel may."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
from pathlib import Path

_TGKILL = {"x86_64": 234, "aarch64": 131}


def threads(pid: int) -> list[int]:
    """The numbers of a process's threads, the main one first."""
    return sorted((int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()), key=lambda thread: (thread != pid, thread))


def deliver(pid: int, thread: int, number: signal.Signals) -> None:
    """Give a signal to one thread (tgkill(2), which Python does not have)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(_TGKILL[platform.machine()], pid, thread, int(number)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"thread {thread} of {pid}")
