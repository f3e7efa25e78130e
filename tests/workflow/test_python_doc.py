"""docs/python.md: its blocks, run in order in the folder of a finished small run; and `import prvr` costs nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import prvr
from tests.workflow.workspace import Workspace


@pytest.fixture(scope="module")
def ran(root: Path, finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any], list[str]]:
    """The workspace, the names the blocks have made, and what each has printed."""
    work = finished.copy(tmp_path_factory.mktemp("python") / "work")
    video = sorted((work.folder / "data" / "videos").rglob("*.mp4"))[0]
    (work.folder / "holiday.mp4").write_bytes(video.read_bytes())
    blocks = re.findall(r"```python\n(.*?)```", (root / "docs" / "python.md").read_text(), flags=re.S)
    assert len(blocks) == 6
    names: dict[str, Any] = {"__name__": "docs"}
    printed = []
    with contextlib.chdir(work.folder):
        for block in blocks:
            with contextlib.redirect_stdout(io.StringIO()) as said:
                exec(compile(block, "docs/python.md", "exec"), names)
            printed.append(said.getvalue())
    return work, names, printed


@pytest.mark.slow
def test_the_store_gives_rows_and_their_times(ran: tuple[Workspace, dict[str, Any], list[str]]) -> None:
    _, names, printed = ran
    assert printed[0].split() == ["demo-clip-b16", str(names["rows"].shape[1])]
    assert names["starts"].tolist() == list(range(len(names["rows"])))


@pytest.mark.slow
def test_a_file_is_encoded_as_the_workflow_encodes_it(ran: tuple[Workspace, dict[str, Any], list[str]]) -> None:
    work, names, _ = ran
    name = str(sorted((work.folder / "data" / "videos").rglob("*.mp4"))[0].relative_to(work.folder / "data" / "videos").with_suffix(""))
    stored = []
    for path in (work.results / "features" / "demo-clip-b16").glob("*.h5"):
        with prvr.open_store(path, stage="features") as store:
            features = store.ragged("features")
        if name in features:
            stored = [features[name], *(features.columns[side][features.rows(name)] for side in ("start", "end"))]
    video = names["video"]
    assert np.array_equal(video.rows.astype(np.float16), stored[0])
    assert np.array_equal(video.start, stored[1])
    assert np.array_equal(video.end, stored[2])


@pytest.mark.slow
def test_search_and_ranking_are_those_of_the_workflow(ran: tuple[Workspace, dict[str, Any], list[str]]) -> None:
    work, names, printed = ran
    answer = json.loads(work.prvr("search", "a red box that sinks down", "--top", "3", "--json").stdout)
    assert [line.split(":")[0] for line in printed[2].splitlines()] == [hit["video_id"] for hit in answer["hits"]]
    metrics = json.loads((work.results / "runs" / "main" / "seed9527" / "metrics.json").read_text())
    assert json.dumps(metrics).count(json.dumps(names["prvr"].recalls(names["ranks"])["SumR"])) >= 1


@pytest.mark.slow
def test_arrays_of_ones_own_are_learnt(ran: tuple[Workspace, dict[str, Any], list[str]]) -> None:
    _, names, printed = ran
    assert names["trained"].recalls(names["selection"])["R@1"] > 30, printed[4]
    assert printed[5] == "True\n"


def test_import_prvr_waits_for_no_torch(root: Path) -> None:
    code = "import prvr, sys; prvr.load_config; prvr.open_store; print([m for m in ('torch', 'pandas', 'snakemake') if m in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert "torch" not in printed
    assert "snakemake" not in printed


def test_every_name_is_there_and_in_the_page(root: Path) -> None:
    page = (root / "docs" / "python.md").read_text()
    for name in prvr.__all__:
        assert callable(getattr(prvr, name)), name
        assert f"prvr.{name}" in page or f"`{name}`" in page, name
    assert set(prvr.__all__) <= set(dir(prvr))
    with pytest.raises(AttributeError, match=r"it has .*load_config"):
        prvr.no_such_name  # noqa: B018
