"""Your own videos: a folder, and a CSV, TSV or JSONL of queries (or no queries at all)."""

from __future__ import annotations

import difflib
import json
import math
import os
from pathlib import Path
from typing import Any

from pipeline.config.inputs import Dataset
from pipeline.core.errors import DatasetError
from pipeline.datasets.folder import FolderFiles, scan
from pipeline.datasets.records import COLUMNS, FIX, records
from pipeline.datasets.rows import NO_SPLIT, SPLITS, Query, Rows, Video, normalise, refuse

TEXTS = ("path", "video_id", "query", "split", "query_id", "group")
NO_EXTRA: dict[str, Any] = {}  # one for all queries without
KEPT = tuple(name for name in COLUMNS if name != "video_id")  # beside `path`, which says which video it is


def read(dataset: Dataset) -> Rows:
    """The videos and queries of an own dataset.

    Errors: DatasetError listing every bad row with its line number (no query, unknown split, bad time, missing file, an id used twice,
    an id that fits two files, a video in two splits), or a file that is no CSV or JSONL.
    """
    root = Path(dataset.videos or (Path(dataset.annotations).parent if dataset.annotations else ""))
    if not dataset.videos and not dataset.annotations:
        raise DatasetError(
            "neither videos nor annotations are named", where="dataset", fix="set dataset.videos, dataset.annotations, or both"
        )
    files = FolderFiles(scan(root), root)
    if not dataset.annotations:
        return _without_queries(files, root)

    reader = _Reader(files, dataset.allow_missing_videos)
    for line, row in records(Path(dataset.annotations), reader.problems):
        reader.add(line, row)
    rows = reader.rows(dataset.include_unlabelled)
    refuse(reader.problems, what="bad rows", where=dataset.annotations, fix=FIX)
    if not rows.queries and reader.blank:
        return _without_queries(files, root, f"{dataset.annotations} has no query yet")
    if not rows.queries:
        raise DatasetError("no row to work with", where=dataset.annotations, fix=FIX)
    return rows


def _without_queries(files: FolderFiles, root: Path, *notes: str) -> Rows:
    """Every video of the folder. Errors: DatasetError for an id with several files, and where there is no video."""
    refuse(files.collisions(), what="ids with several files", where=root, fix="rename one of the files of each line")
    videos = tuple(Video(file.key, NO_SPLIT, files=(file.path,)) for file in files.all)
    if not videos:
        raise DatasetError("no video in the folder", where=root, fix="set dataset.videos to the folder that holds them")
    return Rows(videos, (), notes=(f"{len(videos)} videos without queries: features and search only", *notes))


def unfit(row: dict[str, Any]) -> list[str]:
    """What of a row's fields cannot be meant: a list or an object where a word is expected, characters that no text has."""
    problems = []
    for name, value in row.items():
        if isinstance(value, str) and name.isprintable() and value.isprintable():
            continue  # as nearly every field of a large file: no NUL and no half character can be printed
        if name in TEXTS and isinstance(value, list | dict | bool):
            kind = {list: "a list", dict: "an object", bool: "a truth value"}[type(value)]
            problems.append(f"{name} is {kind}, {'a sentence is expected (one line each)' if name == 'query' else 'a text is expected'}")
        written = json.dumps([name, value], ensure_ascii=False)
        if "\\u0000" in written:
            problems.append(f"{name!a} holds a NUL character")
        if any("\ud800" <= letter <= "\udfff" for letter in written):
            problems.append(f"{name!a} holds half a character (a cut emoji)")
    return problems


class _Reader:
    """Collects rows, and every problem of every row."""

    def __init__(self, files: FolderFiles, allow_missing: bool) -> None:
        self.files, self.allow_missing = files, allow_missing
        self.problems: list[str] = []
        self.missing: list[str] = []
        self.absent: dict[str, None] = {}
        self.both = 0  # rows that name their video twice
        self.blank = 0  # rows that name a video and nothing else: `prvr init` writes them to be filled in
        self.queries: list[Query] = []
        self.lines: dict[str, int] = {}
        self.videos: dict[str, tuple[str, str, int]] = {}
        self.counts: dict[str, int] = {}

    def add(self, line: int, row: dict[str, Any]) -> None:
        bad = unfit(row)
        if bad:  # its fields are no text: nothing more can be asked of them
            self.problems += [f"line {line}: {problem}" for problem in bad]
            return
        if not any(str(value if value is not None else "").strip() for name, value in row.items() if name not in ("path", "video_id")):
            self.blank += 1
            return
        self.both += bool(row.get("path") and row.get("video_id"))
        path, video_id = str(row.get("path") or "").strip(), str(row.get("video_id") or "").strip()
        key, file, absent = "", "", ""
        if not path and not video_id:
            bad.append("neither path nor video_id")
        else:
            key, file, absent = self.files.resolve(path, video_id, hint=not self.allow_missing)
            if absent and not (self.allow_missing and absent.startswith("no ")):
                bad.append(absent)
        text = normalise(str(row.get("query") or ""))
        if not text:
            bad.append("no query")
        split = str(row.get("split") or "").strip()
        if split not in SPLITS:
            near = difflib.get_close_matches(split.lower(), SPLITS, n=1, cutoff=0.5)
            bad.append(f"split {split!r} is none of {', '.join(SPLITS)}" + (f" (nearest: {near[0]})" if near else ""))
        moments = _moments(row, bad)
        query_id = str(row.get("query_id") if row.get("query_id") is not None else "").strip()
        if query_id and query_id in self.lines:
            bad.append(f"query_id {query_id!r} was used on line {self.lines[query_id]}")
        if query_id:
            self.lines.setdefault(query_id, line)
        if key:
            self._video(key, file, split, line, bad)
        self.problems += [f"line {line}: {problem}" for problem in bad]
        if bad:
            return
        number = self.counts.get(key, 0)
        self.counts[key] = number + 1
        if absent:
            self.missing.append(f"{key} ({split}): line {line}: {absent}")
            self.absent[key] = None
            return
        cap_id = f"{key}#enc#{number}"
        told = COLUMNS if not path else KEPT
        extra = {name: value for name, value in row.items() if name not in told and value not in (None, "")} or NO_EXTRA
        self.queries.append(Query(query_id or cap_id, key, split, text, moments, cap_id, str(row.get("group") or "").strip(), (), extra))

    def _video(self, key: str, file: str, split: str, line: int, bad: list[str]) -> None:
        if self.videos.get(key, ("", "", 0))[1] not in SPLITS:
            self.videos[key] = (file, split, line)
        known_file, known_split, known_line = self.videos[key]
        if file and known_file and file != known_file:
            bad.append(f"id {key!r} is {os.path.basename(file)} here and {os.path.basename(known_file)} on line {known_line}")
        if split in SPLITS and known_split in SPLITS and split != known_split:
            bad.append(f"video {key!r} is in split {split} here and in {known_split} on line {known_line}")

    def rows(self, include_unlabelled: bool) -> Rows:
        used = {query.video_id for query in self.queries}
        videos = [Video(key, split, files=(file,)) for key, (file, split, _) in self.videos.items() if key in used]
        others = [file for file in self.files.all if file.key not in self.videos]
        notes = []
        if others and include_unlabelled:
            self.problems += [f"id {self.files.collision(key)}" for key in {f.key: None for f in others} if len(self.files.by_key[key]) > 1]
            videos += [Video(file.key, NO_SPLIT, files=(file.path,)) for file in others]
            notes.append(f"{len(others)} videos of the folder have no query: features and search only")
        elif others:
            notes.append(
                f"{len(others)} videos of the folder have no query and are left alone (dataset.include_unlabelled: true takes them in)"
            )
        if self.blank:
            notes.append(f"{self.blank} rows have no query yet")
        if self.both:
            notes.append(f"{self.both} rows give both path and video_id: path says which video it is, video_id is kept as a note")
        if self.missing:
            notes.append(f"{len(self.absent)} videos with {len(self.missing)} queries are not on disk and left out")
        return Rows(tuple(videos), tuple(self.queries), notes=tuple(notes), missing=tuple(self.missing), absent=tuple(self.absent))


def _moments(row: dict[str, Any], bad: list[str]) -> tuple[tuple[float, float], ...]:
    """The row's time spans, from `start` and `end` or from a list `moments` (JSONL); problems are added to `bad`."""
    given = row.get("moments")
    if given in (None, ""):
        start, end = row.get("start"), row.get("end")
        blank = [value is None or (isinstance(value, str) and not value.strip()) for value in (start, end)]
        if all(blank):
            return ()
        if any(blank):
            bad.append("start without end" if blank[1] else "end without start")
            return ()
        given = [[start, end]]
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            given = None
    if not isinstance(given, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in given):
        bad.append(f"moments {row.get('moments')!r} is no list of [start, end] pairs")
        return ()
    moments = []
    for pair in given:
        try:
            if any(isinstance(time, bool) for time in pair):
                raise ValueError
            start, end = float(pair[0]), float(pair[1])
        except (TypeError, ValueError, OverflowError):
            bad.append(f"time span {pair[0]!r} to {pair[1]!r}: seconds are expected")
            continue
        if not (math.isfinite(start) and math.isfinite(end) and 0 <= start < end):
            bad.append(f"time span {start:g} to {end:g}: 0 <= start < end is expected")
        moments.append((start, end))
    return tuple(sorted(moments))
