"""What the workflow does to the files on disk: before it plans (at every start, dry runs too), and before its first job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.core.atomic import write_json
from pipeline.core.store import recipe_hash
from pipeline.jobs.dag import Dag
from pipeline.jobs.resharding import reshard


def publish_config(config: Config, values: dict[str, Any]) -> Path:
    """Write the merged configuration where jobs read it; the name holds its hash, so two runs never overwrite each other's."""
    path = Path(config.results) / ".config" / f"{recipe_hash(values)}.json"
    if not path.exists():
        write_json(path, values)
    return path


def forget_lost(dag: Dag) -> None:
    """Remove the manifests of stores that were deleted.

    They are what Snakemake looks at; without this a deleted store would go unnoticed until a reader fails.
    """
    layout, names = dag.layout, dag.computed
    places = [layout.features_manifest(name, shard) for name in names for shard in dag.shards]
    for manifest in [*places, *(layout.text_manifest(name) for name in names)]:
        if manifest.exists() and not manifest.with_suffix(".h5").exists():
            manifest.unlink()


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
