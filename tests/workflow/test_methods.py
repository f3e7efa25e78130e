"""Methods that need more than rows and words, from real videos to one table: a teacher of frames, one sentence vector a query."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
STILLS = ["demo-clip-b16", "demo-clip-l14"]
METHODS = {
    "taught": {"preset": "dl_dkd_plus_plus", "features": STILLS},  # by `text`
    "by-another": {"preset": "dl_dkd", "features": STILLS, "teacher": "demo-clip-l14"},
    "sentences": {"preset": "amdnet", "features": STILLS},
    "fewer": {"preset": "amdnet", "features": STILLS[:1]},
}


@pytest.mark.long
def test_teachers_and_sentences_in_one_table(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    work.config["compare"] = {
        "methods": {name: {**over, "model": {"hidden": 16, "heads": 2}} for name, over in METHODS.items()},
        "seeds": [3],
    }
    work.write()
    planned = work.planned("compare")
    assert {rule: planned[rule] for rule in ("train", "evaluate", "cost", "compare")} == {
        "train": 4,
        "evaluate": 4,
        "cost": 4,
        "compare": 1,
    }
    assert not planned["features"], "made once, for all"
    work.snakemake("compare")
    assert dict(work.planned("compare")) == {}
    assert dict(work.planned()) == {"report": 1}, "it shows these runs too"
    rows = pd.read_csv(work.results / "compare.csv")
    fused = rows[rows["branch"] == "fused"].set_index("method")
    assert set(fused.index) == set(METHODS)
    columns = ["variant", "split", "gallery", "features", "words", "seeds", "SumR", "parameters training", "seconds per epoch", "peak MB"]
    assert rows[columns[:5]].notna().all(axis=None)
    assert fused[columns].notna().all(axis=None)
    assert fused.loc[["taught", "by-another", "sentences"], "table"].nunique() == 1
    assert fused.loc["fewer", "table"] != fused.loc["taught", "table"], "other features: not to be compared"
    assert set(rows.loc[rows["method"] == "taught", "branch"]) == {"fused", "inheritance", "exploration"}
    history = [json.loads((work.results / "runs" / name / "seed3" / "metrics.json").read_text()) for name in METHODS]
    assert all(run["recalls"]["fused"]["R@100"] == 100 for run in history), "four videos"


def test_a_teacher_that_reads_no_sentences(finished: Workspace, tmp_path: Path) -> None:
    """Said before any job to whoever asks for it, and to nobody else."""
    work = finished.copy(tmp_path / "work")
    work.config["compare"] = {"methods": {"taught": {"preset": "dl_dkd", "teacher": "demo-slowfast"}}}
    work.write()
    assert dict(work.planned()) == {}
    done = work.snakemake("compare", check=False)
    assert done.returncode != 0
    assert "teacher of experiment 'taught' is 'demo-slowfast', which has no text tower" in done.stdout
    assert "rule " not in done.stdout
    assert "Traceback" not in done.stdout
