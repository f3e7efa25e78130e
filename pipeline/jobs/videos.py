"""Which videos there are, where they lie and what is in them: read each time the workflow starts, so nothing heavy is imported."""

from __future__ import annotations

import hashlib
import math

from pipeline.config.schema import Config
from pipeline.core.errors import DatasetError
from pipeline.core.layout import Layout
from pipeline.core.provenance import UNUSABLE, FileCache, fingerprint
from pipeline.core.source import Source
from pipeline.datasets.readers import read
from pipeline.demo.world import world


def videos(config: Config, layout: Layout) -> list[Source]:
    """Every video of the dataset, in the order of the annotations.

    The demo's list comes from the world's description, before and after it is rendered. Two files of one content have one fingerprint.
    Errors: DatasetError, listing every instance.
    """
    if config.dataset.kind == "demo":
        folder = layout.world / "videos"
        return [Source(video.video_id, (str(folder / video.file),), video.fingerprint(), video.duration) for video in world(config.demo)]
    if config.dataset.kind == "bundle":
        return _bundle(layout)
    rows, _ = read(config, layout)
    if not config.dataset.videos and config.dataset.kind != "own" and not any(video.files for video in rows.videos):
        # Features come from a published bundle: there is nothing to look at, and all videos of the annotations count.
        _all_imported(config)
        return [Source(v.video_id, (), "", None if math.isnan(v.duration) else v.duration) for v in rows.videos]
    cache = FileCache(layout.fingerprints)
    sources = [
        Source(video.video_id, video.files, _content(video.files, cache), None if math.isnan(video.duration) else video.duration)
        for video in rows.videos
        if video.files
    ]
    cache.save()
    return sources


def _bundle(layout: Layout) -> list[Source]:
    """The videos `prvr import` wrote. Errors: DatasetError before it ran."""
    from pipeline.core.store import open_store

    if not layout.annotations.exists():
        raise DatasetError("no bundle was imported yet", where=layout.annotations, fix="run `prvr import` with this configuration first")
    with open_store(layout.annotations, stage="annotations") as store:
        table = store.table("videos")
    return [Source(str(i), (), "", None if math.isnan(d) else float(d)) for i, d in zip(table["video_id"], table["duration"], strict=True)]


def _all_imported(config: Config) -> None:
    """DatasetError when some encoder would have to look at videos."""
    used = {name for experiment in config.experiments for name in config.experiment(experiment).features}
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
