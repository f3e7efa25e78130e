"""Former runs: what an experiment was before it was trained again with other settings, features or captions, by the hash of its recipe.

A new run takes the place of the old one only when it is finished. Then the old one's files are linked into `kept/` (no bytes are
copied), and the oldest beyond the number that is kept go. No job reads them.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.atomic import typed
from pipeline.core.errors import StoreError
from pipeline.core.layout import KeptLayout, Layout
from pipeline.core.store import content_digest, open_store

TRAINED = ("checkpoint.h5", "training.png", "imported.json")
EVALUATED = ("evaluation.h5", "metrics.json", "run.trec", "queries.jsonl", "moments.jsonl", "recall.png")
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV, errno.ENOSYS}  # what file systems without hard links say


class Former(NamedTuple):
    """One kept run, and the results with it in its experiment's place."""

    experiment: str
    seed: int
    run: str
    layout: Layout

    @property
    def folder(self) -> Path:
        return self.layout.run(self.experiment, self.seed)


def run_hash(attrs: Mapping[str, Any], checkpoint: Path) -> str:
    """12 hex digits that name a run: of its recipe, the training data's digest in it; of an imported one, without any, of its content."""
    return str(attrs["recipe_hash"]) if attrs.get("recipe") else content_digest(checkpoint)[:12]


def hash_of(layout: Layout, experiment: str, seed: int) -> str:
    """The hash of the run that is there; empty when there is none that can be read."""
    checkpoint = layout.checkpoint(experiment, seed)
    try:
        with open_store(checkpoint, stage="checkpoint") as store:
            return run_hash(store.attrs, checkpoint)
    except StoreError:
        return ""


def keep(layout: Layout, experiment: str, seed: int, new: str, most: int) -> str:
    """Keep the run that is there before the run `new` takes its place, and of all kept ones the `most` latest; returns its hash.

    Empty when there is none, it is `new` itself, or none is kept. Its evaluation is kept where it is of this run. Errors: DiskError.
    """
    former = hash_of(layout, experiment, seed)
    if not former or former == new or not most:
        return ""
    source, target = layout.run(experiment, seed), layout.kept(experiment, seed, former)
    with typed():
        for left in target.parent.glob(".*"):
            shutil.rmtree(left)  # of a process that was killed
        unfinished = target.with_name(f".{target.name}")
        unfinished.mkdir(parents=True)
        for name in (*TRAINED, *(EVALUATED if _evaluated(layout, experiment, seed) == former else ())):
            if (source / name).is_file():
                _link(source / name, unfinished / name)
        if target.exists():
            remove(target)  # trained so once before
        unfinished.rename(target)
        for old in _latest_first(target.parent)[most:]:
            remove(old)
    return former


def formers(layout: Layout) -> list[Former]:
    """Every kept run, the latest of each experiment and seed first."""
    found = []
    for folder in sorted(layout.kept("*", "*", "x").parent.parent.parent.glob("*/seed*")):
        seed = folder.name.removeprefix("seed")
        if seed.isdecimal():
            found += [Former(folder.parent.name, int(seed), run.name, KeptLayout(layout.root, run.name)) for run in _latest_first(folder)]
    return found


def remove(folder: Path) -> None:
    """Delete a kept run: its name first, in one step, so that no half of it is ever taken for one."""
    gone = folder.with_name(f".{folder.name}.gone")
    folder.rename(gone)
    shutil.rmtree(gone)


def _latest_first(folder: Path) -> list[Path]:
    """The runs in a folder by the time they were trained."""
    trained = {path: (path / "checkpoint.h5").stat().st_mtime for path in folder.glob("[!.]*") if (path / "checkpoint.h5").is_file()}
    return sorted(trained, key=lambda path: (-trained[path], path.name))


def _evaluated(layout: Layout, experiment: str, seed: int) -> str:
    """The run whose measures are there: metrics.json is the last file an evaluation writes."""
    try:
        return str(json.loads(layout.metrics(experiment, seed).read_text())["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        shutil.copy2(source, target)
