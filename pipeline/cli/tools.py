"""The commands for people: looking, checking, searching, importing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline import config_docs, config_io
from pipeline.dag import Dag
from pipeline.status import status as status_text
from pipeline.status import summary as summary_text

Config = Annotated[str, typer.Option("--config", help="The configuration file.")]

config_app = typer.Typer(help="The configuration: check it, show it, regenerate what is made from its model.", no_args_is_help=True)
demo_app = typer.Typer(help="The embedded demo world.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the tools."""
    for command in (summary, status):
        app.command()(command)
    app.add_typer(config_app, name="config")
    app.add_typer(demo_app, name="demo")


def _dag(config: str) -> Dag:
    return Dag.of(config_io.load(config))


def summary(config: Config = "config.yaml") -> None:
    """Print the result table, where the time went, and where everything is."""
    dag = _dag(config)
    print(summary_text(dag.config, dag.layout))


def status(config: Config = "config.yaml") -> None:
    """Print what is finished and what is missing, with the last lines of the logs."""
    print(status_text(_dag(config)))


@config_app.command()
def check(config: Config = "config.yaml") -> None:
    """Check a configuration and name its experiments."""
    loaded = config_io.load(config)
    print(
        f"{config}: dataset {loaded.dataset.name}, experiments {', '.join(loaded.experiments)}, seeds {', '.join(map(str, loaded.seeds))}"
    )


@config_app.command()
def docs(root: Annotated[Path, typer.Option("--root", help="The project's folder.")] = Path()) -> None:
    """Write workflow/schemas/config.schema.json and docs/configuration.md from the model."""
    for path, text in ((config_docs.SCHEMA_FILE, config_docs.schema()), (config_docs.REFERENCE_FILE, config_docs.reference())):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        print(root / path)
