"""`video.frames: streamed` in the real workflow: no frames jobs and no frames, the same features, and switching runs nothing again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.workflow.interrupting import digests, leftovers
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def test_streamed_features_are_those_of_stored_frames(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    before, jobs = digests(work, "features"), {"features": 6, "extract": 1}  # 3 encoders, 2 shards
    for place in ("features", "frames", "logs"):
        shutil.rmtree(work.results / place)
    work.config["video"]["frames"] = "streamed"
    work.write()
    assert dict(work.planned("extract")) == jobs
    plan = work.prvr("plan").stdout
    assert "frames are streamed" in plan
    assert not re.search(r"^frames ", plan, flags=re.M)
    work.snakemake("extract")
    assert digests(work, "features") == before
    assert [path.name for path in sorted((work.results / "frames").rglob("*"))] == ["000.json", "001.json"]
    assert not leftovers(work)
    # One job of each shard decoded, and said for which share of the time its encoders waited.
    logs = {path: path.read_text() for path in (work.results / "logs" / "features").rglob("*.log")}
    decoding = [text for text in logs.values() if "decode: " in text]
    assert (len(logs), len(decoding)) == (6, 2)
    assert all(len(set(re.findall(r"^(\S+) \d+: .* idle \d+%", text, flags=re.M))) == 3 for text in decoding)
    stats = [json.loads(path.read_text())["stats"] for path in (work.results / "features").rglob("*.json")]
    assert all(0 <= each["idle_share"] <= 1 and each["videos"] for each in stats)
    assert dict(work.planned()) == {}
    for frames in ("stored", "auto"):
        work.config["video"]["frames"] = frames
        work.write()
        assert dict(work.planned()) == {}
