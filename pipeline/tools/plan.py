"""`prvr plan`: the dry run in words. How many videos and hours, what is cached, what would run and why, and what it will cost."""

from __future__ import annotations

import math
import os
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from pipeline.core.source import Source
from pipeline.datasets import splits, table
from pipeline.datasets.readers import read
from pipeline.datasets.table import Annotations
from pipeline.jobs import estimates
from pipeline.jobs.dag import Dag, gpus_per_job
from pipeline.jobs.estimates import Speeds
from pipeline.tools.dryrun import Job, dry_run, jobs


@dataclass
class Stage:
    """One row of the plan; seconds and bytes are nan where nothing can be said."""

    name: str
    todo: int
    total: int
    unit: str
    seconds: float = math.nan
    bytes: float = math.nan
    measured: bool = False
    why: str = "up to date"


@dataclass
class Plan:
    """Everything `prvr plan` says."""

    head: list[str]
    stages: list[Stage] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The plan as a table between its head and its notes."""
        rows = [("stage", "to do", "time", "disk", "why")]
        for stage in self.stages:
            time = "" if math.isnan(stage.seconds) or not stage.todo else estimates.spell_time(stage.seconds) + " ?" * (not stage.measured)
            disk = "" if math.isnan(stage.bytes) or not stage.todo else estimates.spell_bytes(stage.bytes)
            rows.append((stage.name, f"{stage.todo:,} of {stage.total:,} {stage.unit}", time, disk, stage.why))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        body = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*self.head, "", *body, "", *self.notes])


def plan(dag: Dag, config_file: str | Path, *, threads: int | None = None) -> Plan:
    """What `snakemake --configfile <config_file>` would do now.

    Errors: those of reading the dataset; ConfigError when Snakemake itself refuses.
    """
    threads = threads or os.cpu_count() or 1
    speeds = Speeds(threads, bool(gpus_per_job(dag.config)))
    sources = [source for members in dag.shards.values() for source in members]
    seconds, basis, pixels = estimates.lengths(sources)
    made = Plan(_head(dag, sources, seconds, basis))
    made.stages = _Stages(dag, seconds, pixels, speeds, jobs(dry_run(config_file))).all()
    made.notes = [
        f"Times: this machine, {threads} threads, {'one' if speeds.gpu else 'no'} GPU. Those marked ? are arithmetic, good to a factor of",
        "three or so; the others extrapolate from this run's finished jobs.",
        f"Total still to do: {estimates.spell_time(sum(s.seconds for s in made.stages if s.todo and not math.isnan(s.seconds)))}. "
        f"Disk: what each stage leaves; frames are temporary, shown per shard. Results go to {dag.layout.root}.",
    ]
    made.notes += dag.missing_weights()
    return made


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
        *splits.check(dag.config, rows),
        *([f"{len(missing):,} files are missing and left out"] if missing else []),
    ]


def _head(dag: Dag, sources: list[Source], seconds: dict[str, float], basis: str) -> list[str]:
    dataset, (known, notes) = dag.config.dataset, _annotations(dag)
    if known is None:
        lines = [f"dataset    {dataset.name}: the demo world, not rendered yet"]
    else:
        lines = [f"dataset    {dataset.name} ({dataset.kind}{', gallery ' + known.gallery if known.gallery else ''})"]
        lines += [f"           {row.split}: {row.videos:,} videos, {row.queries:,} queries" for row in known.counts().itertuples()]
    lines += [f"           {note}" for note in notes]
    size = sum(os.path.getsize(path) for source in sources for path in source.paths if os.path.isfile(path))
    total = sum(seconds.values())
    length = estimates.spell_time(total) if total < 5400 else f"{total / 3600:,.1f} h"
    lines += [f"videos     {len(sources):,}, {length} ({basis}), {estimates.spell_bytes(size)} in {len(dag.shards)} shards"]
    return [*lines, f"quarantine {_quarantined(dag)}"]


def _quarantined(dag: Dag) -> str:
    if not dag.layout.quarantine.exists():
        return "nothing yet"
    rows = pd.read_csv(dag.layout.quarantine, sep="\t", dtype=str)
    codes = Counter(rows["code"]) if "code" in rows else Counter()
    return f"{len(rows)}" + (f" ({', '.join(f'{code} {count}' for code, count in codes.most_common())})" if codes else "")


class _Stages:
    """The rows of the plan: what is left to do comes from the dry run's jobs, and inside a shard from its store."""

    def __init__(self, dag: Dag, seconds: dict[str, float], pixels: float, speeds: Speeds, found: list[Job]) -> None:
        self.dag, self.seconds, self.pixels, self.speeds, self.jobs = dag, seconds, pixels, speeds, found
        self.speed_of = _measured(dag)
        self.count = sum(len(members) for members in dag.shards.values())
        self.queries = _queries(dag)

    def all(self) -> list[Stage]:
        """Every stage there is something to do in, or was."""
        parts = [self._world(), self._annotations(), *self._extraction(), *self._texts(), *self._clips(), *self._runs()]
        return [stage for stage in parts if stage.total]

    def _row(self, rule: str, name: str, unit: str, todo: int, total: int, seconds: float, size: float, **of: str) -> Stage:
        mine = [job for job in self.jobs if job.rule == rule and all(job.of(key) == value for key, value in of.items())]
        stage = Stage(name, todo if mine else 0, total, unit, seconds, size)
        if mine:
            counts = Counter(job.why for job in mine)
            stage.why = ", ".join(f"{why} ({n} jobs)" if len(counts) > 1 else why for why, n in counts.most_common())
        if name in self.speed_of:
            stage.seconds, stage.measured = self.speed_of[name] * stage.todo, True
        return stage

    def _waiting(self, rule: str, **of: str) -> list[str]:
        """The shards a rule would run on."""
        return [job.of("shard") for job in self.jobs if job.rule == rule and all(job.of(key) == value for key, value in of.items())]

    def _world(self) -> Stage:
        videos = self.count if self.dag.config.dataset.kind == "demo" else 0
        hours = sum(self.seconds.values())
        return self._row("world", "world", "videos", videos, videos, hours / (30 * self.speeds.threads), hours * 5e3)

    def _annotations(self) -> Stage:
        return self._row(
            "annotations", "annotations", "queries", self.queries, self.queries, 2.0 + self.queries / 2e4, self.queries * 400.0
        )

    def _extraction(self) -> list[Stage]:
        """Decoding, then every encoder."""
        config, missing, stages = self.dag.config, set(), []
        for encoder in (name for name in self.dag.video_encoders if not self.dag.imported(name)):
            settings = config.network(encoder)
            todo: set[str] = set()
            for shard in self._waiting("features", encoder=encoder):
                todo |= self.dag.missing(encoder, shard)
            flops, width = settings.cost
            rows = sum(self.seconds[video] for video in todo) / settings.sampling.every
            seconds, size = rows * flops / self.speeds.flops, rows * width * 2.0
            stages.append(self._row("features", f"features {encoder}", "videos", len(todo), self.count, seconds, size, encoder=encoder))
            missing |= todo
        seconds = estimates.decode_seconds(sum(self.seconds[video] for video in missing), self.pixels, self.speeds)
        per_shard = [sum(self.seconds[s.video_id] for s in members if s.video_id in missing) for members in self.dag.shards.values()]
        size = sum(estimates.frame_bytes(stream, max(per_shard, default=0.0)) for stream in self.dag.streams.values())
        return [self._row("frames", "frames", "videos", len(missing), self.count, seconds, size), *stages]

    def _texts(self) -> list[Stage]:
        config, stages = self.dag.config, []
        for text in sorted({text for name in config.experiments for text in self.dag.texts(name)}):
            if config.imported(text):
                continue
            flops, width = config.network(text).text_cost
            seconds, size = self.queries * flops / self.speeds.flops, self.queries * estimates.TOKENS * width * 2.0
            stages.append(self._row("text", f"text {text}", "queries", self.queries, self.queries, seconds, size, encoder=text))
        return stages

    def _clips(self) -> list[Stage]:
        config, stages = self.dag.config, []
        for recipe in sorted({self.dag.clips(name) for name in config.experiments}):
            experiment = config.experiment(self.dag.owner(recipe))
            width = sum(estimates.width(config.encoders[name]) for name in experiment.features)
            todo = sum(len(self.dag.shards.get(shard, [])) for shard in self._waiting("clips", recipe=recipe))
            size = todo * (experiment.clips.frames + experiment.clips.clips) * width * (2.0 if experiment.clips.dtype == "float16" else 4.0)
            seconds = todo * estimates.CLIP_SECONDS / self.speeds.threads
            stages.append(self._row("clips", f"clips {recipe}", "videos", todo, self.count, seconds, size, recipe=recipe))
        return stages

    def _runs(self) -> list[Stage]:
        config = self.dag.config
        total, todo = len(config.experiments) * len(config.seeds), [job.of("experiment") for job in self.jobs if job.rule == "train"]
        videos = max(1, self.count * 3 // 4)  # about the share of the training split in every benchmark
        seconds = sum(estimates.train_seconds(config.experiment(name), videos, self.speeds) for name in todo)
        train = self._row("train", "train", "runs", len(todo), total, seconds, len(todo) * estimates.RUN_BYTES)
        left = sum(job.rule == "evaluate" for job in self.jobs)
        pairs = left * self.queries * self.count
        evaluate = self._row(
            "evaluate", "evaluate", "runs", left, total, 20.0 * left + pairs * 1e7 / self.speeds.flops, left * self.queries * 200.0
        )
        return [train, evaluate]


def _queries(dag: Dag) -> int:
    known, _ = _annotations(dag)
    if known is not None:
        return len(known.queries)
    from pipeline.demo.world import rows as world_rows

    return len(world_rows(dag.config.demo))


def _measured(dag: Dag) -> dict[str, float]:
    """Stage -> wall seconds per item (video, query or run) of its finished jobs; stages run side by side are not slowed down by it."""
    folder = dag.layout.benchmarks
    found: dict[str, float] = {}
    sizes = {shard: len(members) for shard, members in dag.shards.items()}
    for stage in ("frames", "features", "clips"):
        spent: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for path in (folder / stage).rglob("*.tsv"):
            name = stage if path.parent == folder / stage else f"{stage} {path.parent.name}"
            spent[name][0] += float(pd.read_csv(path, sep="\t")["s"].sum())
            spent[name][1] += sizes.get(path.stem, 0)
        found |= {name: spent_s / items for name, (spent_s, items) in spent.items() if items}
    for stage in ("train", "evaluate"):
        seconds = [float(pd.read_csv(path, sep="\t")["s"].sum()) for path in (folder / stage).rglob("*.tsv")]
        found |= {stage: sum(seconds) / len(seconds)} if seconds else {}
    return found
