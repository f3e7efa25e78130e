"""The command line: one command per stage, called by the workflow's rules, and the tools for people."""

from __future__ import annotations

import os
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import configuration, demo, exchange, report, run, runs, searching, stages, tools
from pipeline.cli.opening import load
from pipeline.cli.panels import arrange
from pipeline.core.errors import PrvrError, system_error
from pipeline.core.install import run_command
from pipeline.core.signals import ENDING, attend, leave

_LIBRARIES = r"(torch|torchvision|pytorchvideo|open_clip|timm|transformers|huggingface_hub)(\.|$)"

app = typer.Typer(
    help="From a folder of raw videos to a trained, measured, searchable partially-relevant-video-retrieval model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for commands in (run, stages, tools, searching, configuration, demo, report, runs, exchange):
    commands.register(app)
arrange(app)


def _version(asked: bool) -> None:
    if asked:
        from pipeline.cli import version

        print(version.lines())
        raise typer.Exit()


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Of prvr, torch, CUDA, the driver.")] = False,
) -> None:
    pass


def quieten() -> None:
    """What these libraries tell developers about their own next versions is not shown; our own warnings are, and so is all with `-W`."""
    for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning) if not sys.warnoptions else ():
        warnings.filterwarnings("ignore", category=category, module=_LIBRARIES)


def main() -> None:
    """Run a command; a typed error is printed in full and exits with 2, an interruption ends at once with 129, 130 or 143."""
    attend(ENDING, leave)
    quieten()
    try:
        app()
    except PrvrError as error:
        _say(f"prvr: {_with_command(str(error), sys.argv[1:], error.where)}")
        sys.exit(2)
    except KeyboardInterrupt:
        print("prvr: interrupted; the next run goes on from what is finished", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, MemoryError, RuntimeError, ImportError) as error:
        known = system_error(error)
        if known is None:
            raise
        _say(f"prvr: {known}")
        sys.exit(2)


def _with_command(message: str, words: list[str], where: str = "") -> str:
    """The message with the command behind "run the workflow again": errors know neither the configuration's file nor the folder.

    A lost intermediate is named in it: with its results there nothing else would need it.
    """
    from pipeline.config.reading import PUBLISHED

    named = next((after for word, after in pairwise(words) if word == "--config"), "config.yaml")
    if Path(named).parent.name == PUBLISHED:  # a job's, in its log: the reader knows what was started
        return message
    return message.replace("run the workflow again", f"run the workflow again (`{run_command(named, *_target(where, named))}`)")


def _target(where: str, config: str) -> list[str]:
    """What the workflow is asked for to have the file, or the folder of clips, at fault again; nothing for the default."""
    path = Path(where)
    if "clips" in (path.name, path.parent.name):
        return ["clips_of_all"]
    stores = path.parent.name == "text" or path.parent.parent.name in ("features", "clips") or path.name == "annotations.h5"
    stores = stores or (path.name == "checkpoint.h5" and not _in_table(path, config))
    return [str(path.with_suffix(".json"))] if path.suffix == ".h5" and stores else []


def _in_table(checkpoint: Path, config: str) -> bool:
    """Whether the default target trains the run of a checkpoint, and not only an ablation or a sweep."""
    try:
        return any(
            str(seed) == checkpoint.parent.name[4:] and name == checkpoint.parent.parent.name for name, seed in load(config).group("table")
        )
    except PrvrError:
        return True


def _say(message: str) -> None:
    """On stderr, which in a job is its log; where that cannot be written (the disk is full), on stdout, which is the user's screen."""
    try:
        print(message, file=sys.stderr, flush=True)
    except OSError:
        print(message, flush=True)
