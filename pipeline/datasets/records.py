"""The records of an annotation file: rows of a CSV or TSV, objects of a JSONL, each with the line it stands on."""

from __future__ import annotations

import csv
import difflib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core.errors import DatasetError

COLUMNS = ("path", "video_id", "query", "split", "start", "end", "moments", "query_id", "group")
DESCRIBED = "docs/own-videos.md describes the columns"
FIX = f"mend these rows and run again; {DESCRIBED}"
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars", ",": "commas"}


def records(path: Path, problems: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, fields) of a CSV, TSV or JSONL. Lines that are no record go to `problems`. Errors: DatasetError."""
    if not path.is_file():
        raise DatasetError("the annotation file does not exist", where=path, fix="set dataset.annotations to a CSV, TSV or JSONL file")
    suffix = path.suffix.lower()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if suffix in (".jsonl", ".ndjson"):
                yield from _jsonl(file, problems)
            elif suffix in (".csv", ".tsv"):
                yield from _csv(file, path, "\t" if suffix == ".tsv" else ",", problems)
            else:
                raise DatasetError(f"annotations of type {suffix!r} cannot be read", where=path, fix="use .csv, .tsv or .jsonl")
    except UnicodeDecodeError as error:
        raise DatasetError(f"line {_not_utf8(path)} is not UTF-8 text", where=path, fix="save the file again as UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"the file is not a CSV: {error}", where=path, fix="save it again as CSV") from error


def _jsonl(file: Any, problems: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_once)
        except RecursionError:
            problems.append(f"line {number}: nested too deep")
            continue
        except ValueError as error:
            problems.append(f"line {number}: no JSON ({getattr(error, 'msg', error)})")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            problems.append(f"line {number}: a JSON object is expected")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Errors: ValueError when a key is given twice."""
    repeated = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    if repeated:
        raise ValueError(f"{', '.join(repeated)} given twice")
    return dict(pairs)


def _read(reader: csv.DictReader[str], path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a CSV. Errors: DatasetError with the line at which a row that cannot be read begins."""
    begins = reader.line_num + 1
    try:
        for row in reader:
            yield row
            begins = reader.line_num + 1
    except csv.Error as error:
        fix = "a quote inside a quoted field is written twice; save it again as CSV"
        raise DatasetError(f"the row that begins on line {begins} cannot be read: {error}", where=path, fix=fix) from error


def _not_utf8(path: Path) -> int:
    """The first line of a file that is not UTF-8, counted from 1."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        try:
            line.decode("utf-8")
        except UnicodeDecodeError:
            return number
    return 1


def _header_fix(names: list[str], delimiter: str) -> str:
    """What mends a header: another separator, columns spelt otherwise, or the docs."""
    between = next((mark for mark in _SEPARATORS if mark != delimiter and any(mark in name for name in names)), None)
    if between:
        wanted = "tabs" if delimiter == "\t" else "commas"
        return f"its columns are separated by {_SEPARATORS[between]}: save it again with {wanted}"
    near = {name: match for name in names if name not in COLUMNS for match in difflib.get_close_matches(name.lower(), COLUMNS, n=1)}
    renamed = ", ".join(f"{name!r} to {match!r}" for name, match in near.items())
    return f"rename {renamed}; {DESCRIBED}" if renamed else f"give the file these columns; {DESCRIBED}"


def _csv(file: Any, path: Path, delimiter: str, problems: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(file, delimiter=delimiter, strict=True)
    names = [name.strip() for name in reader.fieldnames or []]
    reader.fieldnames = names
    lacking = [name for name in ("query", "split") if name not in names]
    lacking += [] if {"path", "video_id"} & set(names) else ["path (or video_id)"]
    if lacking:
        fix = _header_fix(names, delimiter)
        raise DatasetError(f"columns are missing: {', '.join(lacking)}; there are {', '.join(names) or 'none'}", where=path, fix=fix)
    if repeated := [name for name, times in Counter(filter(None, names)).items() if times > 1]:
        raise DatasetError(f"columns are given twice: {', '.join(repeated)}", where=path, fix="keep or rename one of each")
    for row in _read(reader, path):
        if not any(isinstance(value, str) and value.strip() for value in row.values()):
            continue
        if None in row:
            problems.append(f"line {reader.line_num}: more fields than the header has (put quotes round a query with a comma)")
            continue
        yield reader.line_num, dict(row)
