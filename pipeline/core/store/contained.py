"""Only what lies in the file itself counts, and only what can be read to its end.

HDF5 can point at any file of the machine, and reads a missing one as zeros without a word. In the older formats, which most people's files
are of, nothing of a file's structure has a checksum, and a damaged one can end the process or be searched for ever.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import h5py
from h5py import h5d, h5l
from h5py._objects import phil

PATIENCE = 20.0  # processor seconds for one object of a file; a slow disk is waited for


def contents(file: h5py.File, each: Callable[[], object] = lambda: None) -> tuple[list[str], str]:
    """The full names of the data sets of a file, and the first thing in it that points elsewhere, in words; empty when nothing does.

    Soft links are not followed: without links to other files they cannot leave the file. `each` is called at every object.
    Errors: those of h5py.
    """
    names: list[bytes] = []
    left: list[str] = []

    def link(name: bytes, info: h5l.LinkInfo) -> bool | None:
        each()
        if info.type == h5l.TYPE_HARD:
            names.append(name)
        elif info.type != h5l.TYPE_SOFT:
            left.append(f"{name.decode(errors='replace')!r} is a link to another file")
            return True
        return None

    file.id.links.visit(link, info=True)
    data: list[str] = []
    for name in [] if left else names:
        each()
        node = h5py.h5o.open(file.id, name)
        if isinstance(node, h5d.DatasetID):
            data.append(name.decode("utf-8", "surrogateescape"))
            if reason := _elsewhere(node):
                return data, f"{data[-1]!r} {reason}"
    return data, left[0] if left else ""


def _elsewhere(node: h5d.DatasetID) -> str:
    creation = node.get_create_plist()
    if creation.get_layout() == h5d.VIRTUAL:
        return "is a virtual data set: its values lie elsewhere"
    return "has its values in another file" if creation.get_external_count() else ""


def unreadable(path: Path) -> str:
    """Why the structure of a file cannot be read to its end, tried in another process; empty when it can, or ends in an error of h5py.

    What is read later takes the same ways through the same bytes, so it ends too.
    """
    with phil:  # a lock that another thread of ours held would stay closed in the child
        child = os.fork()
        if child == 0:
            _walk(path)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        return ""
    return "reading it does not end" if os.WTERMSIG(status) == signal.SIGPROF else "reading it ends the process"


def _walk(path: Path) -> None:
    """Everything that is later asked of a stranger's file but its values; never returns."""
    try:
        signal.signal(signal.SIGPROF, signal.SIG_DFL)  # ends it even inside the library
        with h5py.File(path, "r") as file:
            names, elsewhere = contents(file, _renew)
            for name in [] if elsewhere else names:
                _renew()
                if file[name].chunks is not None:
                    file[name].id.get_num_chunks()  # goes through the whole index
    finally:
        os._exit(0)


def _renew() -> None:
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
