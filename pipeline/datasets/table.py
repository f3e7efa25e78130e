"""The canonical table: videos, queries and moments of any dataset, as annotations.h5 keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.core.store import Ragged, create, open_store
from pipeline.datasets.rows import Query, Rows, Video


@dataclass(frozen=True)
class Annotations:
    """A dataset's rows.

    `videos` [video_id, split, duration (s, nan when unknown)]; `queries` [query_id, video_id, split, query, cap_id, group, flags, extra],
    in file order, `flags` space separated, `extra` JSON of what the dataset adds (saliency, type, the raw time span, the clip and its
    offset); `moments` query_id -> [n, 2] seconds, n = 0 when unknown; `gallery` names the evaluation set where there are several.
    """

    videos: pd.DataFrame
    queries: pd.DataFrame
    moments: dict[str, np.ndarray]
    gallery: str = ""

    def counts(self) -> pd.DataFrame:
        """Per split: videos, queries, queries per video, hours, queries with a moment."""
        known = {query for query, spans in self.moments.items() if len(spans)}
        per = []
        for split in dict.fromkeys(self.videos["split"]):
            videos, queries = self.videos[self.videos["split"] == split], self.queries[self.queries["split"] == split]
            per.append(
                {
                    "split": split,
                    "videos": len(videos),
                    "queries": len(queries),
                    "queries/video": round(len(queries) / len(videos), 2),
                    "hours": round(float(np.nansum(videos["duration"])) / 3600, 2),
                    "with moments": int(queries["query_id"].isin(known).sum()),
                }
            )
        return pd.DataFrame(per)


def of(rows: Rows) -> Annotations:
    """The table of a reader's rows."""
    videos = pd.DataFrame(
        {
            "video_id": [video.video_id for video in rows.videos],
            "split": [video.split for video in rows.videos],
            "duration": np.asarray([video.duration for video in rows.videos], dtype=np.float64),
        }
    )
    columns: dict[str, list[str]] = {
        "query_id": [query.query_id for query in rows.queries],
        "video_id": [query.video_id for query in rows.queries],
        "split": [query.split for query in rows.queries],
        "query": [query.text for query in rows.queries],
        "cap_id": [query.cap_id for query in rows.queries],
        "group": [query.group for query in rows.queries],
        "flags": [" ".join(query.flags) for query in rows.queries],
        "extra": [json.dumps(query.extra, sort_keys=True, ensure_ascii=False) if query.extra else "" for query in rows.queries],
    }
    queries = pd.DataFrame(columns, dtype=object)
    moments = {query.query_id: np.asarray(query.moments, dtype=np.float64).reshape(-1, 2) for query in rows.queries}
    return Annotations(videos, queries, moments, rows.gallery)


def rows_of(annotations: Annotations) -> Rows:
    """The rows of a table: `of` undone, but for where the files lie."""
    videos = tuple(Video(video_id, split, float(duration)) for video_id, split, duration in annotations.videos.itertuples(index=False))
    queries = tuple(
        Query(
            query_id=row["query_id"],
            video_id=row["video_id"],
            split=row["split"],
            text=row["query"],
            moments=tuple((float(start), float(end)) for start, end in annotations.moments[row["query_id"]]),
            cap_id=row["cap_id"],
            group=row["group"],
            flags=tuple(row["flags"].split()),
            extra=json.loads(row["extra"]) if row["extra"] else {},
        )
        for row in annotations.queries.to_dict("records")
    )
    return Rows(videos, queries, annotations.gallery)


def save(path: Path, annotations: Annotations, *, recipe: Mapping[str, Any] | None = None, **attrs: Any) -> None:
    """Write annotations.h5."""
    ids = list(annotations.moments)
    spans = list(annotations.moments.values())
    offsets = np.cumsum([0, *(len(span) for span in spans)])
    values = np.concatenate(spans) if spans else np.zeros((0, 2))
    with create(path, stage="annotations", recipe=recipe, gallery=annotations.gallery, **attrs) as writer:
        writer.table("videos", annotations.videos)
        writer.table("queries", annotations.queries)
        writer.ragged("moments", Ragged(ids, offsets, values))


def load(path: Path) -> Annotations:
    """Read annotations.h5. Errors: those of `open_store`."""
    with open_store(path, stage="annotations") as store:
        moments = store.ragged("moments")
        spans = {query: moments[query] for query in moments.ids}
        return Annotations(store.table("videos"), store.table("queries"), spans, str(store.attrs.get("gallery", "")))
