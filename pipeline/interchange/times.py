"""Durations and moments from the release files that lie beside bundles (TVR's and QVHighlights' fields)."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.core.errors import BundleError
from pipeline.datasets.qvhighlights import source_of
from pipeline.datasets.rows import Query


@dataclass
class Merged:
    """Clips cut from one source video, laid end to end: `owner` and `shift` (s) per clip, `durations` (s) and `pieces` per source video."""

    owner: dict[str, str] = field(default_factory=dict)
    shift: dict[str, float] = field(default_factory=dict)
    durations: dict[str, float] = field(default_factory=dict)
    pieces: dict[str, list[str]] = field(default_factory=dict)


def read_jsonl(path: Path, *fields: str) -> list[dict[str, Any]]:
    """One dictionary per line that is not empty. BundleError listing every line that is none, lacks one of `fields`, or whose durations
    and moments are no numbers."""
    if not path.is_file():
        raise BundleError("no such file of annotations", where=path, fix="check the path")
    rows, problems = [], []
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise BundleError(f"not UTF-8 ({error})", where=path, fix="fetch the file again") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            problems.append(f"line {number}: no JSON ({str(error)[:80]})")
            continue
        if problem := _problem(row, fields):
            problems.append(f"line {number}: {problem}")
        rows.append(row)
    if problems:
        raise BundleError("bad lines:\n  " + "\n  ".join(problems), where=path, fix="correct these lines, or fetch the file again")
    return rows


def _problem(row: Any, fields: Sequence[str]) -> str:
    """What is wrong with a row of annotations, in words; empty when nothing is."""
    if not isinstance(row, dict):
        return "no object"
    if not fields:
        fields = ("vid_name", "desc", "ts", "duration") if "vid_name" in row else ("vid", "query", "duration")
    if absent := [name for name in fields if name not in row]:
        return f"no {', '.join(absent)}"
    for name in ("vid", "vid_name", "query", "desc"):
        if not isinstance(row.get(name, ""), str):
            return f"{name} is a {type(row[name]).__name__}, text is expected"
    if not _number(row.get("duration") or 0.0):
        return f"duration is {str(row['duration'])[:40]!r}, a number of seconds is expected"
    spans = [row["ts"]] if "ts" in row else row.get("relevant_windows") or []
    if not isinstance(spans, list) or not all(isinstance(s, list) and len(s) == 2 and all(map(_number, s)) for s in spans):
        return f"moments are {str(spans)[:60]}, pairs of seconds are expected"
    return ""


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def merge_clips(lengths: dict[str, float]) -> Merged:
    """Join the 150 s clips of each YouTube video in the order of their start: concatenated, gaps closed.

    `lengths` is clip id `<ytid>_<start>_<end>` -> seconds (the annotated duration: 38 clips are shorter than end - start).
    The ytid may hold underscores. Source: docs/datasets.md (splits and counts).
    """
    merged = Merged()
    for clip in sorted(lengths, key=source_of):
        source = merged.owner[clip] = source_of(clip)[0]
        merged.shift[clip] = merged.durations.get(source, 0.0)
        merged.durations[source] = merged.shift[clip] + lengths[clip]
        merged.pieces.setdefault(source, []).append(clip)
    return merged


def add_times(captions: list[Query], files: list[Path]) -> tuple[list[Query], dict[str, float]]:
    """Captions with their moments, and the durations (s) of their videos, as far as the release files know them.

    Captions are found by video and text: the text alone, by which the released code joins, repeats within a dataset.
    """
    wanted = {caption.video_id for caption in captions}
    rows = [row for path in files for row in read_jsonl(path)]
    durations: dict[str, float] = {}
    moments: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    merged = merge_clips({row["vid"]: float(row["duration"]) for row in rows if str(row.get("vid", "")).count("_") >= 2})
    for row in rows:
        if "vid_name" in row:
            video, text, spans, shift = row["vid_name"], row["desc"], [row["ts"]], 0.0
            durations[video] = float(row["duration"])
        else:
            video, text, spans, shift = row["vid"], row["query"], row.get("relevant_windows", []), 0.0
            if video not in wanted and video in merged.owner:
                video, shift = merged.owner[video], merged.shift[video]
                durations[video] = merged.durations[video]
            else:
                durations[video] = float(row["duration"])
        moments[video, " ".join(text.split())] += [(float(a) + shift, float(b) + shift) for a, b in spans]
    timed = [replace(c, moments=tuple(dict.fromkeys(moments.get((c.video_id, c.text), ())))) for c in captions]
    return timed, {video: seconds for video, seconds in durations.items() if video in wanted}
