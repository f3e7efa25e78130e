"""What finished jobs leave: a small manifest that the workflow looks at, and beside it the files only jobs look at.

A manifest names the job that made it (`trace`) and the size of each of its files. Snakemake compares times of the files a rule declares,
whatever its profile says, unless they are small; so rules declare manifests alone, and upkeep.py gives all of them one time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.jobs.dag import Dag

PLACES = {
    "world": "world",
    "annotations": "annotations",
    "frames": "frames/{shard}",
    "features": "features/{encoder}/{shard}",
    "text": "text/{encoder}",
    "quarantine": "quarantine",
    "clips": "clips/{recipe}/{shard}",
    "train": "train/{experiment}/seed{seed}",
    "evaluate": "evaluate/{experiment}/seed{seed}",
    "table": "{target}",
}


@dataclass(frozen=True)
class Product:
    """What one job of `stage` with the wildcards `of` leaves; `files` are its own, not declared to Snakemake."""

    stage: str
    of: dict[str, str]
    manifest: Path
    files: tuple[Path, ...] = ()

    def declared(self, layout: Layout) -> list[Path]:
        """The files whose times Snakemake looks at: the manifest, a table, and what the job took."""
        table = [layout.table(**self.of)] if self.stage == "table" else []
        return [self.manifest, *table, layout.benchmarks / f"{PLACES[self.stage].format(**self.of)}.tsv"]

    def read(self) -> dict[str, Any] | None:
        """The manifest; None when it is absent or cannot be read."""
        try:
            read = json.loads(self.manifest.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return read if isinstance(read, dict) else None

    def whole(self, read: dict[str, Any]) -> bool:
        """Whether every file is there, as large as the manifest says."""
        sizes = read.get("files", {})
        return all(_size(file) == sizes.get(file.name) for file in self.files)

    def finish(self, dag: Dag) -> None:
        """Write the manifest, or complete the one the stage wrote: the last act of a job."""
        sizes = {file.name: _size(file) for file in self.files}
        write_json(self.manifest, {**(self.read() or {}), "trace": dag.trace(self.stage, **self.of), "files": sizes})


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def product(dag: Dag, stage: str, **of: str) -> Product:
    """What the job of a stage with these wildcards leaves."""
    layout = dag.layout
    if stage == "world":
        return Product(stage, of, layout.world / "world.json")
    if stage == "annotations":
        return Product(stage, of, layout.annotations_manifest, (layout.annotations,))
    if stage == "frames":
        return Product(stage, of, layout.frames_manifest(**of))
    if stage == "features":
        return Product(stage, of, layout.features_manifest(**of), (layout.features(**of),))
    if stage == "text":
        return Product(stage, of, layout.text_manifest(**of), (layout.text(**of),))
    if stage == "clips":
        return Product(stage, of, layout.clips_manifest(**of), (layout.clips(**of),))
    if stage == "quarantine":
        return Product(stage, of, layout.quarantine_checked)
    if stage == "table":
        return Product(stage, of, layout.table_manifest(**of), (layout.table(**of), layout.table(**of).with_suffix(".csv")))
    run = of["experiment"], int(of["seed"])
    if stage == "train":
        return Product(stage, of, layout.checkpoint_manifest(*run), (layout.checkpoint(*run),))
    return Product(stage, of, layout.evaluation_manifest(*run), (layout.evaluation(*run), layout.metrics(*run)))


def products(dag: Dag) -> Iterator[Product]:
    """What all jobs of a configuration leave, those of ablations and sweeps too, whether it is there or not; nothing imported."""
    config, shards, kind = dag.config, list(dag.shards), dag.config.dataset.kind
    computed = [name for name in dag.computed]
    if kind == "demo":
        yield product(dag, "world")
    if kind != "bundle":
        yield product(dag, "annotations")
    yield product(dag, "quarantine")
    for shard in shards:
        yield product(dag, "frames", shard=shard)
        yield from (product(dag, "features", encoder=name, shard=shard) for name in computed)
        yield from (product(dag, "clips", recipe=recipe, shard=shard) for recipe in sorted({dag.clips(e) for e in config.models}))
    for text in sorted({text for name in config.models for text in dag.texts(name) if not dag.imported(text)}):
        yield product(dag, "text", encoder=text)
    for target in ("table", "ablation", "sweeps"):
        yield product(dag, "table", target=target)
        for experiment, seed in config.group(target):
            of = {"experiment": experiment, "seed": str(seed)}
            if not dag.imported_run(**of):
                yield product(dag, "train", **of)
            yield product(dag, "evaluate", **of)
