"""What most commands begin with. Its imports come late: `prvr --help` must not wait for the libraries of a command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.core.install import run_command

if TYPE_CHECKING:
    from pipeline.config.schema import Config
    from pipeline.jobs.dag import Dag

ConfigFile = Annotated[str, typer.Option("--config", help="The configuration file.")]


def load(config: str) -> Config:
    """The configuration of a file. Errors: ConfigError."""
    from pipeline.config import reading

    return reading.load(config)


def open_dag(config: str) -> Dag:
    """The jobs of a configuration. Errors: as `load`, and DatasetError."""
    from pipeline.jobs.dag import Dag

    return Dag.of(load(config))


def say_stale(lines: list[str], config: str) -> None:
    """On stderr, so that what a program reads on stdout stays as it is."""
    for line in filter(None, lines):
        print(f"warning: {line}", file=sys.stderr)
    if any(lines):
        print(f"to do: {run_command(config)}", file=sys.stderr)
