"""The demo stage: renders the world that `config.demo` describes into the results folder."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.core.atomic import write_json, write_text
from pipeline.core.layout import Layout
from pipeline.core.notices import say
from pipeline.core.progress import track
from pipeline.core.signals import end_with
from pipeline.demo import render
from pipeline.demo.scenes import VideoSpec
from pipeline.demo.world import qrels, rows, world


def run(config: Config, layout: Layout, *, workers: int = 1) -> None:
    """Write `videos/<id>.mp4`, `queries.csv`, `relevance.txt`, and last `world.json`, which lists what is there.

    Only missing or changed videos are drawn: every file carries the fingerprint of its description, so a killed run goes on.
    Videos of another world are removed.
    """
    folder, specs = layout.world / "videos", world(config.demo)
    todo = [spec for spec in specs if render.mark(folder / spec.file) != spec.fingerprint()]
    for _ in track(_render(todo, folder, workers), total=len(todo), label="render", unit="videos"):
        pass
    for file in set(folder.rglob("*.mp4")) - {folder / spec.file for spec in specs}:
        file.unlink()
    _write_queries(rows(config.demo), layout.world / "queries.csv")
    write_text(layout.generated_relevance, qrels(config.demo))
    write_json(
        layout.world / "world.json", {"demo": config.demo.model_dump(), "videos": {spec.video_id: spec.fingerprint() for spec in specs}}
    )


def _render(specs: Sequence[VideoSpec], folder: Path, workers: int) -> Iterator[None]:
    """Draw and encode videos in `workers` processes, in order."""
    draw = partial(_one, folder=folder)
    if workers < 2 or len(specs) < 2:
        yield from map(draw, specs)
        return
    try:
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=end_with, initargs=(os.getpid(),))
    except OSError as error:  # its semaphores lie in /dev/shm, which a container may lack
        say(f"note: no shared memory here ({error.strerror}: /dev/shm): one process draws all videos")
        yield from map(draw, specs)
        return
    with pool:
        yield from pool.map(draw, specs, chunksize=4)


def _one(spec: VideoSpec, folder: Path) -> None:
    render.video(spec, folder / spec.file)


def _write_queries(table: list[dict[str, str | float]], path: Path) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_text(path, text.getvalue())
