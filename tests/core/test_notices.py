"""What jobs want known: kept beside their logs, said once with how many say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core import notices


@pytest.fixture(autouse=True)
def nothing_kept_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_file", None)


def said(log: Path, *lines: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    notices.begin(log)
    for line in lines:
        notices.say(line)


def test_only_what_is_marked_is_kept_and_the_log_has_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    said(tmp_path / "train" / "a.b.log", "training main", "warning: it has collapsed", "note: one batch\nholds all")
    assert capsys.readouterr().err == "training main\nwarning: it has collapsed\nnote: one batch\nholds all\n"
    assert notices.gathered(notices.kept(tmp_path)) == [
        f"it has collapsed ({tmp_path}/train/a.b.log)",
        f"one batch holds all ({tmp_path}/train/a.b.log)",
    ]


def test_the_same_of_many_jobs_is_said_once(tmp_path: Path) -> None:
    for shard in range(12):
        said(tmp_path / f"{shard:03}.log", f"warning: {shard} items of results/demo/{shard:03}.h5 are damaged")
    for seed in (1, 2):
        said(tmp_path / f"seed{seed}.log", "warning: it has collapsed")
    said(tmp_path / "alone.log", "note: the epoch is chosen on 'test'")
    assert notices.gathered(notices.kept(tmp_path)) == [
        f"0 items of results/demo/000.h5 are damaged (12 jobs say this or alike, first {tmp_path}/000.log)",
        f"it has collapsed (2 jobs say, first {tmp_path}/seed1.log)",
        f"the epoch is chosen on 'test' ({tmp_path}/alone.log)",
    ]


def test_a_job_that_runs_again_forgets_what_it_said(tmp_path: Path) -> None:
    said(tmp_path / "a.log", "warning: it has collapsed")
    before = notices.kept(tmp_path)
    said(tmp_path / "a.log", "warning: another thing")
    now = notices.kept(tmp_path)
    assert [path for path in now if before.get(path) != now[path]] == [tmp_path / "a.notices"]
    assert notices.gathered(now) == [f"another thing ({tmp_path}/a.log)"]
    said(tmp_path / "a.log")
    assert notices.kept(tmp_path) == {}


def test_outside_the_workflow_it_is_only_printed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    notices.say("warning: it has collapsed")
    assert "collapsed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_the_notice_alone(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    notices.begin(tmp_path / "logs" / "a.log")
    notices.say("warning: it has collapsed")
