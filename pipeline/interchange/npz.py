"""Bundles of moment_detr, HERO and lighthouse: a folder of npz files per encoder and a QVHighlights-style annotation file per split."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import BundleError
from pipeline.datasets.rows import Query, normalise
from pipeline.interchange.bundle import Bundle
from pipeline.interchange.times import Merged, merge_clips, read_jsonl

_TEXT_KEYS = ("last_hidden_state", "features")
SECONDS_PER_ROW = 2.0  # these bundles hold a row every 2 s (docs/datasets.md, bundle layouts)


class NpzFolders:
    """Rows of one or more folders of `<name>.npz`, side by side; `pieces` maps a name to the files whose rows follow one another.

    Encoders may differ by a row or two at the end of a clip; the shortest decides, as in the published loaders.
    """

    def __init__(self, folders: Sequence[Path], keys: Sequence[str], pieces: dict[str, list[str]] | None = None) -> None:
        self._folders, self._keys = list(folders), keys
        available = set.intersection(
            *({str(p.relative_to(folder))[: -len(".npz")] for p in folder.rglob("*.npz") if p.is_file()} for folder in self._folders)
        )
        named = pieces if pieces is not None else {name: [name] for name in sorted(available)}
        self._pieces = {name: parts for name, parts in named.items() if all(part in available for part in parts)}

    def __contains__(self, name: object) -> bool:
        return name in self._pieces

    def __iter__(self) -> Iterator[str]:
        return iter(self._pieces)

    def __len__(self) -> int:
        return len(self._pieces)

    def __getitem__(self, name: str) -> np.ndarray:
        return np.concatenate([self._joined(part) for part in self._pieces[name]])

    def _joined(self, part: str) -> np.ndarray:
        arrays = [self._read(folder / f"{part}.npz") for folder in self._folders]
        rows = min(len(array) for array in arrays)
        return np.concatenate([array[:rows] for array in arrays], axis=1)

    def _read(self, path: Path) -> np.ndarray:
        with _opened(path) as file:
            array = np.asarray(file[_key(path, file.files, self._keys)])
        return array[None] if array.ndim == 1 else array

    def peek(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        """Shape and type as the headers claim them: of one file its own, else of all together."""
        seen = [[_header(folder / f"{part}.npz", self._keys) for folder in self._folders] for part in self._pieces[name]]
        flat = [header for part in seen for header in part]
        if len(flat) == 1 or any(len(shape) != 2 for shape, _ in flat):
            return next((header for header in flat if len(header[0]) != 2), flat[0])
        rows = sum(min(shape[0] for shape, _ in part) for part in seen)
        return (rows, sum(shape[1] for shape, _ in seen[0])), np.result_type(*(dtype for _, dtype in flat))


def _key(path: Path, held: Sequence[str], keys: Sequence[str]) -> str:
    key = next((key for key in keys if key in held), None)
    if key is None:
        raise BundleError(f"holds {', '.join(held) or 'nothing'}; one of {', '.join(keys)} expected", where=path, fix="check the folder")
    return key


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An npz file; whatever its damage raises is a BundleError."""
    try:
        if not zipfile.is_zipfile(path):  # numpy would take it for a pickle, and say how to run one
            raise ValueError("no zip archive")
        with np.load(path, allow_pickle=False) as file:
            yield file
    except (ValueError, OSError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"not a readable npz file ({str(error)[:200]})", where=path, fix="fetch the file again") from error


def _header(path: Path, keys: Sequence[str]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of the array, read from its header alone: a file of a few bytes may claim terabytes. Errors: BundleError."""
    with _opened(path) as file:
        key = _key(path, file.files, keys)
        with file.zip.open(f"{key}.npy") as stream:
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(stream)
            claimed, held = stream.tell() + math.prod(shape) * dtype.itemsize, file.zip.getinfo(f"{key}.npy").file_size
        if min(shape, default=1) < 0 or (claimed != held and not dtype.hasobject):
            raise ValueError(f"{key} claims {shape} of {dtype}, the file holds {held} bytes")
    return (1, *shape) if len(shape) == 1 else shape, dtype


@contextmanager
def open_npz(
    annotations: dict[str, Path], videos: Sequence[Path], text: Path, *, merge: bool = False, every: float = SECONDS_PER_ROW
) -> Iterator[Bundle]:
    """Open npz features with their annotation files.

    Args: `annotations` split -> jsonl with qid, query, vid, duration, relevant_windows; `videos` one folder per encoder, rows set side by
    side; `text` the folder of `qid<qid>.npz`; `merge` joins the clips cut from one source video, in order, and moves the moments along
    (QVHighlights as PRVR uses it: 2,214 / 474 videos); `every` seconds per row.
    Errors: BundleError. Source: docs/datasets.md (what the readers mend, bundle layouts).
    """
    for folder in (*videos, text):
        if not folder.is_dir():
            raise BundleError("no such folder of npz files", where=folder, fix="check the path")
    rows = {split: read_jsonl(path, "qid", "query", "vid") for split, path in annotations.items()}
    lengths: dict[str, float] = {row["vid"]: float(row.get("duration") or "nan") for listed in rows.values() for row in listed}
    merged = (
        merge_clips(lengths) if merge else Merged({v: v for v in lengths}, dict.fromkeys(lengths, 0.0), lengths, {v: [v] for v in lengths})
    )
    splits = {
        split: [
            Query(
                query_id=str(row["qid"]),
                video_id=merged.owner[row["vid"]],
                split=split,
                text=normalise(row["query"]),
                moments=tuple((a + merged.shift[row["vid"]], b + merged.shift[row["vid"]]) for a, b in row.get("relevant_windows", [])),
            )
            for row in listed
        ]
        for split, listed in rows.items()
    }
    yield Bundle(
        collection="qvhighlights" if merge else "npz",
        layout="npz",
        splits=splits,
        videos=NpzFolders(videos, ("features",), merged.pieces),
        texts=NpzFolders([text], _TEXT_KEYS),
        durations=merged.durations,
        every=every,
        sentences=_pooled(text),
    )


def _pooled(text: Path) -> NpzFolders | None:
    """The sentence vectors stored beside the tokens, where the files have them."""
    first = next(iter(sorted(path for path in text.rglob("*.npz") if path.is_file())), None)
    if first is None:
        return None
    with _opened(first) as file:
        return NpzFolders([text], ("pooler_output",)) if "pooler_output" in file.files else None
