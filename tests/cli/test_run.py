"""`prvr run`: which words are added to Snakemake's, what is said where no configuration is, and that the process becomes Snakemake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import _with_command, app
from pipeline.cli.run import arguments
from pipeline.config.reading import load
from pipeline.core import install
from pipeline.core.errors import ConfigError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own folder with a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "my.yaml").write_text("")
    return tmp_path


DEFAULT = ["--configfile", "config.yaml", "--resources", "gpu=1", "--cores", "all"]


@pytest.mark.parametrize(
    ("words", "added"),
    [
        ([], DEFAULT),
        (["ablation", "-np", "--keep-going"], DEFAULT),
        (["--configfile", "my.yaml"], DEFAULT[2:]),
        (["--configfile=my.yaml", "-c2"], ["--resources", "gpu=1"]),
        (["--cores=3"], DEFAULT[:4]),
        (["-j", "1"], DEFAULT[:4]),
        (["--res", "gpu=2", "mem_mb=100"], [*DEFAULT[:2], *DEFAULT[4:]]),
        (["--config", "seeds=[1]"], DEFAULT),
        (["--executor", "slurm", "--jobs", "10"], DEFAULT[:2]),
        (["--profile", "mine"], DEFAULT[:2]),
        (["--version"], DEFAULT[2:]),
        (["--", "ablation"], DEFAULT),
    ],
)
def test_only_what_was_left_out_is_added(here: Path, words: list[str], added: list[str]) -> None:
    assert arguments(words) == [*install.snakemake(), *added, *words]


def test_a_profile_of_the_environment_decides_like_a_named_one(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "mine")
    assert arguments([]) == [*install.snakemake(), *DEFAULT[:2]]


def test_config_takes_a_file_as_every_other_command_does(here: Path) -> None:
    assert arguments(["--config", "my.yaml"]) == [*install.snakemake(), *DEFAULT[2:], "--configfile", "my.yaml"]


@pytest.mark.parametrize("words", [["--workflow-profile", "profiles/slurm"], ["--workflow-profile=profiles/slurm"]])
def test_a_shipped_profile_is_known_by_its_name(here: Path, words: list[str]) -> None:
    ours, mine = str(install.PROJECT / "profiles" / "slurm"), here / "profiles" / "slurm"
    assert arguments(words)[-1].endswith(ours)
    mine.mkdir(parents=True)
    assert arguments(words)[-1].endswith("profiles/slurm")
    assert ours not in arguments(words)[-1]


def test_the_folders_own_default_profile_wins_and_a_folder_called_default_is_none(here: Path) -> None:
    (here / "default").mkdir()  # of videos, say; Snakemake alone would take it for its profile
    assert str(install.PROJECT / "profiles" / "default") in arguments([])
    (here / "profiles" / "default").mkdir(parents=True)
    assert "profiles/default" in arguments([])


@pytest.mark.parametrize(
    ("files", "words", "said"),
    [
        ([], [], "prvr init --demo"),
        (["a.yaml", "b.yaml"], ["-n"], "prvr run --configfile a.yaml"),
        (["a.yaml"], ["--configfile", "c.yaml"], "no such configuration file: c.yaml"),
        (["a.yaml"], ["--configfile", "a.yaml", "ablation"], "prvr run TARGET --configfile FILE"),
    ],
)
def test_without_a_configuration_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in files:
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError) as raised:
        arguments(words)
    assert said in str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), (["--no-such-flag"], 2), (["-n", "no-such-target"], 1)])
def test_the_exit_code_is_snakemakes(root: Path, here: Path, words: list[str], code: int) -> None:
    (here / "config.yaml").write_text(install.DEMO.read_text())
    command = [sys.executable, "-m", "pipeline.cli", "run", *words]
    done = subprocess.run(command, cwd=here, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True)
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["search", "x"], " (`prvr run`)"),
        (["search", "x", "--config", "my.yaml"], " (`prvr run --configfile my.yaml`)"),
        (["train", "--config", "results/.config/0123.json"], ""),  # a job's log
    ],
)
def test_run_the_workflow_again_says_how(here: Path, words: list[str], command: str) -> None:
    message = "[STORE_MISSING] no file\n  to do: run the workflow again: it rebuilds it"
    assert _with_command(message, words) == message.replace("again:", f"again{command}:")


def test_what_a_missing_configuration_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing one with `prvr init` or `prvr init --demo`, and naming the target before it."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"write one with `prvr init FOLDER`.*or `prvr init --demo`"):
        arguments([])
    with pytest.raises(ConfigError, match="write one with `prvr init`"):
        load("config.yaml")
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(ConfigError, match=rf"where: {tmp_path}/config.yaml\n.*here: mine.yaml"):
        load("config.yaml")
    (tmp_path / "mine.yaml").unlink()
    assert CliRunner().invoke(app, ["init", "--demo"]).exit_code == 0
    assert arguments([])
    assert load("config.yaml").dataset.kind == "demo"
    with pytest.raises(ConfigError, match="targets stand before it: `prvr run TARGET --configfile FILE`"):
        arguments(["--configfile", "config.yaml", "clips_of_all"])
    assert arguments(["clips_of_all", "--configfile", "config.yaml"])
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_bytes(b"")
    assert CliRunner().invoke(app, ["init", "videos"]).exit_code == 0
    assert load("videos.yaml").dataset.kind == "own"
