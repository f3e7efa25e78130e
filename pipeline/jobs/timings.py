"""What the stages took, as Snakemake measured their jobs."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import NamedTuple

from pipeline.core.layout import Layout
from pipeline.jobs.stages import STAGES


class Timing(NamedTuple):
    """A stage's jobs: wall seconds and processor seconds, summed; peak memory of one of them, MB. NaN where nothing was measured."""

    stage: str
    jobs: int
    seconds: float
    processor_seconds: float
    peak_mb: float


def stage_times(layout: Layout) -> list[Timing]:
    """Every stage that has run, in their order, from its jobs' `benchmark:` files."""
    measured = [(stage.name, stage.measured(layout)) for stage in STAGES.values()]
    return [_timing(name, files) for name, files in measured if files]


def _timing(stage: str, files: list[Path]) -> Timing:
    rows = [row for file in files for row in csv.DictReader(file.read_text().splitlines(), delimiter="\t")]

    def known(column: str) -> list[float]:
        return [value for row in rows if not math.isnan(value := _number(row.get(column)))]

    return Timing(stage, len(files), sum(known("s")), sum(known("cpu_time")), max(known("max_rss"), default=math.nan))


def _number(text: str | None) -> float:
    """Snakemake writes NA or - for a job too short to be measured."""
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
