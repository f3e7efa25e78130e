"""`prvr run`: Snakemake on the Snakefile that came with this package, from any folder that holds a configuration."""

from __future__ import annotations

import argparse
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from pipeline.core import install
from pipeline.core.errors import ConfigError

CONFIG = "config.yaml"


class PassedOn(TyperCommand):
    """A command that reads none of its words itself, `--` included; only a leading `--help` is its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args[:1] == ["--help"]:
            return super().parse_args(ctx, args)
        super().parse_args(ctx, [])
        ctx.args = list(args)
        return list(args)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(cls=PassedOn)(run)
    app.command()(index)
    app.command()(files)


def run(context: typer.Context) -> None:
    """Run the workflow here: Snakemake with all its flags and targets (`prvr run -h`), e.g. `prvr run ablation --configfile my.yaml -n`.

    Left out, --configfile is config.yaml, --cores is all and --resources is gpu=1; with a profile or an executor, those say.
    """
    command = arguments(context.args)
    sys.stdout.flush()
    os.execv(command[0], command)  # not a child: signals, exit codes and the terminal are Snakemake's own


def index(
    folder: Annotated[Path, typer.Argument(help="A folder of videos; no captions are needed.")],
    to: Annotated[Path, typer.Option("--to", help="Where the configuration is written, unless one of its name is there.")] = Path(),
) -> None:
    """Make a folder of videos searchable: write its configuration, sample and encode every video, for `prvr search` and `prvr serve`.

    Again after videos came or went: only those are encoded. Where the configuration names captions, it trains as `prvr run` does.
    """
    from pipeline.tools.init import searchable

    config, said = searchable(folder, to)
    print("\n".join(said), flush=True)
    command = arguments(["--configfile", str(config)])
    os.execv(command[0], command)


def files() -> None:
    """Print the folder of the Snakefile, of the profiles to adapt to a cluster, and of the configurations to start from."""
    print(install.PROJECT)


def arguments(words: list[str]) -> list[str]:
    """Snakemake's command line for the words after `prvr run`; ours come first, so that a word given twice is the user's.

    Errors: ConfigError when a configuration is not there, or none is named and none is here.
    """
    words = _profile_found(_configfile_named(words))
    given, _ = _PARSER.parse_known_args(words)
    command = install.snakemake(given.workflow_profile)
    if given.configfile:
        _check(given.configfile)
    elif not (given.snakefile or given.asks):
        command += ["--configfile", _config_here()]
    elsewhere = given.profile or given.workflow_profile or given.executor or os.environ.get("SNAKEMAKE_PROFILE")
    if not (given.resources or elsewhere):
        command += ["--resources", "gpu=1"]
    if not (given.cores or given.jobs or elsewhere):
        command += ["--cores", "all"]
    return command + words


def _parser() -> argparse.ArgumentParser:
    """The few of Snakemake's words that decide which of ours are added. Snakemake's own parser takes a second to import."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+")
    parser.add_argument("--resources", "--res", nargs="+")
    for names in (["--snakefile", "-s"], ["--cores", "-c"], ["--jobs", "-j"], ["--profile"], ["--workflow-profile"], ["--executor", "-e"]):
        parser.add_argument(*names, nargs="?", const="given")
    parser.add_argument("--help", "-h", "--version", "-v", dest="asks", action="store_true")
    return parser


_PARSER = _parser()


def _configfile_named(words: list[str]) -> list[str]:
    """`--config FILE`, as every other command of ours has it, is `--configfile FILE`: Snakemake's `--config` takes key=value."""
    return [
        "--configfile" if word == "--config" and "=" not in after and Path(after).suffix in (".yaml", ".yml", ".json") else word
        for word, after in pairwise([*words, ""])
    ]


def _profile_found(words: list[str]) -> list[str]:
    """`--workflow-profile profiles/slurm` is ours where this folder has none of that name."""
    words_now = list(words)
    for i, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--workflow-profile" and equals:
            words_now[i] = f"{name}={install.here_or_shipped(value)}"
        elif i and words[i - 1] == "--workflow-profile":
            words_now[i] = str(install.here_or_shipped(word))
    return words_now


def _check(configs: list[str]) -> None:
    missing = [name for name in configs if not Path(name).is_file()]
    if missing:
        raise ConfigError(
            f"no such configuration file: {', '.join(missing)}",
            where=Path.cwd(),
            fix="name one that is there; targets stand before it: `prvr run TARGET --configfile FILE`",
        )


def _config_here() -> str:
    if Path(CONFIG).is_file():
        return CONFIG
    others = sorted(str(path) for path in Path().glob("*.yaml"))
    named = f"name it: `prvr run --configfile {others[0]}` (here: {', '.join(others)}); or " if others else ""
    raise ConfigError(
        f"no {CONFIG} here and none was named",
        where=Path.cwd(),
        fix=f"{named}write one with `prvr init FOLDER` for a folder of videos, or `prvr init --demo` for the demo",
    )
