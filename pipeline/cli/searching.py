"""The commands that answer a sentence: in the terminal, and on the search page."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import open_dag, say_stale

if TYPE_CHECKING:
    from pipeline.jobs.dag import Dag
    from pipeline.search.engine import Engine


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (search, serve):
        app.command()(command)


def search(
    query: Annotated[str, typer.Argument(help="What to look for; none: queries are read line by line.")] = "",
    config: Config = "config.yaml",
    experiment: Annotated[str, typer.Option("--experiment", help="The trained model; by default the first experiment.")] = "",
    seed: Annotated[int | None, typer.Option("--seed", help="Its seed; by default the first one.")] = None,
    top: Annotated[int, typer.Option("--top", "-k", help="How many videos to print.", min=1)] = 10,
    moments: Annotated[int, typer.Option("--moments", help="How many moments of each.", min=1)] = 3,
    split: Annotated[str, typer.Option("--split", help="Only videos of this split.")] = "",
    group: Annotated[str, typer.Option("--group", help="Only videos with a query of this group.")] = "",
    shortest: Annotated[float, typer.Option("--shortest", help="Only videos at least so many seconds long.", min=0)] = 0,
    longest: Annotated[float, typer.Option("--longest", help="Only videos at most so many seconds long.", min=0)] = math.inf,
    zero_shot: Annotated[bool, typer.Option("--zero-shot", help="The frozen encoder instead of a trained model.")] = False,
    kept: Annotated[str, typer.Option("--run", help="A kept run, by its hash (`prvr runs`).")] = "",
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="A checkpoint.h5 of a model trained elsewhere.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a query, for programs.")] = False,
) -> None:
    """Type a sentence, get the videos that show it and the moments inside each; without a trained model the frozen encoder answers."""
    dag = open_dag(config)
    from pipeline.jobs.staleness import stale_run
    from pipeline.search.answers import Filter, render
    from pipeline.search.opening import engine

    if checkpoint is not None:
        from pipeline.search.lent import lent

        if experiment or seed is not None or zero_shot or kept:
            raise typer.BadParameter("--checkpoint is a model itself: leave out --experiment, --seed, --run and --zero-shot")
        chosen: Engine = lent(dag.config, checkpoint)
    elif kept:
        chosen = _kept(dag, kept)
    else:
        chosen = engine(dag.config, experiment, seed, zero_shot=zero_shot, say=lambda line: print(f"note: {line}", file=sys.stderr))
    if chosen.trained and not kept:
        say_stale([stale_run(dag, *chosen.trained)], config)
    if not query:
        print("one query a line, an empty line ends", file=sys.stderr)
    for line in [query] if query else iter(lambda: sys.stdin.readline().strip(), ""):
        answer = chosen.answer(line, top, moments=moments, wanted=Filter(split, group, shortest, longest))
        print(answer.json() if as_json else render(answer), flush=True)


def _kept(dag: Dag, run: str) -> Engine:
    """What a kept run answers with: its own settings, on the videos as they were prepared for it."""
    from pipeline.search.searcher import Searcher
    from pipeline.tools.runs import as_configured, find

    found = find(dag.layout, run)
    return Searcher(as_configured(dag.config, found), found.layout, found.experiment, found.seed)


def serve(
    config: Config = "config.yaml",
    port: Annotated[int, typer.Option("--port", help="Where on this machine; 0: any that is free.", min=0, max=65535)] = 8765,
    seed: Annotated[int | None, typer.Option("--seed", help="The seed of the trained models; by default all that are there.")] = None,
    checkpoint: Annotated[Path | None, typer.Option("--checkpoint", help="Also a checkpoint.h5 of a model trained elsewhere.")] = None,
) -> None:
    """Open the search page of a run on this machine: type a sentence, see the moments, play them."""
    dag = open_dag(config)
    from pipeline.jobs.staleness import stale_runs
    from pipeline.search.opening import engines
    from pipeline.search.serving import run

    say_stale(stale_runs(dag), config)
    ready = engines(dag.config, seed)
    if checkpoint is not None:
        from pipeline.search.lent import lent

        model = lent(dag.config, checkpoint)
        ready = {checkpoint.name: lambda: model, **ready}
    run(dag.config, ready, port)
