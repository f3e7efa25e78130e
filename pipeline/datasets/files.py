"""Reading original annotation files, plain or gzipped, with messages that name the file and the line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from pipeline.core.errors import DatasetError
from pipeline.datasets.rows import refuse

_FETCH = "fetch it as docs/datasets.md says (plain or .gz) into this folder, or set dataset.annotations to the folder that holds it"


def find(folder: Path, name: str) -> Path | None:
    """`folder/name`, or its gzipped form; None when there is neither."""
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def require(folder: Path, names: Sequence[str]) -> list[Path]:
    """The files, in order. DatasetError listing every one that is absent."""
    if not folder.is_dir():
        raise DatasetError("the folder of annotation files does not exist", where=folder, fix="set dataset.annotations to a folder")
    paths = [find(folder, name) for name in names]
    absent = [name for name, path in zip(names, paths, strict=True) if path is None]
    refuse(absent, what="missing annotation files", where=folder, fix=_FETCH)
    return [path for path in paths if path is not None]


def open_text(path: Path) -> IO[str]:
    """The file as UTF-8 text, unpacked when it ends in .gz."""
    return gzip.open(path, "rt", encoding="utf-8-sig", newline="") if path.suffix == ".gz" else path.open(encoding="utf-8-sig", newline="")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number, text) of every line that is not blank. DatasetError when the file is no text or a damaged archive."""
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except (UnicodeDecodeError, OSError, EOFError) as error:
        raise DatasetError(f"the file cannot be read: {error}", where=path, fix=_FETCH) from error


def document(path: Path) -> Any:
    """A JSON file. DatasetError when it is none."""
    try:
        with open_text(path) as file:
            return json.load(file)
    except (json.JSONDecodeError, UnicodeDecodeError, OSError, EOFError) as error:
        raise DatasetError(f"the file is no JSON: {error}", where=path, fix=_FETCH) from error


def records(path: Path, fields: Sequence[str]) -> list[dict[str, Any]]:
    """The objects of a JSONL file. DatasetError listing every line that is none or lacks one of `fields`."""
    objects, problems = [], []
    for number, line in lines(path):
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            problems.append(f"line {number}: no JSON ({error.msg})")
            continue
        absent = [name for name in fields if not isinstance(record, dict) or name not in record]
        if absent:
            problems.append(f"line {number}: no {', '.join(absent)}")
        else:
            objects.append(record)
    refuse(problems, what="bad lines", where=path, fix=_FETCH)
    return objects
