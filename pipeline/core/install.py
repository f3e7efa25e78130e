"""Where the project's own files lie, and which commands work there: the one place that knows a checkout from an installed wheel.

A checkout holds the Snakefile beside the package. A wheel holds it in `prvr/project`, whose entries are links in git.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

CODE = Path(__file__).resolve().parents[2]  # the folder that holds the package, hence what PYTHONPATH needs
CHECKOUT = (CODE / "Snakefile").is_file() and (CODE / "workflow").is_dir()
PROJECT = CODE if CHECKOUT else CODE / "prvr" / "project"
SNAKEFILE = PROJECT / "Snakefile"
PRESETS = PROJECT / "config"
DEMO = PROJECT / "config.yaml"
DEFAULTS = ("--cores", "all", "--resources", "gpu=1")


def here_or_shipped(name: str | Path) -> Path:
    """A file or folder by its relative path: the working directory's, else the project's; as it was given when neither is there."""
    return PROJECT / name if not Path(name).exists() and (PROJECT / name).exists() else Path(name)


def snakemake(profile: str | Path | None = None) -> list[str]:
    """Snakemake on our Snakefile, whatever the working directory, as arguments of `exec`.

    The profile is named: Snakemake would also take a folder that happens to be called `default`. `-P`: a user's `random.py` beside the
    videos is not imported.
    """
    profile = profile or here_or_shipped("profiles/default")
    return [sys.executable, "-P", "-m", "snakemake", "--snakefile", str(SNAKEFILE), "--workflow-profile", str(profile)]


def run_command(config: str | Path = "config.yaml", *targets: str) -> str:
    """The command that runs the workflow on a configuration, as one types it in the working directory: for hints.

    `targets`: rules or files other than the default one. They come first: `--configfile` and `--resources` would swallow them.
    """
    given = [] if str(config) == "config.yaml" else ["--configfile", *str(config).split(" + ")]
    here = Path("Snakefile").is_file() and SNAKEFILE.is_file() and os.path.samefile("Snakefile", SNAKEFILE)
    return shlex.join(["snakemake", *targets, *given, *DEFAULTS] if here else ["prvr", "run", *targets, *given])


def search_command(config: str = "config.yaml") -> str:
    """The command that asks a configuration's videos a question, as one types it in the working directory."""
    return shlex.join(["prvr", "search", "what to look for", *_named(config)])


def serve_command(config: str = "config.yaml") -> str:
    """The command that serves the search page of a configuration."""
    return shlex.join(["prvr", "serve", *_named(config)])


def status_command(config: str = "config.yaml") -> str:
    """The command that shows how far a configuration's run is."""
    return shlex.join(["prvr", "status", *_named(config)])


def _named(config: str) -> list[str]:
    """How a command names its configuration: not at all the one it takes by itself."""
    file = os.path.relpath(config) if Path(config).is_relative_to(Path.cwd()) else config
    return [] if file == "config.yaml" else ["--config", file]


def code_path(linked: Path | None = None) -> str:
    """What PYTHONPATH must hold for jobs to find this code; empty when their interpreter finds it by itself.

    `linked`: a folder in which the package is linked, for the interpreters of `--sdm conda`. The whole of `site-packages` would put this
    interpreter's libraries before theirs.
    """
    if CHECKOUT:
        return str(CODE)
    if linked is None:
        return ""
    linked.mkdir(parents=True, exist_ok=True)
    link = linked / "pipeline"
    if link.resolve() != CODE / "pipeline":
        link.unlink(missing_ok=True)
        link.symlink_to(CODE / "pipeline")
    return str(linked.resolve())
