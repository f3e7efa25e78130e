"""Charades-STA: 12,408 training and 3,720 test pairs; durations come from the Charades tables, not from the pairs.

The 13,898 / 4,233 pairs of the TALL paper were cleaned after publication; every public file holds the smaller numbers.
Source: docs/datasets.md.
"""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

from pipeline.config.inputs import Dataset
from pipeline.core.errors import DatasetError
from pipeline.datasets.files import lines, open_text, require
from pipeline.datasets.rows import Query, Rows, Video, normalise, refuse, repair

GALLERIES: tuple[str, ...] = ("test",)
TELLTALE = ("charades_sta_train.txt", "charades_sta_test.txt")
_FILES = {"train": ("charades_sta_train.txt", "Charades_v1_train.csv"), "test": ("charades_sta_test.txt", "Charades_v1_test.csv")}


def read(dataset: Dataset) -> Rows:
    """Train and test."""
    paths = require(Path(dataset.annotations), [name for pair in _FILES.values() for name in pair])
    videos: list[Video] = []
    queries: list[Query] = []
    for i, split in enumerate(_FILES):
        of_split = _split(paths[2 * i], _lengths(paths[2 * i + 1]), split)
        videos += of_split[0]
        queries += of_split[1]
    return Rows(tuple(videos), tuple(queries), dataset.gallery or "test")


def _lengths(path: Path) -> dict[str, float]:
    """video id -> seconds."""
    with open_text(path) as file:
        reader = csv.DictReader(file)
        lacking = {"id", "length"} - set(reader.fieldnames or [])
        if lacking:
            raise DatasetError(f"columns are missing: {', '.join(sorted(lacking))}", where=path, fix="fetch the file again")
        return {row["id"]: float(row["length"]) for row in reader}


def _split(path: Path, lengths: dict[str, float], split: str) -> tuple[list[Video], list[Query]]:
    """Lines such as `3MSZA 24.3 30.4##person turn a light on.`"""
    videos: dict[str, Video] = {}
    queries: list[Query] = []
    count: Counter[str] = Counter()
    problems: list[str] = []
    for number, line in lines(path):
        head, separator, sentence = line.partition("##")
        fields = head.split()
        try:
            (video_id, start, end) = fields[0], float(fields[1]), float(fields[2])
        except (IndexError, ValueError):
            separator = ""
        if not separator or len(fields) != 3:
            problems.append(f"line {number}: `id start end##sentence` is expected")
            continue
        if video_id not in lengths:
            problems.append(f"line {number}: video {video_id} has no length in the table of videos")
            continue
        videos.setdefault(video_id, Video(video_id, split, lengths[video_id], ((video_id,),)))
        moments, flags = repair([(start, end)], lengths[video_id])
        cap_id = f"{video_id}#enc#{count[video_id]}"
        count[video_id] += 1
        queries.append(Query(cap_id, video_id, split, normalise(sentence), moments, cap_id, flags=flags, extra={"span": [start, end]}))
    refuse(problems, what="bad lines", where=path, fix="fetch the annotation file again")
    return list(videos.values()), queries
