"""What a stage of the workflow is: one class, from which the rules, the digests, the requests, `status`, `plan` and `doctor` are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Protocol

from pipeline.core.layout import Layout
from pipeline.jobs.collection import Collection, Targets
from pipeline.jobs.estimates import Costs, Load, Needs

Wildcards = Mapping[str, str]


class Job(NamedTuple):
    """One job: its stage, and what it is about."""

    stage: str
    of: Wildcards = MappingProxyType({})


class MadeBy(NamedTuple):
    """What a job's result depends on: values of the configuration, files from outside (their digests), and the jobs before it.

    `also`: jobs it does not wait for, whose results it takes where they are there and current.
    """

    recipe: Any = None
    data: Any = None
    after: Sequence[Job] = ()
    also: Sequence[Job] = ()


class Stage(Protocol):
    """One stage. Its jobs are told apart by wildcards: the names in `place`, where their logs and measurements lie."""

    name: ClassVar[str]
    place: ClassVar[str]
    unit: ClassVar[str]  # what its work is counted in: videos, queries or runs
    modules: ClassVar[tuple[str, ...]]  # whose code, with everything they import, decides the result
    row: ClassVar[str] = ""  # the wildcard that gives a row of its own in `prvr plan`
    gpu: ClassVar[bool] = False
    parts: ClassVar[float] = 2.0  # times its size a result takes while it is put together
    temporary: ClassVar[bool] = False  # its files go when the jobs after it are done
    alone: ClassVar[bool] = False  # one job, which takes every core of the machine

    @property
    def wildcards(self) -> tuple[str, ...]:
        return tuple(field for _, field, _, _ in Formatter().parse(self.place) if field)

    def log(self, layout: Layout, of: Wildcards) -> Path:
        """What the job says."""
        return layout.logs / f"{self.place.format_map(of)}.log"

    def benchmark(self, layout: Layout, of: Wildcards) -> Path:
        """What it took, as Snakemake measures it."""
        return layout.benchmarks / f"{self.place.format_map(of)}.tsv"

    def measured(self, layout: Layout) -> list[Path]:
        """The measurements of every job that was done, of former configurations too."""
        return sorted(layout.benchmarks.glob(f"{self.place.format_map(dict.fromkeys(self.wildcards, '*'))}.tsv"))

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        """The wildcards of every job that these targets need; none where files were imported."""
        ...

    def code(self, collection: Collection, of: Wildcards) -> tuple[str, ...]:
        """The modules whose code decides this job's result; where kinds differ, that of its own kind only."""
        return self.modules

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        """What Snakemake looks for (products.py): there when the job is done, removed before it runs again."""
        ...

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        """What lies beside it, which only jobs look at; none of what is temporary."""
        return ()

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        """What the result depends on."""
        ...

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        """What the job takes for that load."""
        ...

    def threads(self, costs: Costs, of: Wildcards) -> int:
        """How many processors the job keeps busy, where no GPU does its work."""
        return costs.machine.threads

    def left(self, collection: Collection, of: Wildcards) -> set[str]:
        """The videos a job has yet to work on when it runs: all of its shard, or of the collection."""
        return {source.video_id for source in collection.members(of)}
