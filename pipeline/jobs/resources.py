"""What a job asks a scheduler for: minutes, memory, disk, from what its shard holds; and what a whole run needs of the disk.

A retry asks for more. Every job keeps what it has finished, so one that ran out of time goes on where it was.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

from pipeline.jobs.dag import Dag
from pipeline.jobs.estimates import MEGA, Costs, Machine, Needs
from pipeline.jobs.lengths import Lengths
from pipeline.jobs.stage import Wildcards
from pipeline.jobs.stages import STAGES

MARGIN = 4.0  # the arithmetic is good to a factor of three or so
START_MINUTES = 10  # queueing of the file system, imports, loading weights

Request = Callable[..., int]


class Requests:
    """Requests of one configuration's jobs."""

    def __init__(self, dag: Dag) -> None:
        # Only schedulers look at times, and their GPU partition has GPUs, whatever the machine has that submits.
        runtime = dag.config.runtime
        self.costs, self.lengths = Costs(dag, Machine(runtime.threads, runtime.device != "cpu")), Lengths(dag)

    def of(self, stage: str) -> dict[str, Request]:
        """`runtime` (minutes), `mem_mb` and `disk_mb` of a rule, as functions of its wildcards and, where it grows, the attempt."""

        kind = STAGES[stage]

        @functools.lru_cache(maxsize=1)  # asked thrice in a row; a retry finds what was decoded meanwhile
        def needed(wildcards: frozenset[tuple[str, str]]) -> Needs:
            of = dict(wildcards)
            return kind.needs(self.costs, self.lengths.load(of), of)

        def need(wildcards: Wildcards) -> Needs:
            return needed(frozenset(wildcards.items()))

        return {
            "runtime": lambda wildcards, attempt: math.ceil((START_MINUTES + MARGIN * need(wildcards).seconds / 60) * attempt),
            "mem_mb": lambda wildcards, attempt: math.ceil(need(wildcards).memory * (1 + (attempt - 1) / 2)),
            "disk_mb": lambda wildcards: math.ceil(kind.parts * need(wildcards).disk / MEGA) + 10,
        }


def disk(costs: Costs, lengths: Lengths, at_once: int) -> float:
    """Bytes that the jobs which are not done yet will need at most at one time, `at_once` of them at work."""
    total, layout = 0.0, costs.collection.layout
    for stage in STAGES.values():
        todo = [of for of in stage.jobs(costs.collection) if not stage.manifest(layout, of).exists()]
        sizes = sorted(stage.needs(costs, lengths.load(of), of).disk for of in todo)
        goes = stage.temporary and not costs.config.video.keep_frames
        total += sum(sizes[-at_once:] if goes else sizes)
    return total
