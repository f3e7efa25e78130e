"""`prvr plan`: the dry run in words. How many videos and hours, what is cached, what would run and why, and what it will cost."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.core.source import Source
from pipeline.datasets import splits, table
from pipeline.datasets.readers import read
from pipeline.datasets.table import Annotations
from pipeline.demo.world import rows as world_queries
from pipeline.jobs import estimates
from pipeline.jobs.captions import remarks
from pipeline.jobs.dag import Dag, gpus_per_job
from pipeline.jobs.estimates import Costs, Machine, Speeds
from pipeline.jobs.headers import sampled
from pipeline.jobs.lengths import Lengths
from pipeline.tools.dryrun import dry_run, planned_jobs
from pipeline.tools.forecast import Forecast, Row
from pipeline.tools.speeds import known


@dataclass
class Plan:
    """Everything `prvr plan` says."""

    head: list[str]
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The plan as a table between its head and its notes."""
        cells = [("stage", "to do", "time", "disk", "why")]
        for row in self.rows:
            mark = "" if row.measured else " ~" if row.sampled else " ?"
            time = estimates.spell_time(row.seconds) + mark if row.todo else ""
            disk = estimates.spell_bytes(row.bytes) if row.todo else ""
            cells.append((row.name, f"{row.todo:,} of {row.total:,} {row.unit}", time, disk, row.why))
        widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
        body = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
        return "\n".join([*self.head, "", *body, "", *self.notes])


def plan(dag: Dag, config_file: str | Path, *, cores: int | None = None, measure: bool = False) -> Plan:
    """What `snakemake --configfile <config_file>` would do now; with `measure` this machine is tried for a few seconds, once.

    Errors: those of reading the dataset; PlanError when Snakemake itself refuses.
    """
    cores, gpu = cores or os.cpu_count() or 1, bool(gpus_per_job(dag.config))
    sources, (annotations, notes) = dag.members({}), _annotations(dag)
    guess, pixels, whence = sampled(sources)
    lengths = Lengths(dag, guess, len(world_queries(dag.config.demo) if annotations is None else annotations.queries))
    jobs = planned_jobs(dry_run(config_file))
    speeds, said = known(dag, config_file) if measure and jobs else (None, "nothing was measured")
    costs = Costs(dag, Machine(min(cores, dag.config.runtime.threads), gpu), pixels, speeds or Speeds())
    rows = Forecast(costs, lengths, jobs, cores).rows()
    total = sum(row.seconds for row in rows if row.todo)
    return Plan(
        [*_dataset(dag, annotations, notes), _videos(dag, sources, lengths, whence), f"quarantine {_quarantined(dag)}"],
        rows,
        [
            f"Times: this machine, {cores} threads, {'one' if gpu else 'no'} GPU, nothing else to do, every epoch trained",
            f"  ~ from a short trial here ({said})",
            "  ? arithmetic, good to a factor of three or so",
            "  all others extrapolate from this run's finished jobs",
            f"Total still to do: {estimates.spell_time(total)}. "
            f"Disk: what each stage leaves; {_frames(dag)}. Results go to {dag.layout.root}.",
            *dag.missing_weights(),
        ],
    )


def _frames(dag: Dag) -> str:
    """Where frames lie meanwhile."""
    if dag.streamed:
        return "frames are streamed, and the first encoder's job of a shard decodes it and feeds the others"
    return "frames are temporary, shown per shard"


def _annotations(dag: Dag) -> tuple[Annotations | None, list[str]]:
    """The canonical table and what is to be said about it; None for a demo world that is not rendered yet."""
    kind, layout = dag.config.dataset.kind, dag.layout
    if kind == "demo" and not (layout.world / "queries.csv").exists():
        return None, []
    if kind == "bundle":
        return table.load(layout.annotations), ["imported features: nothing is decoded or encoded"]
    rows, missing = read(dag.config, layout)
    return table.of(rows), [
        *rows.notes,
        *splits.check(dag.config, dag.queries),
        *remarks(dag),
        *([f"{len(missing):,} files are missing and left out"] if missing else []),
    ]


def _dataset(dag: Dag, annotations: Annotations | None, notes: list[str]) -> list[str]:
    dataset = dag.config.dataset
    if annotations is None:
        lines = [f"dataset    {dataset.name}: the demo world, not rendered yet"]
    else:
        lines = [f"dataset    {dataset.name} ({dataset.kind}{', gallery ' + annotations.gallery if annotations.gallery else ''})"]
        lines += [f"           {row.split}: {row.videos:,} videos, {row.queries:,} queries" for row in annotations.counts().itertuples()]
    return lines + [f"           {note}" for note in notes]


def _videos(dag: Dag, sources: list[Source], lengths: Lengths, whence: str) -> str:
    size = sum(os.path.getsize(path) for source in sources for path in source.paths if os.path.isfile(path))
    total = sum(map(lengths.shard, dag.shard_names))
    length = estimates.spell_time(total) if total < 5400 else f"{total / 3600:,.1f} h"
    return f"videos     {len(sources):,}, {length} ({whence}), {estimates.spell_bytes(size)} in {len(dag.shard_names)} shards"


def _quarantined(dag: Dag) -> str:
    if not dag.layout.quarantine.exists():
        return "nothing yet"
    rows = pd.read_csv(dag.layout.quarantine, sep="\t", dtype=str)
    codes = Counter(rows["code"]) if "code" in rows else Counter()
    return f"{len(rows)}" + (f" ({', '.join(f'{code} {count}' for code, count in codes.most_common())})" if codes else "")
