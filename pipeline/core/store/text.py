"""Text in HDF5: UTF-8 in fields of one width, never HDF5's strings of variable length.

Those lie in a heap that no checksum of HDF5 covers, and one flipped byte there makes HDF5 search it for ever. What is not UTF-8 in a file
name travels as Python's surrogates. Columns above a megabyte are compressed, so that one long text does not widen all the others.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from pipeline.core.errors import StoreValues

PLAIN_BYTES = 1 << 20  # a column is compressed from here
BLOCK_BYTES = 1 << 18  # as much of a column is encoded, compressed and decoded at once
READABLE = "biufS"  # kinds of type whose values lie in place; all others (variable length, references, compounds) are never read


def encode(text: str, what: str) -> bytes:
    """The bytes that are stored. Errors: StoreValues for a NUL, which would end the text."""
    if "\0" in text:
        raise StoreValues(f"{what} holds a NUL character: {text[:40]!r}", fix="take it out of the text it comes from")
    return text.encode("utf-8", "surrogateescape")


def put_attribute(file: h5py.File, name: str, value: str | int | float) -> None:
    """Write an attribute of the file."""
    if isinstance(value, str):
        stored = encode(value, f"attribute {name}")
        file.attrs.create(name, stored, dtype=h5py.string_dtype("utf-8", max(1, len(stored))))
    else:
        file.attrs[name] = value


def attributes(file: h5py.File) -> dict[str, str | int | float | bool]:
    """The attributes of a file. Errors: TypeError for one of another type, which is not read."""
    read: dict[str, str | int | float | bool] = {}
    for name in file.attrs:
        known = file.attrs.get_id(name)
        if known.dtype.kind not in READABLE or known.shape != ():
            raise TypeError(f"attribute {name} is no text or number")
        value = file.attrs[name]
        read[name] = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value.item()
    return read


def put(group: h5py.Group, name: str, texts: np.ndarray) -> None:
    """Write a column of text: [n] of str. Errors: StoreValues; TypeError for what is no text, ValueError for other shapes."""
    if texts.ndim != 1:
        raise ValueError(f"{name}: text of shape {texts.shape}, one column expected")
    if others := [text for text in texts if not isinstance(text, str)]:
        raise TypeError(f"{name} holds {others[0]!r}, text expected")
    stored = [encode(text, name) for text in texts]
    width = max([1, *map(len, stored)])
    dtype, rows = h5py.string_dtype("utf-8", width), max(1, BLOCK_BYTES // width)
    how: dict[str, Any] = {"chunks": (rows,), "compression": "gzip"} if width * len(stored) > PLAIN_BYTES else {}
    data = group.create_dataset(name, (len(stored),), dtype, track_times=False, **how)
    for start in range(0, len(stored), rows):
        data[start : start + rows] = np.array(stored[start : start + rows], dtype)


def get(data: h5py.Dataset) -> np.ndarray:
    """A column of text as Python strings: [n]. Errors: TypeError for text that is stored otherwise."""
    if data.dtype.kind != "S" or data.ndim != 1:
        raise TypeError(f"{data.name} is no text in fields of one width")
    texts, rows = np.empty(len(data), dtype=object), max(1, BLOCK_BYTES // data.dtype.itemsize)
    for start in range(0, len(data), rows):
        block = data[start : start + rows].tolist()
        texts[start : start + rows] = [text.decode("utf-8", "surrogateescape") for text in block]
    return texts
