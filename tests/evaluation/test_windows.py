"""Long videos in windows: what is ranked, timed, learnt from and drawn is the best window of each video."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core.errors import TrainingError
from pipeline.core.store import open_store
from pipeline.datasets import table
from pipeline.evaluation import inputs, stage
from pipeline.jobs import recipes
from pipeline.models.checkpoint import load_model
from pipeline.ranking import gallery, measure
from pipeline.report.pick import read
from pipeline.report.strips import pair
from pipeline.training import splits

from .conftest import World

WINDOW = 20.0  # ten rows; the videos have up to 39


@pytest.fixture
def windowed(tmp_path: Path) -> World:
    made = World(tmp_path, clips={"dtype": "float32", "window": WINDOW})
    made.train("main", 1)
    stage.run(made.config, made.layout, "main", 1, recipes.evaluation(made.config, "main"))
    return made


def test_a_video_is_ranked_timed_and_shown_by_its_best_window(windowed: World) -> None:
    chosen = windowed.config.experiment("main")
    split = inputs.load(windowed.layout, chosen, "test").split
    assert len(split.videos) > 2 * len(split.ids)
    assert split.durations.tolist() == [2.0 * len(windowed.rows[video]) for video in split.ids]
    model, _, _ = load_model(windowed.layout.checkpoint("main", 1), experiment="main", seed=1)
    queries, encoded = gallery.encode(model, split, torch.device("cpu"))
    each = gallery.score(model, queries, encoded, chosen.evaluation.fusion(model.branches)).fused.numpy()
    mine = {video: [i for i, name in enumerate(split.videos.ids) if name == video] for video in split.ids}
    with open_store(windowed.layout.evaluation("main", 1), stage="evaluation") as store:
        found, videos, top = store.table("queries"), store.array("videos").tolist(), store.array("top/videos")
        ranking = read(store)
    assert videos == split.ids
    for row, (query, video) in enumerate(zip(found["query_id"], found["video_id"], strict=True)):
        best = np.array([each[row, mine[name]].max() for name in videos])
        own = mine[video][int(each[row, mine[video]].argmax())]
        assert found["rank_fused"][row] == 1 + (best > best[videos.index(video)]).sum()
        assert top[row].tolist() == np.argsort(-best, kind="stable").tolist()
        located = gallery.locate(
            model, gallery.part(queries, torch.tensor([row])), encoded, torch.tensor([own]), split.videos.frame_count
        ).argmax()
        middle = (split.videos.start[own, located] + split.videos.end[own, located]) / 2
        assert found["best_time"][row] == pytest.approx(middle)
        assert ranking.own_time(row) == pytest.approx(middle)
        reach = split.videos.start[own, 0], split.videos.end[own, -1]
        assert reach[1] - reach[0] <= WINDOW + 2
        assert reach[0] <= found["moment_start"][row] < found["moment_end"][row] <= reach[1]
        first = videos[int(top[row, 0])]
        assert ranking.window(row, 0) == mine[first][int(each[row, mine[first]].argmax())]
        assert ranking.length(int(top[row, 0])) == pytest.approx(2.0 * len(windowed.rows[first]))
        assert query.startswith(video)
    metrics = json.loads(windowed.layout.metrics("main", 1).read_text())
    assert metrics["gallery"]["videos"] == len(split.ids)
    assert measure.measure(model, split, chosen.evaluation, torch.device("cpu"))["SumR"] == pytest.approx(
        metrics["recalls"]["fused"]["SumR"]
    )


class NoStills:
    """An album without pictures."""

    def stills(self, *_: object) -> list[str]:
        return []


def test_the_line_is_drawn_where_the_window_lies(windowed: World) -> None:
    with open_store(windowed.layout.evaluation("main", 1), stage="evaluation") as store:
        ranking = read(store)
    own = [(query, ranking.window_of_own(query)) for query in range(len(ranking.own))]
    query, window = next((q, w) for q, w in own if ranking.start[w, 0] > 0)
    strip, _ = pair(ranking, query, (), NoStills())  # type: ignore[arg-type]
    points = [[float(number) for number in point.split()] for point in strip.curve.removeprefix("M").split("L")]
    share = [at / strip.seconds for at in (ranking.start[window, 0], ranking.end[window, -1])]
    width = 1000 * np.array(share) if points[-1][0] > 100 else np.array(share)
    assert points[0][0] / points[-1][0] == pytest.approx(width[0] / width[1], abs=0.01)
    assert points[0][0] > 0


def test_a_query_is_learnt_from_the_window_of_its_moment(tmp_path: Path) -> None:
    """Of one without a moment nobody knows which window shows it, unless the video is one."""
    world = World(tmp_path, clips={"dtype": "float32", "window": WINDOW})
    learnt = splits.train_split(world.config.experiment("main"), world.layout)
    long = len(world.rows["train/0"]) * 2.0 > WINDOW
    assert long
    assert learnt.dropped == {"videos": 0, "queries": 1}
    for query, unit in zip(learnt.queries.ids, learnt.queries.video.tolist(), strict=True):
        at = world.target[query] * 2.0 + 1
        assert learnt.videos.start[unit, 0] <= at <= learnt.videos.end[unit, -1]
    assert sorted(set(learnt.queries.video.tolist())) == list(range(len(learnt.videos)))


def test_no_moment_at_all_is_said_so(tmp_path: Path) -> None:
    world = World(tmp_path, clips={"dtype": "float32", "window": WINDOW})
    rows = table.load(world.layout.annotations)
    table.save(world.layout.annotations, table.Annotations(rows.videos, rows.queries, {q: np.zeros((0, 2)) for q in rows.moments}))
    with pytest.raises(TrainingError, match="says when in its video it is answered") as raised:
        splits.train_split(world.config.experiment("main"), world.layout)
    assert "clips.window null" in str(raised.value)
    # They can be ranked all the same, and a window that holds all of a video needs no moment.
    assert len(inputs.load(world.layout, world.config.experiment("main"), "test").split.queries)
