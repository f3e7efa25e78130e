"""The commands for people who prepare and watch a run: looking, checking, planning."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import load, open_dag, say_stale
from pipeline.core.install import run_command


def register(app: typer.Typer) -> None:
    """Add the tools."""
    for command in (summary, status, verify, unlock, weights, doctor, init, plan):
        app.command()(command)


def summary(config: Config = "config.yaml") -> None:
    """Print the result table, where the time went, and where everything is."""
    from pipeline.jobs.staleness import stale_runs
    from pipeline.tools.status import summary as text

    dag = open_dag(config)
    say_stale(stale_runs(dag), config)
    print(text(dag.config, dag.layout))


def status(
    config: Config = "config.yaml",
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until nothing runs; Ctrl-C ends the watching.")] = False,
) -> None:
    """Print what is done, running (how far) and failed (the last lines of its log), the quarantine, and where the time went."""
    from pipeline.jobs.staleness import stale_runs
    from pipeline.tools.status import status as text
    from pipeline.tools.status import watch as watching

    dag = open_dag(config)
    if watch:
        with contextlib.suppress(KeyboardInterrupt):
            watching(dag)
        return
    print(text(dag))
    say_stale(stale_runs(dag), config)


def verify(
    config: Config = "config.yaml",
    remove: Annotated[bool, typer.Option("--remove", help="Delete what is bad, so that the next run makes it again.")] = False,
) -> None:
    """Read every stored file and compare it with its checksums; says which job makes a bad one again, and exits with 1."""
    from pipeline.tools import verify as stored

    verdicts = list(stored.verify(open_dag(config)))
    print(stored.report(verdicts))
    bad = [verdict for verdict in verdicts if verdict.problem]
    for file in stored.forget(bad) if remove else []:
        print(f"deleted {file}")
    # Named one by one: what is finished needs them no more, so that the default target would leave them.
    manifests = dict.fromkeys(str(verdict.product.manifest) for verdict in bad if verdict.product)
    if manifests:
        print(f"to make them again: {run_command(config, *manifests)}" if remove else "to have them made again: add --remove")
    raise typer.Exit(code=int(bool(bad)))


def unlock(
    folder: Annotated[Path, typer.Argument(help="Where the workflow is run.")] = Path(),
    stop: Annotated[bool, typer.Option("--stop", help="End jobs that outlived their run.")] = False,
    force: Annotated[bool, typer.Option("--force", help="The run on another host that holds the lock is known to be gone.")] = False,
) -> None:
    """Say who holds or held the lock of this folder, and take it away when that run is gone."""
    from pipeline.jobs.interruption import unlock as take_away

    print(take_away(folder, stop=stop, force=force))


def weights(
    config: Config = "config.yaml",
    verify: Annotated[bool, typer.Option(help="Load the weights that are here and compare what they give with known numbers.")] = True,
    record: Annotated[bool, typer.Option("--record", help="Keep what this machine's give, where no numbers are known.")] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Print the commands that fetch what is missing; runs none.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --fetch: run them.")] = False,
) -> None:
    """List the pretrained weights of the encoders in use: where they go, size, licence and checksum, whether they are here and right."""
    if yes and not fetch:
        raise typer.BadParameter("--yes goes with --fetch")
    if fetch:
        raise typer.Exit(code=int(not _fetch(config, yes)))
    from pipeline.encoders import golden
    from pipeline.encoders.weights import inventory

    loaded, wrong = load(config), False
    for needed in inventory(loaded):
        size = f"{needed.megabytes} MB" if needed.megabytes else "size unknown"
        print(f"{'✓' if not needed.problem else '✗'} {needed.encoder}: {needed.architecture}, {needed.weights}")
        print(f"    file    {needed.found or f'{needed.folder}/{needed.file}'} ({size})")
        print(f"    sha256  {needed.sha256 or 'not published'}")
        for label, value in (("licence", needed.licence), ("from", needed.address)):
            if value:
                print(f"    {label:7} {value}")
        wrong |= bool(needed.problem)
        if verify and not needed.problem:
            encoder = loaded.network(needed.encoder)
            if record:
                golden.record(encoder, needed.encoder)
            ok, detail = golden.verify(encoder, needed.encoder)
            print(f"    golden  {'' if ok is not False else '✗ '}{detail}")
            wrong |= ok is False
    raise typer.Exit(code=int(wrong))


def _fetch(config: str, yes: bool) -> bool:
    """Whether all weights are here; else the commands that fetch them are printed, and run if `yes`."""
    from pipeline.encoders import fetch

    loaded = load(config)
    absent = list(fetch.missing(loaded))
    downloads = [one for _, each in absent for one in each]
    for name, each in absent:
        if not each:
            print(f"# {name}: no address is known; `prvr weights --config {config}` says where the file goes")
    if yes:
        fetch.run(downloads, loaded, lambda line: print(line, flush=True))
    else:
        print("\n".join(one.line for one in downloads) if downloads else "" if absent else "all weights in use are here")
    return all(each for _, each in absent) if yes else not absent


def doctor(
    config: Config = "config.yaml", as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False
) -> None:
    """Try everything a run needs from this machine; exits with 1 when something would fail."""
    from pipeline.tools.doctor import as_json as plain
    from pipeline.tools.doctor import preflight, render

    dag = open_dag(config)
    checks = list(preflight(dag.config, dag.layout))
    print(json.dumps(plain(checks), indent=1) if as_json else render(checks))
    raise typer.Exit(code=int(any(check.ok is False for check in checks)))


def init(
    folder: Annotated[Path | None, typer.Argument(help="A folder of videos, annotation files or feature bundles.")] = None,
    to: Annotated[Path, typer.Option("--to", help="Where the configuration and the manifest are written.")] = Path(),
    kind: Annotated[str | None, typer.Option("--kind", help="Which dataset, where several are recognised.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Write the demo's configuration instead; it renders its own videos.")] = False,
) -> None:
    """Look at a folder, say what is in it, and write a commented configuration for it."""
    from pipeline.tools import init as writing

    if (folder is None) != demo:
        raise typer.BadParameter("name a folder, or give --demo")
    print("\n".join(writing.init_demo(to) if folder is None else writing.init(folder, to, kind=kind)))


def plan(
    config: Config = "config.yaml",
    measure: Annotated[bool, typer.Option(help="Try this machine for a few seconds, once, for times that fit it.")] = True,
) -> None:
    """The dry run in words: videos and hours, what is cached, what would run and why, its time and disk."""
    from pipeline.tools.plan import plan as planned

    print(planned(open_dag(config), config, measure=measure).text())
