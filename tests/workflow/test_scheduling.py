"""What Snakemake itself costs while jobs wait for a core."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.workspace import Workspace, demo_config, small

pytestmark = pytest.mark.slow

LOOK = "Resources before job selection"


def test_jobs_to_start_are_looked_for_when_one_ends(tmp_path: Path) -> None:
    """With jobs that wait all along there is one look a job, not n a second after n jobs. A limit that is asked for is kept."""
    config = small(demo_config())
    config["video"]["shard_size"] = 1
    encoders = {"demo-clip-b16": config["encoders"]["demo-clip-b16"]}
    config |= {"encoders": encoders, "features": list(encoders), "experiments": {"main": {}}}
    work = Workspace(tmp_path / "work", config)
    frames = ("extract", "--until", "frames", "--verbose", "--cores", "1")
    said = work.snakemake(*frames).stdout
    jobs = said.count("Finished jobid")
    assert jobs >= 8
    assert said.count(LOOK) <= jobs + 1
    asked = work.snakemake(*frames, "--forcerun", "frames", "--max-jobs-per-timespan", "1/1s").stdout
    assert "Job rate limit reached" in asked
