"""QVHighlights as PRVR uses it: the 150 s clips of one source video are joined, moments move to the joined time line.

Source: the ProtoPRVR data note (2,214 train and 474 test videos; 7,218 and 1,550 queries); docs/datasets.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.config.inputs import Dataset
from pipeline.datasets.files import records, require
from pipeline.datasets.rows import Query, Rows, Video, normalise, repair

GALLERIES = ("val", "test")
TELLTALE = ("highlight_train_release.jsonl", "highlight_val_release.jsonl")
ADVICE = "gallery val, on which the field reports; `gallery: test` keeps it for choosing the epoch (docs/datasets.md)"
CLIP_SECONDS = 2  # length of one saliency unit

# The field tests on the official val release, whose 474 videos it calls the test set. `test` instead uses the labelled official
# test release, and leaves the val release for choosing the epoch.
_FILES = {
    "val": {"train": "highlight_train_release.jsonl", "test": "highlight_val_release.jsonl"},
    "test": {"train": "highlight_train_release.jsonl", "val": "highlight_val_release.jsonl", "test": "highlight_test_with_gt.jsonl"},
}


def files(gallery: str | None) -> list[str]:
    """The annotation files a gallery needs."""
    return list(_FILES[gallery or "val"].values())


def read(dataset: Dataset) -> Rows:
    """Both splits of the PRVR form. Gallery `val` (the default, the published one) or `test`."""
    gallery = dataset.gallery or "val"
    splits = _FILES[gallery]
    videos: list[Video] = []
    queries: list[Query] = []
    for split, path in zip(splits, require(Path(dataset.annotations), files(gallery)), strict=True):
        rows = records(path, ("qid", "query", "duration", "vid"))
        merged, offsets = _merge(rows, split)
        videos += merged
        queries += _queries(rows, split, offsets)
    return Rows(tuple(videos), tuple(queries), gallery)


def source_of(vid: str) -> tuple[str, float]:
    """(YouTube id, start second) of a clip id such as `_6hnl_BrFvs_360.0_510.0`: the id itself may hold `_` and `-`."""
    source, start, _ = vid.rsplit("_", 2)
    return source, float(start)


def _merge(rows: Iterable[dict[str, Any]], split: str) -> tuple[list[Video], dict[str, tuple[float, float]]]:
    """The joined videos in order of first mention, and (offset, duration) of every clip on its video's time line, seconds.

    A clip's own `duration` counts, not the length its id claims: 296 clips of the three splits are shorter.
    """
    lengths = {row["vid"]: float(row["duration"]) for row in rows}
    clips: dict[str, list[str]] = {}
    for vid in lengths:
        clips.setdefault(source_of(vid)[0], []).append(vid)
    videos, offsets = [], {}
    for source, members in clips.items():
        members.sort(key=lambda vid: source_of(vid)[1])
        total = 0.0
        for vid in members:
            offsets[vid] = (total, lengths[vid])
            total += lengths[vid]
        videos.append(Video(source, split, total, tuple((vid,) for vid in members)))
    return videos, offsets


def _queries(rows: Iterable[dict[str, Any]], split: str, offsets: dict[str, tuple[float, float]]) -> list[Query]:
    queries: list[Query] = []
    count: Counter[str] = Counter()
    for row in rows:
        vid, source = row["vid"], source_of(row["vid"])[0]
        offset, length = offsets[vid]
        inside, flags = repair(row.get("relevant_windows", []), length)
        extra: dict[str, Any] = {"qid": row["qid"], "vid": vid, "offset": offset, "windows": row.get("relevant_windows", [])}
        if "saliency_scores" in row:
            extra["saliency"] = {"clip_seconds": CLIP_SECONDS, "clip_ids": row["relevant_clip_ids"], "scores": row["saliency_scores"]}
        queries.append(
            Query(
                query_id=str(row["qid"]),
                video_id=source,
                split=split,
                text=normalise(row["query"]),
                moments=tuple((start + offset, end + offset) for start, end in inside),
                cap_id=f"{source}#enc#{count[source]}",
                flags=flags,
                extra=extra,
            )
        )
        count[source] += 1
    return queries
