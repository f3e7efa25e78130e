"""`prvr` by itself: what its help lists and what it waits for, its version, and names that are not there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import version
from pipeline.cli.main import app
from pipeline.cli.panels import PANELS, named

HEAVY = ("torch", "numpy", "pandas", "h5py", "pipeline.config.schema", "open_clip", "snakemake", "matplotlib")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["plann"]])
def test_help_and_version_wait_for_no_library(root: Path, words: list[str]) -> None:
    code = f"""
import sys
sys.argv = ["prvr", *{words}]
from pipeline.cli.main import main
try:
    main()
except SystemExit:
    pass
loaded = [name for name in {HEAVY} if name in sys.modules]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_begins_with_what_one_types_first_and_hides_the_jobs_own() -> None:
    said = CliRunner().invoke(app, ["--help"]).output
    listed = re.findall(r"^│ ([a-z][a-z-]*) ", said, flags=re.M)
    everything = {named(info) for info in (*app.registered_commands, *app.registered_groups)}
    first = next(iter(PANELS.values()))
    there = [name for name in first if name in everything]
    assert listed[: len(there)] == there
    assert set(listed) == {name for names in PANELS.values() for name in names} & everything
    for panel in PANELS:
        assert panel in said
    hidden = everything - set(listed)
    assert {"world", "annotations", "frames", "text", "clips", "train", "evaluate", "table", "cost", "compare"} <= hidden
    for name in hidden:  # the rules call them
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


def test_version_says_what_torch_says() -> None:
    import torch  # here: the other tests run without it

    said = CliRunner().invoke(app, ["--version"])
    first, second = said.stdout.splitlines()
    assert said.exit_code == 0
    assert re.match(r"prvr \d+\.\d+\.\d+, Python 3\.\d+\.\d+, /", first)
    cuda = f"CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
    assert second.startswith(f"torch {torch.__version__} ({cuda}), ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19\nGCC version:  gcc 12\n", "NVIDIA driver 535.104.05"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.10  Release Build\n", "NVIDIA driver 570.86.10"),
        (None, "no NVIDIA driver"),
    ],
)
def test_version_says_which_driver_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, said: str) -> None:
    monkeypatch.setattr(version, "DRIVER", tmp_path / "version")
    if text is not None:
        (tmp_path / "version").write_text(text)
    assert version.lines().endswith(f", {said}")


@pytest.mark.parametrize(
    ("typed", "meant"), [("plann", "plan"), ("serach", "search"), ("intit", "init"), ("quarantin", "quarantine"), ("doktor", "doctor")]
)
def test_a_mistyped_command_gets_the_nearest_one(typed: str, meant: str) -> None:
    said = CliRunner().invoke(app, [typed])
    assert said.exit_code == 2
    assert f"Did you mean '{meant}'?" in said.output


@pytest.mark.parametrize("words", [[], ["--experiment", "main", "--recipe", "some"]])
def test_clips_are_named_in_one_way(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["clips", "--shard", "000", *words])
    assert done.exit_code == 2
    assert "either --experiment or --recipe is needed" in " ".join(done.output.split())


def test_only_libraries_talk_to_their_developers_is_not_shown(root: Path) -> None:
    code = """
import warnings
from pipeline.cli.main import quieten
quieten()
for module in ("torch.jit._script", "pytorchvideo.layers.utils", "torch", "pipeline.training.loop", "torchmine.net", "my_own.net"):
    warnings.warn_explicit(f"of {module}", FutureWarning, "file.py", 1, module=module)
warnings.warn_explicit("values of torch", UserWarning, "file.py", 1, module="torch.nn")
"""

    def said(*options: str) -> set[str]:
        done = subprocess.run([sys.executable, *options, "-c", code], cwd=root, capture_output=True, text=True, check=True)
        return set(re.findall(r"Warning: (.+)", done.stderr))

    ours = {"of pipeline.training.loop", "of torchmine.net", "of my_own.net", "values of torch"}
    assert said() == ours
    assert said("-W", "default") > ours


@pytest.mark.slow
def test_torchs_own_is_not_shown_where_slowfast_is_loaded(root: Path) -> None:
    """`torch.jit.script` is deprecated, and pytorchvideo calls it when it is imported."""
    code = "from pipeline.cli.main import quieten\n{}import pytorchvideo.models.slowfast"
    for quiet, shown in (("quieten()\n", False), ("", True)):
        done = subprocess.run([sys.executable, "-c", code.format(quiet)], cwd=root, capture_output=True, text=True, check=True)
        assert ("FutureWarning" in done.stderr) is shown, done.stderr


SLOW = "import time\nprint('loading', flush=True)\ntime.sleep({})\nraise SystemExit(7)\n"


@pytest.mark.parametrize(("ignored", "seconds", "code"), [(False, 60, -signal.SIGINT), (True, 1, 7)])
def test_ctrl_c_while_the_libraries_load(tmp_path: Path, ignored: bool, seconds: int, code: int) -> None:
    """No traceback of imports; a script's background, which ignores Ctrl-C, goes on."""
    (tmp_path / "typer.py").write_text(SLOW.format(seconds))  # stands in for a library that a slow disk holds back
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli", "--help"],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if ignored else None,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == code
