"""What an error asks for is done, and leads out of the state it was printed in; tests/test_fixes.py has the list of all errors."""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest

from pipeline.cli import main as cli
from pipeline.clips.grids import check_videos
from pipeline.config import reading
from pipeline.core.errors import GridError, PrvrError, StoreMissing, TrainingError
from pipeline.core.store import create, open_store
from pipeline.jobs.checks import check
from pipeline.jobs.dag import Dag
from pipeline.ranking import shards
from tests.workflow.workspace import Workspace, jobs

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
RUN = Path("runs") / "main" / "seed9527"


@pytest.fixture
def work(finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    copy = finished.copy(tmp_path / "work")
    monkeypatch.chdir(copy.folder)
    return copy


def targets(message: str) -> list[str]:
    """What the command in a message names beside the configuration."""
    command = re.search(r"`prvr run ?([^`]*)`", message)
    assert command, message
    return shlex.split(command[1])


def said(error: PrvrError) -> str:
    """The error as `prvr` prints it, in this folder."""
    return cli._with_command(str(error), ["--config", "config.yaml"], error.where)


def spoil(path: Path) -> None:
    """All but the beginning of a file becomes something else, its size stays."""
    whole = path.read_bytes()
    path.write_bytes(whole[:2048] + bytes(255 - byte for byte in whole[2048:]))


def planned(work: Workspace, *words: str) -> Counter[str]:
    """The jobs `prvr run` would start."""
    done = work.prvr("run", *words, "--dry-run")
    return jobs(done.stdout + done.stderr)


def test_damaged_files_are_deleted_and_made_again(work: Workspace) -> None:
    """All kinds at once, with the results there, so that nothing else would ask for them."""
    clips = next((work.results / "clips").iterdir())
    stores = [work.results / name for name in ("features/demo-slowfast/001.h5", "text/demo-clip-b16.h5", "annotations.h5")]
    asked: list[str] = []
    for store in [*stores, clips / "000.h5", work.results / RUN / "checkpoint.h5"]:
        path = store.relative_to(work.folder)
        spoil(path)
        with pytest.raises(PrvrError, match="delete the file and run the workflow again") as refused, open_store(path) as opened:
            opened.verify()
        assert refused.value.where.startswith(str(path))
        asked += targets(said(refused.value))
        path.unlink()
    plan = planned(work, *asked, "all")
    assert (plan["features"], plan["text"], plan["annotations"]) == (1, 1, 1)
    assert plan["clips"] in (1, 2)  # the one deleted, and that of the features where it is of the same experiment's
    assert plan["train"] >= 1


def test_verify_names_the_command_that_makes_what_it_took_away(work: Workspace) -> None:
    spoil(work.results / RUN / "evaluation.h5")
    assert "to have them made again: add --remove" in work.prvr("verify", check=False).stdout
    message = work.prvr("verify", "--remove", check=False).stdout
    command = message.split("to make them again: prvr run ")[1].splitlines()[0]
    assert planned(work, *shlex.split(command)) == {"evaluate": 1}


def test_a_run_that_the_default_target_does_not_train(work: Workspace) -> None:
    refused = work.prvr("search", "a red ball", "--experiment", "op-tome", "--seed", "1", check=False)
    (target,) = targets(refused.stderr)
    assert target.endswith("runs/op-tome/seed1/checkpoint.json")
    assert planned(work, target)["train"] == 1
    refused = work.prvr("table", "--target", "sweeps", check=False)
    assert targets(refused.stderr) == ["sweeps"]


def test_a_video_that_one_encoder_lacks(work: Workspace) -> None:
    store = work.results / "features" / "demo-slowfast" / "000.h5"
    with open_store(store) as whole:
        features, attrs = whole.ragged("features"), whole.attrs
        kept = {name: value for name, value in attrs.items() if name in ("encoder", "shard")}
    with create(store, stage="features", recipe=attrs["recipe"], **kept) as writer:
        for video in features.ids[1:]:
            writer.append("features", video, features[video], {}, {})
    with pytest.raises(GridError, match="run the workflow again: it encodes what is missing"):
        check_videos({"a": features.ids, "b": features.ids[1:]})
    clips = sorted((work.results / "clips").glob("*/000.json"))
    for manifest in clips:  # the jobs that fail of it have none
        manifest.unlink()
    assert planned(work, "clips_of_all")["features"] == 1


def test_a_video_in_two_shards_of_clips(work: Workspace) -> None:
    clips = next((work.results / "clips").iterdir()).relative_to(work.folder)
    with pytest.raises(TrainingError, match="delete this folder and run the workflow again") as refused:
        copy = clips / "001.h5"
        with open_store(clips / "000.h5") as store:
            videos, attrs = store.table("videos"), store.attrs
        with create(copy, stage="clips", recipe=attrs["recipe"], shard="001") as writer:
            writer.table("videos", videos)
        shards.units(clips, list(videos["video_id"]))
    assert Path(refused.value.where) == clips
    shutil.rmtree(clips)
    assert planned(work, *targets(said(refused.value)))["clips"] == 2


def test_an_imported_checkpoint_that_is_gone(work: Workspace) -> None:
    """It is not trained in its place: that would carry the mark of an import."""
    work.prvr("export-checkpoint", "lent.ckpt", "--experiment", "main")
    work.prvr("import-checkpoint", "lent.ckpt", "--experiment", "main", "--force")
    checkpoint, mark = work.results / RUN / "checkpoint.h5", work.results / RUN / "imported.json"
    kept = checkpoint.read_bytes()
    checkpoint.unlink()
    with pytest.raises(StoreMissing, match="the imported checkpoint of main, seed 9527, is gone"):
        check(Dag.of(reading.load("config.yaml")))
    refused = work.prvr("train", "--experiment", "main", "--seed", "9527", check=False)
    assert refused.returncode == 2
    assert f"delete {mark.relative_to(work.folder)} and this file" in refused.stderr
    checkpoint.write_bytes(kept)  # imported again
    assert planned(work)["train"] == 0
    checkpoint.unlink()
    mark.unlink()
    assert planned(work)["train"] == 1
