"""`prvr report`: the workflow's last job, and for people the page as of what is there now."""

from __future__ import annotations

from pathlib import Path

import typer

from pipeline.cli.opening import ConfigFile, load, say_stale


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(report)


def report(config: ConfigFile = "config.yaml") -> None:
    """Write results/<dataset>/report.html: all runs in one page that opens without a network."""
    from pipeline.config.reading import PUBLISHED
    from pipeline.jobs.dag import Dag
    from pipeline.jobs.products import product
    from pipeline.jobs.stages import STAGES
    from pipeline.jobs.staleness import stale_runs
    from pipeline.report import stage

    job = Path(config).parent.name == PUBLISHED
    dag = Dag.of(load(config), started=job)
    others = STAGES["report"].made_by(dag, {}).also
    runs = [*dag.runs("table"), *((other.of["experiment"], int(other.of["seed"])) for other in others if dag.done(other))]
    stage.run(dag.config, dag.layout, runs, {source.video_id: source for source in dag.listing.videos})
    print(dag.layout.report)
    stale = [] if job else stale_runs(dag)
    say_stale(stale, config)
    made = product(dag, "report")
    if stale:  # of other runs than today's: the next run makes it again
        made.manifest.unlink(missing_ok=True)
    else:
        made.finish(dag)
