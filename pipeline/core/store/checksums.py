"""What a file says about its own content: a checksum of every array in a listing, and a digest over the listing and the attributes.

The digest is read when a file is opened, a checksum when its array is read. Values of a ragged group have one checksum per piece of an
item, so that one item is checked, or lost, without the others. Source of the choice, and its cost: docs/decisions.md, benchmarks/store.py.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

PIECE_BYTES = 1 << 18  # no more of an item is read to check a part of it


def crc(array: np.ndarray, before: int = 0) -> int:
    """CRC-32 of an array's values in C order, going on from `before`; strings count as their UTF-8 bytes, each ended by a zero."""
    if array.dtype == object:
        return zlib.crc32(b"".join(str(text).encode("utf-8", "surrogateescape") + b"\0" for text in array.ravel()), before)
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, before)


def entry(dtype: np.dtype, shape: tuple[int, ...], checksum: int | None) -> list[Any]:
    """What the listing says of an array: type, shape, checksum (None where `pieces` have them). Text is of any width."""
    return ["text" if dtype.kind in "OS" else dtype.str, list(shape), checksum]


def rows_per_piece(shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Rows of one piece. `shape` [N, ...] of the values."""
    return max(1, PIECE_BYTES // max(1, np.dtype(dtype).itemsize * int(np.prod(shape[1:]))))


def piece_starts(offsets: np.ndarray, size: int) -> np.ndarray:
    """First row of every piece, and the end of the last: each item is cut every `size` rows. Shapes: [n+1] -> [pieces+1]."""
    counts = -(-np.diff(offsets) // size)
    ends = np.cumsum(counts)
    within = np.arange(int(ends[-1]) if len(ends) else 0) - np.repeat(ends - counts, counts)
    return np.append(np.repeat(offsets[:-1], counts) + within * size, offsets[-1:])


def pieces(values: np.ndarray, size: int) -> list[int]:
    """The checksums of one item's pieces. Shapes: `values` [rows, ...]."""
    return [crc(values[start : start + size]) for start in range(0, len(values), size)]


def digest(attributes: Mapping[str, Any], listing: bytes) -> str:
    """The digest of a whole file: of its attributes as they are stored, and of the listing with all checksums. 32 hex digits."""
    return hashlib.sha256(json.dumps(dict(attributes), sort_keys=True).encode() + b"\n" + listing).hexdigest()[:32]
