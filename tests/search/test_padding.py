"""Short videos that keep their own rows, from stored features to a ranked table and a search: padding is no moment of any video."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.store import open_store
from pipeline.evaluation import inputs, stage
from pipeline.jobs import recipes
from pipeline.search.searcher import Searcher
from tests.evaluation.conftest import QUARANTINED, World, typeable

MODELS = {
    "ms_sl": {"kind": "ms_sl", "hidden": 16, "heads": 2, "max_words": 8},
    "gmmformer_v2": {"kind": "gmmformer_v2", "hidden": 16, "heads": 2, "widths": [None, 1.0], "max_words": 8},
}


@pytest.fixture(params=MODELS)
def padded(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Videos of 3 to 39 rows, none of which fills the 128 frames."""
    clips = {"dtype": "float32", "frame_rows": "capped", "method": "rows"}
    world = typeable(tmp_path, model=MODELS[request.param], clips=clips)
    world.train("main", 1, text_dim=64)
    return world


def test_no_answer_lies_in_the_padding(padded: World) -> None:
    config, layout = padded.config, padded.layout
    stage.run(config, layout, "main", 1, recipes.evaluation(config, "main"))
    split = inputs.load(layout, config.experiment("main"), "test").split
    assert split.videos.frame_count.tolist() == [len(padded.rows[video]) for video in split.videos.ids]
    with open_store(layout.evaluation("main", 1)) as store:
        table, top, scores = store.table("queries"), store.array("top/videos"), store.array("top/scores")
        videos = store.array("videos").tolist()
    ends = np.asarray([len(padded.rows[video]) * 2.0 for video in table["video_id"]])
    assert (table["best_time"] < ends).all()
    assert (table["moment_end"] <= ends).all()
    assert (table["moment_start"] < table["moment_end"]).all()
    lines = [json.loads(line) for line in (layout.run("main", 1) / "moments.jsonl").read_text().splitlines()]
    assert len(lines) == len(table)
    assert all(np.isfinite(line["pred_saliency_scores"]).all() for line in lines), "padding showed through"
    searcher = Searcher(config, layout, "main", 1)
    hits = {hit.video_id: hit for hit in searcher.search("text 1", k=100)}
    assert set(hits) == {video for video in padded.rows if video != QUARANTINED}
    for video, hit in hits.items():
        assert 0 <= hit.start <= hit.best <= hit.end <= len(padded.rows[video]) * 2
    for row in np.flatnonzero(table["query_id"].str.endswith("#1")):
        for video, score in zip(top[row], scores[row], strict=True):
            assert hits[videos[video]].score == pytest.approx(score, abs=5e-3)  # the index holds float16
