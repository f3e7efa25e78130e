"""One command per stage: reads the configuration, limits the threads, calls the stage's function."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import begin, open_dag, open_to_work
from pipeline.cli.quarantine import collected, quarantine
from pipeline.core.errors import TrainingError

if TYPE_CHECKING:
    from pipeline.jobs.dag import Dag

Threads = Annotated[int, typer.Option("--threads", help="CPU threads this job may use.", min=1)]
Shard = Annotated[str, typer.Option("--shard", help="The shard, e.g. 000.")]
Encoder = Annotated[str, typer.Option("--encoder", help="An encoder of the configuration.")]
Experiment = Annotated[str, typer.Option("--experiment", help="An experiment of the configuration.")]
Seed = Annotated[int, typer.Option("--seed", help="The seed of the run.")]

features = typer.Typer(invoke_without_command=True, help="Encode the frames of a shard; `compare` sets two feature stores side by side.")


def register(app: typer.Typer) -> None:
    """Add the stage commands."""
    commands: list[Callable[..., None]] = [world, frames, text, clips, train, evaluate, table, cost]
    for command in commands:
        app.command()(command)
    app.command("annotations")(annotate)
    app.command("compare")(compare_methods)
    app.add_typer(features, name="features")
    app.add_typer(quarantine, name="quarantine")


def world(config: Config = "config.yaml", threads: Threads = 1) -> None:
    """Render the embedded demo world."""
    dag = open_to_work(config, threads)
    job = begin(dag, "world")
    from pipeline.demo import stage

    stage.run(dag.config, dag.layout, workers=threads)
    job.finish(dag)


def annotate(config: Config = "config.yaml") -> None:
    """Read the dataset's annotations into one canonical table."""
    dag = open_to_work(config)
    job = begin(dag, "annotations")
    from pipeline.core.notices import say
    from pipeline.core.store import open_store
    from pipeline.datasets import stage

    stage.run(dag.config, dag.layout)
    job.finish(dag)
    with open_store(dag.layout.annotations, stage="annotations") as store:
        for note in store.attrs.get("notes", []):
            say(f"note: {note}")


def frames(shard: Shard, config: Config = "config.yaml", threads: Threads = 1) -> None:
    """Decode one shard's videos into the frames every encoder wants."""
    dag = open_to_work(config, threads)
    job = begin(dag, "frames", shard=shard)
    dag.check_division()
    from pipeline.jobs import recipes
    from pipeline.video import stage

    recipe, wanted = recipes.frames(dag.config, dag.streams), dag.to_decode(shard)
    stage.run(dag.config, dag.layout, shard, dag.sources(shard), dag.streams, wanted, recipe, workers=dag.config.video.workers or threads)
    job.finish(dag)


@features.callback()
def encode(context: typer.Context, encoder: Encoder = "", shard: Shard = "", config: Config = "config.yaml", threads: Threads = 1) -> None:
    """Encode one shard's frames."""
    if context.invoked_subcommand is not None:
        return
    if not encoder or not shard:
        raise typer.BadParameter("--encoder and --shard are needed")
    dag = open_to_work(config, threads)
    job = begin(dag, "features", encoder=encoder, shard=shard)
    dag.check_division()
    from pipeline.encoders import stage

    fed = {}
    if dag.streamed:
        from pipeline.jobs.streaming import decode_and_encode

        fed = decode_and_encode(dag, encoder, shard, dag.config.video.workers or threads)
    stage.run_video(
        dag.config,
        dag.layout,
        encoder,
        shard,
        dag.sources(shard),
        dag.features_recipe(encoder),
        dag.trace("features", encoder=encoder, shard=shard),
        fed,
    )
    job.finish(dag)


@features.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A features file or folder, a published HDF5, npz folder or big file.")],
    b: Annotated[Path, typer.Argument(help="What to set beside it.")],
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw the differences into this PNG.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    config: Config = "config.yaml",
) -> None:
    """Set two feature stores side by side: videos, rows, times, directions."""
    from pipeline.interchange import compare as side_by_side
    from pipeline.jobs.staleness import stale_features

    if Path(config).exists():
        for line in stale_features(open_dag(config), (a, b)):
            print(f"warning: {line}", file=sys.stderr)
    comparison = side_by_side.compare(a, b)
    print(json.dumps(comparison.as_dict(), indent=1) if as_json else comparison)
    if plot is not None:
        print(side_by_side.plot(comparison, plot, (str(a), str(b))), file=sys.stderr)


def text(encoder: Encoder, config: Config = "config.yaml", threads: Threads = 1) -> None:
    """Encode every query."""
    dag = open_to_work(config, threads)
    job = begin(dag, "text", encoder=encoder)
    from pipeline.encoders import text_stage
    from pipeline.jobs import recipes

    text_stage.run(dag.config, dag.layout, encoder, recipes.text(dag.config, encoder), dag.trace("text", encoder=encoder))
    job.finish(dag)


def clips(
    shard: Shard,
    config: Config = "config.yaml",
    threads: Threads = 1,
    experiment: Annotated[str, typer.Option("--experiment", help="An experiment of the configuration, whose clips are made.")] = "",
    recipe: Annotated[str, typer.Option("--recipe", help="Or the folder of the clips, whoever needs them.")] = "",
) -> None:
    """Pool and merge one shard's features into frames, clips and contexts."""
    if bool(experiment) == bool(recipe):
        raise typer.BadParameter("either --experiment or --recipe is needed")
    dag = open_to_work(config, threads)
    # The rule names the folder. Were its first experiment a param, another one before it would make all clips again, and what follows.
    recipe = recipe or dag.clips(experiment)
    pooled = dag.pooled(recipe)
    job = begin(dag, "clips", recipe=recipe, shard=shard)
    dag.check_division()
    from pipeline.clips import stage
    from pipeline.jobs import recipes

    made_by = {encoder: recipes.configured(dag.features_recipe(encoder)) for encoder in pooled.features}
    stage.run(dag.config, dag.layout, pooled, shard, made_by)
    job.finish(dag)


def train(experiment: Experiment, seed: Seed, config: Config = "config.yaml", threads: Threads = 1) -> None:
    """Train one experiment with one seed; refused when more videos are unusable than the configuration allows."""
    dag = open_to_work(config, threads)
    job = begin(dag, "train", experiment=experiment, seed=str(seed))
    if (mark := dag.layout.imported(experiment, seed)).exists():
        raise TrainingError(
            "the checkpoint of this run was imported, and training would replace it",
            where=dag.layout.checkpoint(experiment, seed),
            fix=f"train under another experiment or seed; or delete {mark} and this file",
        )
    # The job has waited for these encoders only, and a shard's quarantine is the same in the manifests of all.
    collected(dag, dag.experiment(experiment).encoders)
    from pipeline.jobs import recipes
    from pipeline.training import stage

    stage.run(dag.config, dag.layout, experiment, seed, recipes.training(dag.config, experiment, seed), _texts(dag, experiment))
    job.finish(dag)


def evaluate(experiment: Experiment, seed: Seed, config: Config = "config.yaml", threads: Threads = 1) -> None:
    """Rank, measure and describe one trained model."""
    dag = open_to_work(config, threads)
    job = begin(dag, "evaluate", experiment=experiment, seed=str(seed))
    from pipeline.evaluation import stage
    from pipeline.jobs import recipes

    stage.run(dag.config, dag.layout, experiment, seed, recipes.evaluation(dag.config, experiment), _texts(dag, experiment))
    job.finish(dag)


def _texts(dag: Dag, experiment: str) -> dict[str, dict[str, Any]]:
    """What the files of an experiment's text encoders must say they were made by."""
    from pipeline.jobs import recipes

    return {name: recipes.configured(recipes.text(dag.config, name)) for name in dag.texts(experiment)}


def table(
    config: Config = "config.yaml", target: Annotated[str, typer.Option("--target", help="table, ablation or sweeps.")] = "table"
) -> None:
    """Gather the runs' metrics of a target into one table and print it."""
    dag = open_to_work(config)
    job = begin(dag, "table", target=target)
    from pipeline.evaluation.table import run_table

    print(run_table(dag.config, dag.layout, target))
    job.finish(dag)


def cost(experiment: Experiment, config: Config = "config.yaml", threads: Threads = 1) -> None:
    """Measure what a method costs: parameters, seconds, memory, latency."""
    dag = open_to_work(config, threads)
    job = begin(dag, "cost", experiment=experiment)
    from pipeline.training import cost as stage

    stage.run(dag.config, dag.layout, experiment)
    job.finish(dag)


def compare_methods(config: Config = "config.yaml") -> None:
    """Set all methods of `compare:` side by side and print the table; `snakemake compare` trains and measures them first."""
    dag = open_to_work(config)
    job = begin(dag, "compare")
    from pipeline.evaluation.compare import run_comparison

    print(run_comparison(dag.config, dag.layout))
    job.finish(dag)
