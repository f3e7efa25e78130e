"""Search in long videos: what a typed query finds is what the evaluation ranked, each video with its best window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.core.store import open_store
from pipeline.evaluation import stage
from pipeline.jobs import recipes
from pipeline.search.searcher import Searcher
from tests.evaluation.conftest import QUARANTINED, World, typeable


@pytest.fixture
def searchable(tmp_path: Path) -> World:
    world = typeable(tmp_path, clips={"dtype": "float32", "window": 20.0})
    world.train("main", 1, text_dim=64)
    return world


def test_the_answers_are_the_evaluations(searchable: World) -> None:
    stage.run(searchable.config, searchable.layout, "main", 1, recipes.evaluation(searchable.config, "main"))
    with open_store(searchable.layout.evaluation("main", 1)) as store:
        table, videos = store.table("queries"), store.array("videos").tolist()
        top, scores = store.array("top/videos"), store.array("top/scores")
    searcher = Searcher(searchable.config, searchable.layout, "main", 1)
    hits = {hit.video_id: hit for hit in searcher.search("text 1", k=100, moments=3)}
    assert set(hits) == {video for video in (*searchable.ids, "train/0") if video != QUARANTINED}
    assert len(searcher.videos.frame_count) > 2 * len(searcher.ids)
    for row in np.flatnonzero(table["query_id"].str.endswith("#1")):
        for video, score in zip(top[row], scores[row], strict=True):
            assert hits[videos[video]].score == pytest.approx(score, abs=1e-3)  # float16 in the index
        own = hits[table["video_id"][row]]
        assert (own.start, own.end) == (table["moment_start"][row], table["moment_end"][row])
        assert own.duration == 2.0 * len(searchable.rows[own.video_id])


def test_a_moment_as_a_query_is_found_where_it_is(searchable: World) -> None:
    """Of a late instant: a row of a later window, and the first answer is the video it was taken from, at that instant."""
    searcher = Searcher(searchable.config, searchable.layout, "main", 1)
    video = int(np.argmax(searcher.durations))
    instant = float(searcher.durations[video]) - 3.0
    answer, _ = searcher.like(video, instant, k=3)
    assert answer.hits[0].video_id == searcher.ids[video]
    assert answer.hits[0].score == pytest.approx(1.0, abs=1e-3)
    assert abs(answer.hits[0].best - instant) <= 2.0
