"""Which videos there are, where they lie and what is in them: read when the workflow starts, so nothing heavy is imported.

The jobs of a run take what it started with: a line half written or a video lost meanwhile concerns only who needs it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import NamedTuple

from pipeline.config.schema import Config
from pipeline.core.collector import paused
from pipeline.core.errors import DatasetError
from pipeline.core.layout import Layout
from pipeline.core.provenance import UNUSABLE, FileCache, file_state, fingerprint
from pipeline.core.source import Source
from pipeline.datasets.readers import read
from pipeline.demo.world import rows as world_rows
from pipeline.demo.world import world
from pipeline.encoders.token_counts import limits


class Taught(NamedTuple):
    """The number of training videos, and the one of them with the most queries."""

    videos: int = 0
    video: str = ""
    most: int = 0


@dataclass(frozen=True)
class Listing:
    """What a dataset holds: its videos, and split -> number of queries.

    What no job needs is not saved (saved.py): `taught`, how the training queries lie on videos; `long_queries`, id -> text of those that
    may be longer than what reads them; `absent`, videos that are asked for and not on disk.
    """

    videos: list[Source]
    queries: dict[str, int]
    taught: Taught = field(default_factory=Taught)
    long_queries: dict[str, str] = field(default_factory=dict)
    absent: frozenset[str] = frozenset()


@paused()
def listing(config: Config, layout: Layout) -> Listing:
    """Every video and the number of queries of the dataset.

    The demo's list comes from the world's description, before and after it is rendered. Two files of one content have one fingerprint.
    Errors: DatasetError, listing every instance.
    """
    if config.dataset.kind == "demo":
        folder = layout.world / "videos"
        videos = [Source(video.video_id, (str(folder / video.file),), video.fingerprint(), video.duration) for video in world(config.demo)]
        return Listing(videos, *_asked((str(row["path"]), str(row["split"])) for row in world_rows(config.demo)))
    if config.dataset.kind == "bundle":
        return _bundle(layout)
    rows, _ = read(config, layout)
    asked = _asked((query.video_id, query.split) for query in rows.queries)
    if not config.dataset.videos and config.dataset.kind != "own" and not any(video.files for video in rows.videos):
        # Features come from a published bundle: there is nothing to look at, and all videos of the annotations count.
        _all_imported(config)
        return Listing([Source(v.video_id, (), "", None if math.isnan(v.duration) else v.duration) for v in rows.videos], *asked)
    limit = min(limits(config).values(), default=0)  # a token is a byte at least, and two of them are no words
    long = {query.query_id: query.text for query in rows.queries if limit and len(query.text.encode()) + 2 > limit}
    listed, absent = rows.videos, frozenset(rows.absent)
    del rows  # its queries are most of what is held here
    cache = FileCache(layout.fingerprints)
    sources = [
        Source(video.video_id, video.files, _content(video.files, cache), None if math.isnan(video.duration) else video.duration)
        for video in listed
        if video.files
    ]
    cache.save()
    return Listing(sources, *asked, long, absent)


def refreshed(sources: Iterable[Source], cache: FileCache, seen: Mapping[str, Sequence[str]] = MappingProxyType({})) -> list[Source]:
    """The videos with the content they have now; an absent one as it was, so that whoever opens it says so.

    `seen`: video id -> the `file_state` of each of its files when its fingerprint was made; while it stays no file is read.
    """
    return [
        source if _as_seen(source, seen.get(source.video_id, ())) else replace(source, fingerprint=_content(source.paths, cache))
        for source in sources
    ]


def _as_seen(source: Source, states: Sequence[str]) -> bool:
    try:
        return [*states] == [file_state(path) for path in source.paths]
    except OSError:
        return True


def _asked(queries: Iterable[tuple[str, str]]) -> tuple[dict[str, int], Taught]:
    """The number of queries of each split, and how those of training lie on videos, from each query's video and split."""
    splits, videos = Counter[str](), Counter[str]()
    for video_id, split in queries:
        splits[split] += 1
        if split == "train":
            videos[video_id] += 1
    return dict(splits), Taught(len(videos), *videos.most_common(1)[0]) if videos else Taught()


def _bundle(layout: Layout) -> Listing:
    """What `prvr import` wrote. Errors: DatasetError before it ran."""
    from pipeline.core.store import open_store

    if not layout.annotations.exists():
        raise DatasetError("no bundle was imported yet", where=layout.annotations, fix="run `prvr import` with this configuration first")
    with open_store(layout.annotations, stage="annotations") as store:
        table, queries = store.table("videos"), store.table("queries")
    pairs = zip(table["video_id"], table["duration"], strict=True)
    videos = [Source(str(i), (), "", None if math.isnan(d) else float(d)) for i, d in pairs]
    return Listing(videos, *_asked(zip(queries["video_id"], queries["split"], strict=True)))


def _all_imported(config: Config) -> None:
    """DatasetError when some encoder would have to look at videos."""
    used = {name for experiment in config.experiments for name in config.experiment(experiment).encoders}
    looking = sorted(name for name in used if not config.imported(name))
    if looking:
        raise DatasetError(
            f"dataset.videos is empty, but {', '.join(looking)} must see the videos",
            where="dataset.videos",
            fix="name the folder that holds them, or import published features (`prvr import`) and give the encoder kind: imported",
        )


def _content(files: tuple[str, ...], cache: FileCache) -> str:
    """One fingerprint for the files of a video: that of the only one, or of all in order; of one that cannot be used if there is one."""
    each = [fingerprint(file, cache) for file in files]
    if unusable := [one for one in each if one.startswith(UNUSABLE)]:
        return unusable[0]
    return each[0] if len(each) == 1 else hashlib.sha256(" ".join(each).encode()).hexdigest()[:16]
