"""`prvr runs`: former runs, listed, compared and removed."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import load
from pipeline.core.errors import ConfigError

Hash = Annotated[str, typer.Argument(help="The run, by its hash or the beginning of it.")]

runs = typer.Typer(invoke_without_command=True, help="The runs that are there, and the former ones that were kept.")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(runs, name="runs")


@runs.callback()
def show(
    context: typer.Context,
    config: Config = "config.yaml",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """List every run: when it was trained, its hash, SumR and size, and how the present run differs from each kept one."""
    if context.invoked_subcommand is not None:
        return
    from pipeline.tools.runs import listing, text

    entries = listing(load(config).layout)
    print(json.dumps(entries, indent=1) if as_json else text(entries))


@runs.command()
def compare(a: Hash, b: Hash, config: Config = "config.yaml") -> None:
    """Set two runs side by side: settings, recalls, and a paired test over the queries."""
    from pipeline.tools import runs as known

    layout = load(config).layout
    print(known.compare(known.find(layout, a), known.find(layout, b)))


@runs.command()
def remove(
    hashes: Annotated[list[str] | None, typer.Argument(help="Kept runs, by their hashes or the beginnings of these.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All kept runs.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = "config.yaml",
) -> None:
    """Delete kept runs, after asking. The present ones stay."""
    from pipeline.core import kept
    from pipeline.tools.runs import all_runs, find

    if bool(hashes) == every:
        raise typer.BadParameter("name runs, or give --all")
    layout = load(config).layout
    chosen = [run for run in all_runs(layout) if not run.present] if every else [find(layout, run) for run in hashes or ()]
    if present := [run for run in chosen if run.present]:
        raise ConfigError(f"{present[0].name} is the present run", where=present[0].folder, fix="name kept runs: `prvr runs` lists them")
    for run in chosen:
        print(f"{run.name}: {run.bytes / 1e6:.1f} MB, {run.folder}")
    if not chosen or not (yes or typer.confirm(f"Delete {len(chosen)} runs?")):
        print("nothing is deleted")
        return
    for run in chosen:
        kept.remove(run.folder)
    print(f"{len(chosen)} deleted")
