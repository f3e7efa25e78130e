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
from pipeline.core.store import SCHEMA
from pipeline.jobs.collection import TARGETS
from pipeline.jobs.dag import Dag
from pipeline.jobs.stages import STAGES


@dataclass(frozen=True)
class Product:
    """What one job of `stage` with the wildcards `of` leaves; `files` are its own, not declared to Snakemake."""

    stage: str
    of: dict[str, str]
    manifest: Path
    files: tuple[Path, ...] = ()

    def declared(self, layout: Layout) -> list[Path]:
        """The files whose times Snakemake looks at: the manifest, a table, and what the job took."""
        table = [layout.table(self.of.get("target", self.stage))] if self.stage in ("table", "compare") else []
        return [self.manifest, *table, STAGES[self.stage].benchmark(layout, self.of)]

    def read(self) -> dict[str, Any] | None:
        """The manifest; None when it is absent or cannot be read."""
        try:
            read = json.loads(self.manifest.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        return read if isinstance(read, dict) else None

    def whole(self, read: dict[str, Any]) -> bool:
        """Whether every file is there, as large as the manifest says, and of this version of the store."""
        sizes = read.get("files", {})
        return read.get("schema") == SCHEMA and all(_size(file) == sizes.get(file.name) for file in self.files)

    def finish(self, dag: Dag) -> None:
        """Write the manifest, or complete the one the stage wrote: the last act of a job."""
        sizes = {file.name: _size(file) for file in self.files}
        write_json(self.manifest, {**(self.read() or {}), "trace": dag.trace(self.stage, **self.of), "schema": SCHEMA, "files": sizes})


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return None


def product(dag: Dag, stage: str, **of: str) -> Product:
    """What the job of a stage with these wildcards leaves."""
    return Product(stage, of, STAGES[stage].manifest(dag.layout, of), STAGES[stage].files(dag.layout, of))


def products(dag: Dag) -> Iterator[Product]:
    """What all jobs of a configuration leave, those of ablations and sweeps too, whether it is there or not; nothing imported."""
    for stage in STAGES.values():
        yield from (product(dag, stage.name, **of) for of in stage.jobs(dag, TARGETS))
