"""`prvr verify` finds whatever is not what was written, says what makes it again, and takes it away when asked."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config.reading import load
from pipeline.core.store import create
from pipeline.jobs.dag import Dag
from pipeline.tools.verify import Verdict, verify


@pytest.fixture
def dag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dag:
    """Twenty stand-in videos in four shards, their features and one encoder's text stored, as jobs leave them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for i in range(20):
        (tmp_path / "videos" / f"v{i}.mp4").write_text(str(i))
    lines = [f"v{i},somebody waves {i},{'train' if i % 2 else 'test'}" for i in range(20)]
    (tmp_path / "queries.csv").write_text("\n".join(["video_id,query,split", *lines]) + "\n")
    config = {
        "dataset": {"name": "mine", "kind": "own", "videos": "videos", "annotations": "queries.csv"},
        "video": {"shard_size": 5},
        "encoders": {"clip": {"kind": "open_clip"}},
        "features": ["clip"],
        "text": "clip",
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    made = Dag.of(load("config.yaml"))
    for shard in made.shards:
        store(made.layout.features("clip", shard), made.layout.features_manifest("clip", shard), encoder="clip", shard=shard)
    store(made.layout.text("clip"), made.layout.text_manifest("clip"), stage="text", encoder="clip")
    store(made.layout.run("main", 1) / "index" / "000.h5", None, stage="index")
    return made


def store(path: Path, manifest: Path | None, stage: str = "features", **attrs: str) -> None:
    with create(path, stage=stage, **attrs) as writer:
        for item in ("v1", "v2"):
            writer.append("features", item, np.full((3, 40), len(attrs.get("shard", "")), np.float16), items={"key": item})
    if manifest is not None:
        manifest.write_text(json.dumps({"files": {path.name: path.stat().st_size}}))


def bad(dag: Dag) -> dict[str, Verdict]:
    return {str(v.path.relative_to(dag.layout.root)): v for v in verify(dag) if v.problem}


def test_everything_whole(dag: Dag) -> None:
    ended = CliRunner().invoke(app, ["verify"])
    assert (ended.exit_code, ended.stdout.splitlines()[-1].split(" (")[0]) == (0, "12 of 12 files are what was written")


def test_each_damage_is_named_with_its_job(dag: Dag) -> None:
    files = [dag.layout.features("clip", shard) for shard in sorted(dag.shards)]
    flipped = bytearray(files[0].read_bytes())
    flipped[flipped.index(np.full(120, 3, np.float16).tobytes())] ^= 4
    files[0].write_bytes(flipped)
    files[1].write_bytes(files[2].read_bytes())  # whole, and of another shard
    files[3].unlink()
    dag.layout.text("clip").write_bytes(dag.layout.text("clip").read_bytes()[:3000])
    dag.layout.text_manifest("clip").write_text("{")
    (dag.layout.run("main", 1) / "index" / "000.h5").write_text("")
    (dag.layout.features("clip", "000").with_name("old.h5")).write_bytes(b"")
    found = bad(dag)
    assert {name: verdict.problem.partition("]")[0] for name, verdict in found.items()} == {
        "features/clip/000.h5": "[STORE_DAMAGED",
        "features/clip/001.h5": "[STORE_SCHEMA",
        "features/clip/003.h5": "[STORE_MISSING",
        "features/clip/old.h5": "[STORE_DAMAGED",
        "runs/main/seed1/index/000.h5": "[STORE_DAMAGED",
        "text/clip.h5": "[STORE_DAMAGED",
        "text/clip.json": found["text/clip.json"].problem,
    }
    assert found["features/clip/000.h5"].maker == "the job features encoder=clip shard=000"
    assert found["text/clip.json"].maker == "the job text encoder=clip"
    assert "prvr search" in found["runs/main/seed1/index/000.h5"].maker
    assert "no job of this configuration" in found["features/clip/old.h5"].maker


def test_what_is_bad_is_taken_away_and_what_is_whole_stays(dag: Dag) -> None:
    file = dag.layout.features("clip", "000")
    file.write_bytes(file.read_bytes()[:3000])
    index = dag.layout.run("main", 1) / "index" / "000.h5"
    index.write_text("")
    ended = CliRunner().invoke(app, ["verify", "--remove"])
    assert ended.exit_code == 1
    assert "made again by the job features encoder=clip shard=000" in ended.stdout
    assert not dag.layout.features_manifest("clip", "000").exists(), "so that the workflow runs the job"
    assert file.exists(), "its job keeps the videos that are whole"
    assert not index.exists()
    assert dag.layout.features_manifest("clip", "001").exists()
