"""Bad input at the command line: each case ends with exit code 2 and one message that lists every instance."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.cli.main import main
from pipeline.config.schema import merge
from tests.datasets.miniature import build, encode, write_jsonl
from tests.interchange.conftest import Made
from tests.workflow.workspace import ROOT


class Commands:
    """Runs `prvr` in this process, in a folder of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys
        monkeypatch.chdir(folder)

    def config(self, preset: str, over: dict[str, Any]) -> None:
        """Write config.yaml: a shipped preset with these values."""
        values = merge(yaml.safe_load((ROOT / "config" / f"{preset}.yaml").read_text()), over)
        (self.folder / "config.yaml").write_text(yaml.safe_dump(values))

    def done(self, *args: str) -> None:
        self._monkeypatch.setattr(sys, "argv", ["prvr", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0

    def refused(self, *args: str) -> str:
        """What is printed by a command that must fail with a typed error."""
        self._monkeypatch.setattr(sys, "argv", ["prvr", *args])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        said = self._capsys.readouterr().err
        assert "  where: " in said
        assert "  to do: " in said
        return said


@pytest.fixture
def prvr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    return Commands(tmp_path, monkeypatch, capsys)


def test_missing_annotation_files(prvr: Commands, tmp_path: Path) -> None:
    mini = build("charades", tmp_path / "data")
    for name in ("charades_sta_test.txt", "Charades_v1_test.csv"):
        (mini.annotations / name).unlink()
    prvr.config("charades", {"dataset": mini.values})
    for command in ("annotations", "plan"):
        said = prvr.refused(command)
        assert "missing annotation files (2)" in said
        assert {"charades_sta_test.txt", "Charades_v1_test.csv"} <= set(said.split())


def test_caption_list_whose_videos_are_absent(prvr: Commands, tmp_path: Path) -> None:
    mini = build("tvr", tmp_path / "data")
    (mini.annotations / "tvr_train_release.jsonl.gz").unlink()
    lines = [f"{name}#enc#{n} A sentence.\n" for name in ("nowhere", "neither") for n in range(2)]
    (mini.annotations / "tvrtrain.caption.txt").write_text("".join(lines))
    prvr.config("tvr", {"dataset": mini.values})
    said = prvr.refused("annotations")
    assert "rows that contradict each other (4)" in said
    for name in ("nowhere", "neither"):
        for n in range(2):
            assert f"query {name}#enc#{n}: its video {name} is not in the list of videos" in said


def test_videos_that_are_not_on_disk(prvr: Commands, tmp_path: Path) -> None:
    mini = build("activitynet", tmp_path / "data")
    gone = sorted(mini.videos.rglob("*.mp4"))[:3]
    for path in gone:
        path.unlink()
    prvr.config("activitynet", {"dataset": mini.values})
    said = prvr.refused("annotations")
    assert "missing video files (3)" in said
    assert all(path.stem in said for path in gone)


def absent(made: Made) -> None:
    del made.features["v_d"], made.features["v_e"]


def width(made: Made) -> None:
    made.features["v_a_b"], made.features["v_e"] = np.ones((2, 7), np.float32), np.ones((1, 5), np.float32)


def not_numbers(made: Made) -> None:
    made.features["v_a_b"][2, 1] = np.nan
    made.features["v_d"][0] = np.inf


def twice(made: Made) -> None:
    made.captions["val"] += [("v_d#enc#0", "again"), ("v_e#enc#1", "and again")]


def bundle_config(folder: Path, shard_size: int = 100) -> None:
    imported = {"kind": "imported"}
    values = yaml.safe_load((ROOT / "config" / "activitynet.yaml").read_text())
    values |= {"dataset": {"name": "msc", "kind": "bundle"}, "encoders": {"v": imported, "t": imported}, "features": ["v"], "text": "t"}
    values["video"] = {"shard_size": shard_size}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def test_imported_features_in_other_shards(prvr: Commands, tmp_path: Path) -> None:
    Made(tmp_path / "bundle").msc()
    bundle_config(tmp_path, shard_size=2)
    prvr.done("import", "bundle", "--video", "v", "--text", "t")
    bundle_config(tmp_path)
    printed = prvr.refused("plan")
    assert "imported features in 2 shards, where the collection has 1" in printed
    assert "prvr import" in printed


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (absent, ["videos without features (2)", "v_d", "v_e"]),
        (width, ["video rows of another width than 6 (2)", "v_a_b: (2, 7)", "v_e: (1, 5)"]),
        (not_numbers, ["video rows that are not numbers (2)", "v_a_b: rows 2 of 5", "v_d: rows 0 of 4"]),
        (twice, ["bad lines (2)", "v_d#enc#0 was used on line 1", "v_e#enc#1 was used on line 4"]),
    ],
)
def test_bundles(prvr: Commands, tmp_path: Path, spoil: Callable[[Made], None], said: list[str]) -> None:
    made = Made(tmp_path / "bundle")
    spoil(made)
    made.msc()
    bundle_config(tmp_path)
    printed = prvr.refused("import", "bundle", "--video", "v", "--text", "t")
    for part in said:
        assert part in printed
    assert not (tmp_path / "results").exists()


def test_duplicate_query_ids(prvr: Commands, tmp_path: Path) -> None:
    mini = build("qvhighlights", tmp_path / "data")
    path = mini.annotations / "highlight_val_release.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    write_jsonl(path, [*rows, *rows[:2]])
    prvr.config("qvhighlights", {"dataset": mini.values})
    said = prvr.refused("annotations")
    assert "rows that contradict each other (2)" in said
    assert all(f"query {row['qid']}: the id is used twice" in said for row in rows[:2])


def test_splits_that_do_not_exist(prvr: Commands, tmp_path: Path) -> None:
    for name in ("a", "b"):
        encode(tmp_path / "videos" / f"{name}.mp4", 1, 0)
    dataset = {"videos": "videos", "annotations": "queries.csv"}
    (tmp_path / "queries.csv").write_text("path,query,split\na.mp4,x,trian\nb.mp4,y,validation\n")
    prvr.config("own-videos", {"dataset": dataset})
    said = prvr.refused("annotations")
    assert "line 2: split 'trian' is none of train, val, test (nearest: train)" in said
    assert "line 3: split 'validation' is none of train, val, test" in said
    # In the configuration: a word that is no split, and one no query is of.
    prvr.config("own-videos", {"dataset": dataset, "evaluation": {"split": "testt"}, "training": {"selection_split": "dev"}})
    said = prvr.refused("annotations")
    assert "evaluation.split" in said
    assert "training.selection_split" in said
    (tmp_path / "queries.csv").write_text("path,query,split\na.mp4,x,train\nb.mp4,y,test\n")
    prvr.config("own-videos", {"dataset": dataset})
    assert "experiment main: training.selection_split is val, which has none" in prvr.refused("annotations")
    prvr.config("charades", {"dataset": {**build("charades", tmp_path / "data").values, "gallery": "val_1"}})
    assert "charades has no gallery 'val_1'" in prvr.refused("annotations")
