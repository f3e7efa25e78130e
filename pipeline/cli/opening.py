"""What most commands begin with. Its imports come late: `prvr --help` must not wait for the libraries of a command."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.core.install import run_command

if TYPE_CHECKING:
    from pipeline.config.schema import Config
    from pipeline.jobs.dag import Dag
    from pipeline.jobs.products import Product

ConfigFile = Annotated[str, typer.Option("--config", help="The configuration file.")]


def load(config: str) -> Config:
    """The configuration of a file. Errors: ConfigError."""
    from pipeline.config import reading

    return reading.load(config)


def open_dag(config: str) -> Dag:
    """The jobs of a configuration. Errors: as `load`, and DatasetError."""
    from pipeline.jobs.dag import Dag

    return Dag.of(load(config))


def open_to_work(config: str, threads: int = 1) -> Dag:
    """The parsed configuration, with every library's thread pool limited before it is imported.

    Threads that wait give their processor away: those that spin took a training of two threads, beside other work, 3 to 10 times as long.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")
    from pipeline.config.reading import PUBLISHED
    from pipeline.jobs.dag import Dag

    return Dag.of(load(config), started=Path(config).parent.name == PUBLISHED)


def begin(dag: Dag, stage: str, **of: str) -> Product:
    """What the job of a stage with these wildcards is to leave.

    Where the workflow started it, it shows how far it is from here on (core/running.py), and keeps what its user should know
    (core/notices.py).
    """
    from pipeline.core import notices, running
    from pipeline.jobs.display import above_display
    from pipeline.jobs.products import product
    from pipeline.jobs.stages import STAGES

    if dag.started:
        running.begin(dag.layout.running, stage, of)
        notices.begin(STAGES[stage].log(dag.layout, of))
        above_display()
    return product(dag, stage, **of)


def say_stale(lines: list[str], config: str) -> None:
    """On stderr, so that what a program reads on stdout stays as it is."""
    for line in filter(None, lines):
        print(f"warning: {line}", file=sys.stderr)
    if any(lines):
        print(f"to do: {run_command(config)}", file=sys.stderr)
