"""Only what lies in the file itself counts: HDF5 can point at any file of the machine, and reads a missing one as zeros without a word."""

from __future__ import annotations

import h5py
from h5py import h5d, h5l


def contents(file: h5py.File) -> tuple[list[str], str]:
    """The full names of the data sets of a file, and the first thing in it that points elsewhere, in words; empty when nothing does.

    Soft links are not followed: without links to other files they cannot leave the file. Errors: those of h5py.
    """
    names: list[bytes] = []
    left: list[str] = []

    def link(name: bytes, info: h5l.LinkInfo) -> bool | None:
        if info.type == h5l.TYPE_HARD:
            names.append(name)
        elif info.type != h5l.TYPE_SOFT:
            left.append(f"{name.decode(errors='replace')!r} is a link to another file")
            return True
        return None

    file.id.links.visit(link, info=True)
    data: list[str] = []
    for name in [] if left else names:
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
