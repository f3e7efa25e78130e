"""The commands for people: looking, checking, searching, importing."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.opening import ConfigFile as Config
from pipeline.cli.opening import load, open_dag, say_stale
from pipeline.core.errors import ConfigError
from pipeline.core.install import run_command

if TYPE_CHECKING:
    from pipeline.jobs.dag import Dag
    from pipeline.search.engine import Engine

config_app = typer.Typer(help="The configuration: check it, show it, regenerate what is made from its model.", no_args_is_help=True)
demo_app = typer.Typer(help="The embedded demo world.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the tools."""
    for command in (summary, status, verify, unlock, weights, doctor, init, plan, search, serve):
        app.command()(command)
    app.add_typer(config_app, name="config")
    app.add_typer(demo_app, name="demo")


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


@demo_app.command()
def pretrain(
    folder: Annotated[Path | None, typer.Option("--folder", help="Where the weights go; by default into the package.")] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this encoder; repeat.")] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes that draw the lessons.", min=1)] = 2,
) -> None:
    """Train the demo's tiny encoders on frames, captions and motions independent of the demo videos (an hour on 2 cores)."""
    from pipeline.demo import pretrain as lessons

    lessons.run(folder or lessons.WEIGHTS, only or lessons.NAMES, workers=workers)


@demo_app.command()
def sheet(
    path: Annotated[Path, typer.Argument(help="The PNG to write.")],
    video: Annotated[str, typer.Option("--video", help="Its id; by default the first test video.")] = "",
    config: Config = "config.yaml",
) -> None:
    """Draw the contact sheet of one demo video: its events over time, with their captions."""
    from pipeline.demo.sheet import save
    from pipeline.demo.world import world

    specs = world(load(config).demo)
    named = {spec.video_id: spec for spec in specs}
    if video and video not in named:
        raise ConfigError(f"the demo has no video {video!r}", where=config, fix=f"one of {specs[0].video_id} ... {specs[-1].video_id}")
    save(named[video] if video else next(spec for spec in specs if spec.split == "test"), path)
    print(path)


@config_app.command()
def check(config: Config = "config.yaml") -> None:
    """Check a configuration and name its experiments."""
    loaded = load(config)
    print(
        f"{config}: dataset {loaded.dataset.name}, experiments {', '.join(loaded.experiments)}, seeds {', '.join(map(str, loaded.seeds))}"
    )


@config_app.command()
def show(
    config: Config = "config.yaml",
    experiment: Annotated[str, typer.Option("--experiment", help="Only this one; it may be an ablation's or a sweep's.")] = "",
) -> None:
    """Print the configuration with every default written out, as YAML; a comment says where each value comes from."""
    from pipeline.config import show as whole

    print(whole.show(load(config), experiment))


@config_app.command()
def docs(root: Annotated[Path, typer.Option("--root", help="The project's folder.")] = Path()) -> None:
    """Write workflow/schemas/config.schema.json and docs/configuration.md from the model."""
    from pipeline.config import docs as config_docs

    for path, text in ((config_docs.SCHEMA_FILE, config_docs.schema()), (config_docs.REFERENCE_FILE, config_docs.reference())):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        print(root / path)
