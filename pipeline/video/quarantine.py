"""The videos that could not be used: one row each, gathered from the shards, listed, counted against the limit, tried again on demand.

The rule for their queries: a quarantined video has no features, so it is in no gallery and no batch, and its queries are left out of
training and of the measures; the metrics say how many.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.core.atomic import write_text
from pipeline.core.errors import QuarantineError, printable
from pipeline.core.layout import Layout

COLUMNS = ["id", "path", "code", "message", "decoder", "bytes", "when"]


def row(video_id: str, path: str, code: str, message: str, decoder: str) -> dict[str, Any]:
    """A quarantine row as manifests hold it; `bytes` is the size of the file at fault, 0 when it is absent."""
    try:
        size = Path(path).stat().st_size
    except OSError:
        size = 0
    return {"id": video_id, "path": printable(path), "code": code, "message": " ".join(message.split()), "decoder": decoder, "bytes": size}


def collect(config: Config, layout: Layout, shards: Sequence[str], encoders: Sequence[str]) -> list[dict[str, Any]]:
    """Gather the rows of every shard, as these encoders' manifests have them, into quarantine.tsv, sorted by id.

    Errors: QuarantineError when more than `video.max_bad_fraction` of the videos are in it.
    """
    rows: dict[str, dict[str, Any]] = {}
    good = 0
    for shard in shards:
        stored = []
        for encoder in encoders:
            path = layout.features_manifest(encoder, shard)
            manifest = json.loads(path.read_text())
            stored.append(int(manifest["videos"]))
            # Manifests are given one time (jobs/upkeep.py); the store beside it keeps its own.
            when = datetime.fromtimestamp(path.with_suffix(".h5").stat().st_mtime, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            for entry in manifest["quarantine"]:
                rows.setdefault(entry["id"], {**entry, "when": when})
        good += max(stored, default=0)
    ordered = [rows[video_id] for video_id in sorted(rows)]
    write(layout.quarantine, ordered)
    check(ordered, good + len(ordered), config.video.max_bad_fraction)
    return ordered


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write quarantine.tsv atomically; with no rows it holds its header alone."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read(path: Path) -> list[dict[str, str]]:
    """The rows of quarantine.tsv; none when it was never written."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t"))


def check(rows: Sequence[dict[str, Any]], videos: int, limit: float) -> None:
    """QuarantineError when more than `limit` of the `videos` are unusable; it lists them, by code."""
    if not rows or len(rows) <= limit * videos:
        return
    codes: dict[str, list[str]] = {}
    for entry in rows:
        codes.setdefault(entry["code"], []).append(entry["id"])
    listed = "; ".join(f"{code}: {len(ids)} ({', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''})" for code, ids in sorted(codes.items()))
    raise QuarantineError(
        f"{len(rows)} of {videos} videos are unusable, more than video.max_bad_fraction allows ({limit:g}): {listed}",
        where=str(rows[0]["path"]),
        fix="mend the files and run again; `prvr quarantine retry` tries the unchanged ones again; or raise video.max_bad_fraction",
    )


def retry(layout: Layout, shards: Sequence[str], ids: Iterable[str] = ()) -> dict[str, list[str]]:
    """Make the next run decode quarantined videos again (`ids`, or all): shard -> the videos it will try.

    Files that changed are tried again by themselves; this is for what failed for another reason (a timeout, too little memory, a newer
    FFmpeg). The shards' features manifests are removed; the features of all other videos stay in their store.
    """
    only, again = set(ids), {}
    for shard in shards:
        pattern = layout.features_manifest("*", shard)
        manifests = sorted(pattern.parents[1].glob(f"*/{pattern.name}"))
        held = {entry["id"] for path in manifests for entry in json.loads(path.read_text())["quarantine"]}
        chosen = sorted(held & only if only else held)
        if chosen:
            again[shard] = chosen
            for path in [*manifests, layout.frames_manifest(shard), layout.quarantine_checked]:
                path.unlink(missing_ok=True)
    return again
