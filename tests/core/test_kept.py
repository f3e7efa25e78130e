"""Former runs on disk: linked, whole, bounded in number, and never mixed with what belongs to another run."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.core import kept
from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.core.store import create

WHEN = 1_700_000_000


def train(layout: Layout, rate: float, *, evaluated: bool = True, when: int | None = None) -> str:
    """A run as the stages leave it; `rate` stands for all settings."""
    with create(layout.checkpoint("main", 1), stage="checkpoint", recipe={"rate": rate}, experiment="main") as writer:
        writer.array("model/weight", np.full(3, rate))
    os.utime(layout.checkpoint("main", 1), (when or WHEN + rate,) * 2)
    made = kept.hash_of(layout, "main", 1)
    (layout.run("main", 1) / "training.png").write_bytes(f"curves {rate}".encode())
    (layout.run("main", 1) / "last.h5").write_bytes(b"not finished")
    if evaluated:
        (layout.run("main", 1) / "run.trec").write_text(f"ranks {rate}")
        write_json(layout.metrics("main", 1), {"run": made, "rate": rate})
    return made


def test_a_former_run_is_linked_and_stays_what_it_was(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    first = train(layout, 1)
    before = layout.checkpoint("main", 1).read_bytes()
    assert kept.keep(layout, "main", 1, first, 5) == ""  # trained again with the same settings
    assert kept.keep(layout, "main", 1, "another", 5) == first
    folder = layout.kept("main", 1, first)
    assert os.stat(folder / "checkpoint.h5").st_ino == os.stat(layout.checkpoint("main", 1)).st_ino
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.h5", "metrics.json", "run.trec", "training.png"]
    train(layout, 2)
    assert (folder / "checkpoint.h5").read_bytes() == before
    assert json.loads((folder / "metrics.json").read_text())["rate"] == 1
    (former,) = kept.formers(layout)
    assert (former.experiment, former.seed, former.run, former.folder) == ("main", 1, first, folder)
    assert former.layout.checkpoint("main", 1) == folder / "checkpoint.h5"


def test_measures_of_another_run_are_not_kept_with_it(tmp_path: Path) -> None:
    """Its evaluation was killed, or never came: what lies there is that of the run before."""
    layout = Layout(tmp_path)
    first = train(layout, 1)
    kept.keep(layout, "main", 1, "b", 5)
    second = train(layout, 2, evaluated=False)
    assert kept.keep(layout, "main", 1, "c", 5) == second != first
    assert sorted(path.name for path in layout.kept("main", 1, second).iterdir()) == ["checkpoint.h5", "training.png"]


def test_only_so_many_are_kept_and_what_a_kill_left_goes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    made = []
    for rate in range(1, 6):
        made.append(train(layout, rate))
        unfinished = layout.kept("main", 1, ".killed")
        unfinished.mkdir(parents=True)
        (unfinished / "checkpoint.h5").write_bytes(b"half")
        kept.keep(layout, "main", 1, "next", 3)
    assert [former.run for former in kept.formers(layout)] == made[:1:-1]
    assert sorted(path.name for path in layout.kept("main", 1, "x").parent.iterdir()) == sorted(made[2:])
    train(layout, 9)
    assert kept.keep(layout, "main", 1, "next", 0) == ""
    assert len(kept.formers(layout)) == 3


def test_trained_so_again_with_another_between_stands_there_once(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    first = train(layout, 1)
    kept.keep(layout, "main", 1, "b", 5)
    second = train(layout, 2)
    kept.keep(layout, "main", 1, first, 5)
    assert train(layout, 1, when=WHEN + 9) == first
    assert kept.keep(layout, "main", 1, "c", 5) == first
    assert [former.run for former in kept.formers(layout)] == [first, second]


def test_without_hard_links_it_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    layout = Layout(tmp_path)
    first = train(layout, 1)
    kept.keep(layout, "main", 1, "b", 5)
    copy = layout.kept("main", 1, first) / "checkpoint.h5"
    assert copy.read_bytes() == layout.checkpoint("main", 1).read_bytes()
    assert copy.stat().st_mtime == WHEN + 1


def test_nothing_there_or_nothing_readable_is_nothing_to_keep(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert kept.keep(layout, "main", 1, "b", 5) == ""
    train(layout, 1)
    layout.checkpoint("main", 1).write_bytes(b"cut off")
    assert kept.keep(layout, "main", 1, "b", 5) == ""
    assert kept.formers(layout) == []
