"""What the report depends on: the runs of the table, and those of other targets once they are done as they would be today."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.config.reading import load
from pipeline.core.atomic import write_json
from pipeline.jobs.dag import Dag
from pipeline.jobs.stages import STAGES


@pytest.fixture
def config_file(tmp_path: Path, root: Path) -> Path:
    values = yaml.safe_load((root / "config.yaml").read_text())
    path = tmp_path / "config.yaml"
    others = {"compare": {"methods": ["msc"], "seeds": [1]}, "ablations": {}, "sweeps": {}, "demo": {"train": 6, "val": 3, "test": 4}}
    path.write_text(yaml.safe_dump({**values, "results": str(tmp_path / "results"), **others}))
    return path


def test_a_run_of_another_target_counts_when_it_is_done_and_current(config_file: Path) -> None:
    dag = Dag.of(load(config_file))
    before, table = dag.params("report"), dag.params("table", target="table")
    other, own = {"experiment": "msc", "seed": "1"}, {"experiment": "main", "seed": "9527"}
    manifest = dag.layout.evaluation_manifest("msc", 1)
    for trace, counts in (("0" * 12, False), (dag.trace("evaluate", **other), True)):
        write_json(manifest, {"trace": trace})
        now = Dag.of(load(config_file))
        assert [now.done(job) for job in STAGES["report"].made_by(now, {}).also] == [counts]
        assert (now.params("report") != before) is counts
        assert now.params("report")["code"] == before["code"]
        assert now.params("table", target="table") == table
    manifest.write_text("half a li")
    assert Dag.of(load(config_file)).params("report") == before
    manifest.unlink()
    write_json(dag.layout.evaluation_manifest("main", 9527), {"trace": dag.trace("evaluate", **own)})  # which it waits for anyway
    assert Dag.of(load(config_file)).params("report") == before
