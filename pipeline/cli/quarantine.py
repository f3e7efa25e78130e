"""The commands about videos that could not be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import begin, open_dag, open_to_work
from pipeline.core.install import run_command

if TYPE_CHECKING:
    from pipeline.jobs.dag import Dag

quarantine = typer.Typer(help="The videos that could not be used.", no_args_is_help=True)


def collected(dag: Dag, encoders: list[str]) -> int:
    """How many videos are unusable, after quarantine.tsv was written. Errors: QuarantineError, when more than the configuration allows."""
    from pipeline.video.quarantine import collect as gather

    return len(gather(dag.config, dag.layout, dag.shard_names, [name for name in encoders if not dag.imported(name)]))


@quarantine.command()
def collect(config: Config = "config.yaml") -> None:
    """Gather the shards' quarantine rows into quarantine.tsv; fails when too many videos are unusable."""
    dag = open_to_work(config)
    job = begin(dag, "quarantine")
    from pipeline.core.atomic import write_json
    from pipeline.core.notices import say

    # quarantine.tsv is not the job's declared output: Snakemake would delete it when the limit is exceeded, just when it is wanted.
    unusable = collected(dag, dag.video_encoders)
    write_json(dag.layout.quarantine_checked, {"quarantined": unusable})
    job.finish(dag)
    if unusable:
        say(f"warning: {unusable} videos are unusable and left out; why: {dag.layout.quarantine}")


@quarantine.command("list")
def show(config: Config = "config.yaml") -> None:
    """Print the quarantined videos."""
    from pipeline.video.quarantine import read

    rows = read(open_dag(config).layout.quarantine)
    for row in rows:
        print(f"{row['code']:22} {row['id']}  {row['message']}")
    print(f"{len(rows)} videos in quarantine")


@quarantine.command()
def retry(config: Config = "config.yaml", ids: Annotated[list[str] | None, typer.Argument(help="Video ids; none: all.")] = None) -> None:
    """Make the next run try quarantined videos again."""
    dag = open_dag(config)
    from pipeline.video.quarantine import retry as again

    for shard, members in again(dag.layout, dag.shard_names, ids or ()).items():
        print(f"shard {shard}: {', '.join(members)}")
    print(f"next: {run_command(dag.config.source)}")
