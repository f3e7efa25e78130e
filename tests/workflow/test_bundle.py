"""A published bundle to the result table as docs/datasets.md says: `prvr init`, `prvr import`, the workflow, and nothing decoded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.config.inputs import Dataset
from pipeline.config.schema import merge
from pipeline.core.store import create_foreign
from pipeline.datasets import caption_list
from pipeline.datasets.readers import annotated
from tests.datasets.miniature import GALLERY, Miniature, build
from tests.workflow.workspace import MODEL, TRAINING, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.long]

COLLECTION = {"activitynet": "activitynet", "tvr": "tvr", "charades": "charades", "qvhighlights": "qvhighlight"}


def msc(mini: Miniature, folder: Path) -> None:
    """A bundle of the MSC layout with the miniature's captions and random rows."""
    rows = annotated(Dataset(kind=mini.kind, annotations=str(mini.annotations), gallery=GALLERY[mini.kind]))
    name, random = COLLECTION[mini.kind], np.random.default_rng(0)
    for split, listed in (("train", "train"), ("test", "val")):
        path = folder / "TextData" / f"{name}{listed}.caption.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        caption_list.write(path, caption_list.of(query for query in rows.queries if query.split == split))
    with create_foreign(folder / "FeatureData" / f"{name}_clip_L14.h5") as put:
        for video in rows.videos:
            key = video.video_id.removeprefix("v_") if mini.kind == "activitynet" else video.video_id
            put(key, random.standard_normal((12, 24)).astype(np.float32))
    with create_foreign(folder / "TextData" / f"{name}_clip_L14.h5") as put:
        for query in rows.queries:
            put(query.cap_id, random.standard_normal((7, 20)).astype(np.float32))


@pytest.mark.parametrize(("kind", "own_lists"), [("activitynet", True), ("qvhighlights", False), ("tvr", False), ("charades", True)])
def test_from_bundle_to_table(kind: str, own_lists: bool, tmp_path: Path) -> None:
    mini = build(kind, tmp_path / "data")
    msc(mini, tmp_path / "bundle")
    if not own_lists:  # the original annotation files beside the bundle decide, and give the moments
        (tmp_path / "bundle").rename(mini.annotations / "bundle")
        mini.videos.rename(tmp_path / "videos")
    work = Workspace(tmp_path / "work", {"dataset": {"name": f"{kind}-msc" if own_lists else kind}})
    said = work.prvr("init", str(tmp_path / "bundle" if own_lists else mini.annotations)).stdout
    config = work.folder / f"{work.config['dataset']['name']}.yaml"
    work.config = merge(yaml.safe_load(config.read_text()), {"model": MODEL, "training": TRAINING})
    work.write()
    command = next(line for line in said.splitlines() if line.startswith("  prvr import ")).replace(str(config.name), "config.yaml")
    work.prvr(*command.split()[1:])
    work.snakemake()
    assert not (work.results / "frames").exists()
    for experiment in ("main", "paper"):
        found = json.loads((work.results / "runs" / experiment / "seed9527" / "metrics.json").read_text())
        assert found["gallery"]["videos"] == 4
        assert found["gallery"]["name"] == (COLLECTION[kind] if own_lists else GALLERY[kind])
        assert (found["moments"] is None) == own_lists
    assert "Published numbers on a gallery of " in (work.results / "table.md").read_text()
