"""What is left to do, stage by stage: jobs of the dry run, videos inside their shards, seconds and bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pandas as pd

from pipeline.jobs.estimates import Costs, Load, Machine, Needs, Speeds
from pipeline.jobs.lengths import Lengths
from pipeline.jobs.stage import Stage
from pipeline.jobs.stages import STAGES
from pipeline.tools.dryrun import PlannedJob


@dataclass
class Row:
    """One row of the plan: what is to do of how many videos, queries or runs, wall seconds and bytes, and why.

    `measured`: the seconds extrapolate from finished jobs of this collection. `sampled`: from a short measurement on this machine.
    """

    name: str
    todo: int
    total: int
    unit: str
    seconds: float
    bytes: float
    measured: bool
    why: str
    sampled: bool = False


@dataclass
class Forecast:
    """The rows of a plan, from the dry run's jobs; `cores` of this machine do them."""

    costs: Costs
    lengths: Lengths
    jobs: list[PlannedJob]
    cores: int

    def rows(self) -> list[Row]:
        """Every stage there is something to do in, or was."""
        return [self._row(stage, name, members) for stage in STAGES.values() for name, members in self._groups(stage)]

    def _groups(self, stage: Stage) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """(name, wildcards of the jobs) of every row of a stage."""
        jobs = stage.jobs(self.costs.collection)
        for value in dict.fromkeys(of.get(stage.row, "") for of in jobs):
            yield f"{stage.name} {value}".rstrip(), [of for of in jobs if of.get(stage.row, "") == value]

    def _row(self, stage: Stage, name: str, members: list[dict[str, str]]) -> Row:
        planned = [job for job in self.jobs if job.rule == stage.name and job.wildcards in members]
        loads = [self.lengths.load(job.wildcards, stage.left(self.costs.collection, job.wildcards)) for job in planned]
        needs, arithmetic = (
            [stage.needs(self._costs(stage, speeds), load, job.wildcards) for load, job in zip(loads, planned, strict=True)]
            for speeds in (self.costs.speeds, Speeds())
        )
        todo, speed = sum(_items(stage, load) for load in loads), self._measured(stage, members)
        seconds = sum(need.seconds for need in needs) if speed is None else speed * todo
        return Row(
            name,
            todo,
            sum(_items(stage, self.lengths.load(of)) for of in members),
            stage.unit,
            seconds / self._side_by_side(stage, planned),
            self._disk(stage, needs),
            speed is not None,
            _why(planned),
            sampled=needs != arithmetic,
        )

    def _costs(self, stage: Stage, speeds: Speeds) -> Costs:
        machine = Machine(self.cores, self.costs.machine.gpu) if stage.alone else self.costs.machine
        return replace(self.costs, machine=machine, speeds=speeds)

    def _side_by_side(self, stage: Stage, planned: list[PlannedJob]) -> int:
        """How many jobs of a stage run at once."""
        threads = max((stage.threads(self.costs, job.wildcards) for job in planned), default=1)
        places = self.costs.config.runtime.gpus if stage.gpu and self.costs.machine.gpu else self.cores // threads
        return max(1, min(places, len(planned)))

    def _disk(self, stage: Stage, needs: list[Needs]) -> float:
        sizes = [need.disk for need in needs]
        return max(sizes, default=0.0) if stage.temporary and not self.costs.config.video.keep_frames else sum(sizes)

    def _measured(self, stage: Stage, members: list[dict[str, str]]) -> float | None:
        """Seconds of a job per video, query or run, over the finished jobs of a row; None when there are none."""
        done = [(stage.benchmark(self.costs.collection.layout, of), of) for of in members]
        done = [(path, of) for path, of in done if path.exists()]
        items = sum(_items(stage, self.lengths.load(of)) for _, of in done)
        return sum(float(pd.read_csv(path, sep="\t")["s"].sum()) for path, _ in done) / items if items else None


def _items(stage: Stage, load: Load) -> int:
    """What a job has before it, in the unit of its stage."""
    return {"videos": load.videos, "queries": round(load.queries), "runs": 1}[stage.unit]


def _why(planned: list[PlannedJob]) -> str:
    counts = Counter(job.why for job in planned)
    if not counts:
        return "up to date"
    return ", ".join(f"{why} ({n} jobs)" if len(counts) > 1 else why for why, n in counts.most_common())
