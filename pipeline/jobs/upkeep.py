"""What the workflow does to the files on disk: before it plans (at every start, dry runs too), and before its first job."""

from __future__ import annotations

import contextlib
import json
import os
import time
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

from pipeline.config.reading import PUBLISHED
from pipeline.config.schema import Config
from pipeline.core.atomic import write_text
from pipeline.core.store import recipe_hash
from pipeline.jobs.dag import Dag
from pipeline.jobs.interruption import STATE
from pipeline.jobs.products import Product, products
from pipeline.jobs.resharding import reshard


def publish_config(config: Config, values: dict[str, Any]) -> Path:
    """Write the merged configuration where jobs read it, its experiments in their order.

    The name holds the hash, so two runs never overwrite each other's.
    """
    path = Path(config.results) / PUBLISHED / f"{recipe_hash(values)}.json"
    text = json.dumps(values, indent=1, default=str) + "\n"
    with contextlib.suppress(FileNotFoundError, UnicodeDecodeError):
        if path.read_text() == text:
            return path
    write_text(path, text)
    return path


def settle(dag: Dag) -> None:
    """Make the manifests say what is there: Snakemake looks at nothing else.

    Removed are those of files that are gone or have another size, and those of another job than the one planned now where Snakemake does
    not know it (results restored without its memory, or older than it). All others get one time, so that none is newer than another
    after a copy, a checkout or a touch. In a folder that is read-only nothing is done.
    """
    declared: list[Path] = []
    with contextlib.suppress(PermissionError):
        for made in products(dag):
            read = made.read()
            if read is None or not made.whole(read) or _unknown(dag, made, read):
                made.manifest.unlink(missing_ok=True)
            declared += made.declared(dag.layout)
        _same_time(declared)


def adopt(dag: Dag, targets: set[str]) -> None:
    """Make the manifests of the jobs of these targets those of the jobs planned now: what `snakemake --touch` asks for."""
    chosen = targets & {"ablation", "sweeps", "compare"} or {"table"}
    runs = {(name, str(seed)) for target in chosen for name, seed in dag.config.group(target)}
    recipes = {recipe for name, _ in runs for recipe in dag.clip_sets(name)}
    for made in products(dag):
        of = made.of
        asked = of.get("target", "") in {*chosen, ""} and of.get("recipe") in {*recipes, None}
        asked &= any(of.get("experiment", name) == name and of.get("seed", seed) == seed for name, seed in runs)
        if asked and (read := made.read()) and made.whole(read):
            made.finish(dag)


def _unknown(dag: Dag, made: Product, read: dict[str, Any]) -> bool:
    """Whether another job made this than the one planned now and Snakemake, which compares with its own memory, would keep it."""
    if read.get("trace") == dag.trace(made.stage, **made.of):
        return False
    remembered = _remembered(made.manifest)
    return remembered is None or all(digest in remembered for digest in dag.params(made.stage, **made.of).values())


def _remembered(manifest: Path) -> str | None:
    """The params Snakemake keeps of the job that made a file; None when it has none (snakemake/persistence/file.py says where)."""
    name = urlsafe_b64encode(str(manifest).encode()).decode()
    longest = os.pathconf(".", "PC_NAME_MAX") - 1
    *folders, last = [name[i : i + longest] for i in range(0, len(name), longest)]
    try:
        return str(json.loads((STATE / "metadata").joinpath(*(f"@{folder}" for folder in folders), last).read_text())["params"])
    except (FileNotFoundError, ValueError, KeyError):
        return None


def _same_time(files: list[Path]) -> None:
    times = {file: file.stat().st_mtime_ns for file in files if file.exists()}
    latest = min(max(times.values(), default=0), time.time_ns())
    for file, own in times.items():
        if own != latest:
            os.utime(file, ns=(latest, latest))


def move_to_shards(dag: Dag) -> None:
    """Bring the files on disk to the division of today. Before the first job only: jobs of another one may be at work."""
    layout = dag.layout
    # Also of encoders that today's configuration leaves out: another one may bring them back. A folder without manifests is an import,
    # which no job could put together again.
    folders = layout.features("*", "*").parent.parent.glob("*")
    stores = [folder for folder in folders if folder.name in dag.computed or any(folder.glob("*.json"))]
    frames, benchmarks = layout.frames_manifest("*").parent, layout.benchmarks
    derived = [frames, *frames.glob("*/"), *layout.clips("*", "*").parent.parent.glob("*")]
    derived += [benchmarks / "frames", *benchmarks.glob("features/*"), *benchmarks.glob("clips/*")]
    reshard(layout.shards, dag.division, stores, derived, dag.place)
