"""A large collection: 20,000 queries about 5,000 videos, three experiments with two seeds each."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config.schema import Config
from pipeline.core.store import create
from pipeline.datasets import table
from pipeline.datasets.table import Annotations
from pipeline.ranking.metrics import chance, recalls
from pipeline.report import stage

QUERIES, VIDEOS, ROWS, SEEDS = 20_000, 5_000, 128, (1, 2)
LIMIT = 10e6  # bytes
SENTENCE = "somebody walks into a room, looks around for a while <and> then says something that goes on " * 6


def annotations(path: Path) -> None:
    videos = pd.DataFrame({"video_id": [f"v{i:05d}" for i in range(VIDEOS)], "split": "test", "duration": 120.0})
    columns = {"query_id": [f"q{i}" for i in range(QUERIES)], "video_id": [f"v{i % VIDEOS:05d}" for i in range(QUERIES)]}
    queries = pd.DataFrame({**columns, "split": "test", "query": [f"{i} {SENTENCE}" for i in range(QUERIES)]})
    queries = queries.assign(cap_id=queries["query_id"], group="", flags="", extra="")
    table.save(path, Annotations(videos, queries, {f"q{i}": np.array([[10.0, 20.0]]) for i in range(QUERIES)}))


def evaluation(config: Config, experiment: str, seed: int) -> None:
    """What the evaluation of a run leaves, made up."""
    random, layout = np.random.default_rng([seed, len(experiment)]), config.layout
    ranks = random.integers(1, VIDEOS + 1, QUERIES)
    own, ratio = np.arange(QUERIES) % VIDEOS, random.random(QUERIES)
    rows = {"query_id": [f"q{i}" for i in range(QUERIES)], "video_id": [f"v{i:05d}" for i in own], "rank_fused": ranks}
    edges = np.tile(np.linspace(0, 120, ROWS + 1, dtype=np.float32), (VIDEOS, 1))
    with create(layout.evaluation(experiment, seed), stage="evaluation") as writer:
        writer.table("queries", pd.DataFrame({**rows, "rank_zero_shot": ranks[::-1], "ratio": ratio, "group": ""}))
        writer.array("videos", np.asarray([f"v{i:05d}" for i in range(VIDEOS)], dtype=object))
        writer.array("top/videos", np.tile(np.arange(100, dtype=np.int32), (QUERIES, 1)))
        writer.array("top/scores", np.zeros((QUERIES, 100), np.float32))
        writer.array("top/rows", np.zeros((QUERIES, 5), np.int16))
        for name in ("own", "first") if seed == SEEDS[0] else ():  # of the others nothing but ranks is read
            writer.array(f"strips/{name}", random.random((QUERIES, ROWS), np.float32))
        writer.array("rows/start", edges[:, :-1])
        writer.array("rows/end", edges[:, 1:])
    measured = {"above": 0.0, "up_to": 1.0, "queries": QUERIES, **recalls(ranks)}
    frame = {"inside": 50.0, "chance": 8.0, "queries": QUERIES}
    metrics = {
        **{"split": "test", "selection_split": "val", "model": "msc", "features": ["clip"], "epoch": 3, "imported": None},
        "gallery": {"name": "", "videos": VIDEOS, "queries": QUERIES},
        "recalls": {"fused": recalls(ranks), "zero_shot": recalls(ranks[::-1].copy())},
        "chance": chance(VIDEOS),
        "moments": {"frame": frame, "by_ratio": [measured]},
        "collapse": {"text": {}, "video": {}},
        "excluded": {"videos": [f"gone{i}" for i in range(VIDEOS)], "queries": [], "moments": []},
    }
    layout.metrics(experiment, seed).write_text(json.dumps(metrics))


@pytest.mark.slow
def test_it_stays_small_and_quick(tmp_path: Path) -> None:
    experiments = {"main": {}, "second": {}, "third one": {}}
    config = Config.model_validate({"results": str(tmp_path), "dataset": {"name": "large"}, "encoders": {"clip": {"kind": "open_clip"}},
                                    "features": ["clip"], "text": "clip", "experiments": {n.split()[0]: v for n, v in experiments.items()},
                                    "seeds": list(SEEDS)})  # fmt: skip
    annotations(config.layout.annotations)
    for name, seed in config.group("table"):
        evaluation(config, name, seed)
    lines = [f"bad{i}\tbad{i}.mp4\tTRUNCATED\t{SENTENCE}\tpyav\t1\tnow" for i in range(VIDEOS)]
    config.layout.quarantine.write_text("\n".join(["id\tpath\tcode\tmessage\tdecoder\tbytes\twhen", *lines]))
    began = time.process_time()
    stage.run(config, config.layout, config.group("table"), {})
    assert time.process_time() - began < 60
    size = config.layout.report.stat().st_size
    assert 100_000 < size < LIMIT / 4, size  # stills may take another 4 MB
    page = config.layout.report.read_text()
    assert "20,000 queries of the test split against 5,000 videos" in page
    assert "The table holds the 500 of 20,000" in page
    assert "The first 500 are below." in page
