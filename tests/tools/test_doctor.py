"""`prvr doctor`: every check of the demo's configuration passes, and each kind of trouble is one crossed line and exit code 1."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config.reading import load
from pipeline.config.schema import Config
from pipeline.core.layout import Layout
from pipeline.tools import doctor


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped configuration, in which results would be written."""
    shutil.copy(root / "config.yaml", tmp_path)
    (tmp_path / "profiles").symlink_to(root / "profiles")
    (tmp_path / "Snakefile").symlink_to(root / "Snakefile")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["doctor", *arguments])
    return done.exit_code, done.stdout


def change(project: Path, edit: Callable[[dict], object]) -> None:
    config = yaml.safe_load((project / "config.yaml").read_text())
    edit(config)
    (project / "config.yaml").write_text(yaml.safe_dump(config))


@pytest.mark.slow
def test_the_demo_passes_every_check(project: Path) -> None:
    code, text = run("--json")
    checks = {check["name"]: check for check in json.loads(text)}
    assert code == 0
    assert not [check for check in checks.values() if check["ok"] is False]
    assert {"Python", "torch", "decord", "av", "snakemake", "GPU", "FFmpeg libraries", "profile", "free disk"} <= set(checks)
    for kind in ("open GOP", "HEVC", "edit list", "AV1", "MPEG-TS", "turned by 90", "variable rate"):
        assert any(name.startswith("frames of") and kind in name for name in checks), kind
    for encoder in load("config.yaml").encoders:
        assert checks[f"weights of {encoder}"]["ok"] is True
        assert checks[f"golden vector of {encoder}"]["ok"] is True
    assert checks["write, rename and lock"]["ok"] is True
    assert not list((project / "results" / "demo").glob(".doctor*"))
    lines = doctor.render([doctor.Check(**check) for check in checks.values()]).splitlines()
    assert lines[0].startswith(" 1. ✓ Python: 3.")
    assert len(lines) == len(checks)


def only(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make the other, slower checks empty."""
    for check in ("_python", "_libraries", "_device", "_decoders", "_weights", "_folder", "_disk", "_workflow"):
        if check != name:
            empty = lambda config, layout: iter(())  # noqa: E731
            empty.__name__ = check
            monkeypatch.setattr(doctor, check, empty)


def failed(monkeypatch: pytest.MonkeyPatch, check: str) -> str:
    """What is printed from the first crossed line on when only `check` runs; the exit code is 1."""
    only(monkeypatch, check)
    code, text = run()
    assert code == 1, text
    return text[text.index("✗") :]


def test_another_python(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "version_info", (3, 9, 1))
    assert "Python" in failed(monkeypatch, "_python")


def test_a_missing_library(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LIBRARIES", ("torch", "nothing-of-that-name"))
    assert "nothing-of-that-name: not installed: run `make env`" in failed(monkeypatch, "_libraries")


def test_no_gpu_where_one_is_asked_for(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change(project, lambda config: config["runtime"].update(device="cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "runtime.device is cuda" in failed(monkeypatch, "_device")


def test_a_decoder_that_gives_another_frame(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = [("H.264 in MP4", False, "3 of 10 frames are wrong with decord"), ("AV1", True, "pyav: av1")]
    asked: list[str] = []
    monkeypatch.setattr("pipeline.video.selftest.self_test", lambda decoder: (asked.append(decoder), wrong)[1])
    assert "frames of H.264 in MP4: 3 of 10 frames are wrong" in failed(monkeypatch, "_decoders")
    assert asked == ["decord"]  # what config.yaml asks for


def test_weights_that_are_not_here(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRVR_WEIGHTS", str(project / "weights"))
    monkeypatch.setenv("HOME", str(project))
    for name in ("big", "spare"):
        change(project, lambda config, name=name: config["encoders"].update({name: {"kind": "open_clip"}}))  # type: ignore[misc]
    change(project, lambda config: config["experiments"].update(wide={"features": ["big"]}))
    monkeypatch.setattr("pipeline.encoders.golden.verify", lambda encoder, name: (False, "differs by 12.0% from the record"))
    text = failed(monkeypatch, "_weights")
    assert "weights of big" in text
    assert "spare" not in text  # no experiment uses it
    assert "ViT-B-16.pt" in text
    assert "✗ golden vector of demo-clip-b16: differs by 12.0%" in text


def test_a_folder_that_cannot_be_written(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "results").write_text("a file where the results would go")
    assert "folder" in failed(monkeypatch, "_folder")


def test_too_little_disk(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "results" / "demo").mkdir(parents=True)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage(2**40, 2**40 - 2**20, 2**20))
    assert "free disk: 1 MB free" in failed(monkeypatch, "_disk")


def test_a_profile_that_goes_by_file_times(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "profiles").unlink()
    (project / "profiles" / "default").mkdir(parents=True)
    (project / "profiles" / "default" / "config.yaml").write_text("rerun-triggers: [mtime]\n")
    assert "rerun-triggers: [params, code]" in failed(monkeypatch, "_workflow")


def test_a_check_that_breaks_is_one_line(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(config: Config, layout: Layout) -> None:
        raise RuntimeError("the library is broken")

    only(monkeypatch, "_python")
    monkeypatch.setattr(doctor, "_device", broken)
    checks = list(doctor.preflight(load("config.yaml"), load("config.yaml").layout))
    assert [(check.name, check.ok) for check in checks] == [("Python", True), ("broken", False)]
    assert checks[1].detail == "RuntimeError: the library is broken"
