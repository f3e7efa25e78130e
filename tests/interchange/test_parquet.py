"""Parquet, read back with pyarrow and pandas: every value that is stored, in the type it is stored in."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import LibraryError
from pipeline.core.store import create, open_store
from pipeline.datasets import table
from pipeline.evaluation import stage
from pipeline.interchange import parquet
from pipeline.jobs import recipes
from tests.evaluation.conftest import QUARANTINED, World

arrow = pytest.importorskip("pyarrow")
import pyarrow.parquet  # noqa: E402


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Two evaluated runs."""
    made = World(tmp_path_factory.mktemp("parquet"))
    for seed in (1, 2):
        made.train("main", seed)
        stage.run(made.config, made.layout, "main", seed, recipes.evaluation(made.config, "main"))
    return made


def export(world: World, target: Path) -> Path:
    runs = [("main", 1), ("main", 2), ("second", 1)]
    parquet.export_parquet(world.layout, target, video=["clip"], text=["clip"], runs=runs, name="tiny")
    return target


def test_features_are_every_row_with_its_time_and_type(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 5 * 6 * 2)  # five rows: groups end inside videos, and hold several
    folder = export(world, tmp_path / "out") / "features" / "clip"
    assert len(list(folder.iterdir())) > 1
    rows = pd.concat([pd.read_parquet(path) for path in sorted(folder.iterdir())])
    assert set(rows["video_id"]) == set(world.rows) - {QUARANTINED}
    for video, part in rows.groupby("video_id"):
        np.testing.assert_array_equal(np.stack(part["vector"].to_list()), world.rows[str(video)])
        assert part["row"].tolist() == list(range(len(part)))
        np.testing.assert_array_equal(part["start"], np.arange(len(part)) * 2.0)
        np.testing.assert_array_equal(part["end"] - part["start"], 2.0)
    for path in folder.iterdir():
        file = pyarrow.parquet.ParquetFile(path)
        vector = file.schema_arrow.field("vector").type
        assert (vector.list_size, vector.value_type) == (6, arrow.float16())
        assert json.loads(file.schema_arrow.metadata[b"prvr"])["dtype"] == "float16"
        assert all(file.metadata.row_group(i).num_rows <= 5 for i in range(file.metadata.num_row_groups))
        assert file.metadata.num_row_groups > 2


def test_queries_ranks_and_metrics(world: World, tmp_path: Path) -> None:
    folder = export(world, tmp_path / "out")
    tokens = pd.read_parquet(folder / "text" / "clip.parquet").groupby("query_id")["vector"].apply(lambda part: np.stack(part.to_list()))
    assert all(np.array_equal(tokens[query], words) for query, words in world.words.items())
    known = table.load(world.layout.annotations)
    queries = pd.read_parquet(folder / "queries.parquet")
    assert queries["query"].tolist() == known.queries["query"].tolist()
    for query, moments in zip(queries["query_id"], queries["moments"], strict=True):
        assert [[span["start"], span["end"]] for span in moments] == known.moments[query].tolist()
    assert pd.read_parquet(folder / "videos.parquet")["duration"].tolist() == known.videos["duration"].tolist()
    ranks, metrics = pd.read_parquet(folder / "ranks.parquet"), pd.read_parquet(folder / "metrics.parquet")
    assert set(zip(ranks["experiment"], ranks["seed"], strict=True)) == {("main", 1), ("main", 2)}
    for seed in (1, 2):
        with open_store(world.layout.evaluation("main", seed)) as store:
            stored = store.table("queries")
        for ranking in ("fused", "clip", "frame", "zero_shot"):
            part = ranks[(ranks["seed"] == seed) & (ranks["ranking"] == ranking)]
            assert part["rank"].tolist() == stored[f"rank_{ranking}"].tolist()
            assert part["query_id"].tolist() == stored["query_id"].tolist()
        said = json.loads(world.layout.metrics("main", seed).read_text())
        of_run = metrics[(metrics["seed"] == seed) & (metrics["group"] == "")].set_index(["ranking", "measure"])["value"]
        assert of_run[("fused", "SumR")] == said["recalls"]["fused"]["SumR"]
        assert set(metrics[metrics["seed"] == seed]["run"]) == {said["run"]}
    assert set(metrics["group"]) == {"", "motion"}


def test_the_hub_reads_the_card(world: World, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    folder = export(world, tmp_path / "out")
    card = hub.DatasetCard.load(folder / "README.md")
    files = {part["config_name"]: part["data_files"] for part in card.data.to_dict()["configs"]}
    assert set(files) == {"features-clip", "text-clip", "videos", "queries", "ranks", "metrics"}
    assert all(list(folder.glob(pattern)) for pattern in files.values())
    assert "| clip |" in card.text
    assert "float16" in card.text
    assert "No licence is stated" in card.text


def test_another_export_leaves_no_shard_of_the_former(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "out" / "features" / "clip"
    folder.mkdir(parents=True)
    for name in ("777.parquet", "mine.parquet"):
        (folder / name).write_bytes(b"")
    export(world, tmp_path / "out")
    assert not (folder / "777.parquet").exists()
    assert (folder / "mine.parquet").exists()  # not of ours


def test_ids_are_values_and_never_places(tmp_path: Path) -> None:
    world = World(tmp_path / "w")
    shard = next(iter(world.layout.features("clip", "*").parent.glob("*.h5"))).stem
    with create(world.layout.features("clip", shard), stage="features", encoder="clip", dim=2) as writer:
        for video in ("../../escaped", "/etc/x", "a\nb", "é\u202e"):
            columns = {"start": np.full(2, np.nan), "end": np.full(2, np.nan)}
            writer.append("features", video, np.ones((2, 2), np.float32), columns, {"key": "k", "duration": 1.0})
    export(world, tmp_path / "deep" / "out")
    read = pd.read_parquet(tmp_path / "deep" / "out" / "features" / "clip" / f"{shard}.parquet")
    assert set(read["video_id"]) == {"../../escaped", "/etc/x", "a\nb", "é\u202e"}
    assert read["start"].isna().all()
    assert read["vector"].iloc[0].dtype == np.float32
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "w"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_memory_does_not_grow_with_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """48 MB of features, one video of 24 MB among them, by way of row groups of 1 MB."""
    monkeypatch.setattr(parquet, "GROUP_BYTES", 1 << 20)
    world = World(tmp_path / "w")
    shard = next(iter(world.layout.features("clip", "*").parent.glob("*.h5"))).stem
    with create(world.layout.features("clip", shard), stage="features", encoder="clip", dim=512) as writer:
        for video, rows in (("long", 24 << 10), *((f"v{i}", 1 << 10) for i in range(24))):
            columns = {name: np.zeros(rows) for name in ("start", "end")}
            writer.append("features", video, np.ones((rows, 512), np.float16), columns, {"key": "k", "duration": 1.0})
    pool = arrow.default_memory_pool()
    before = pool.bytes_allocated()
    tracemalloc.start()
    try:
        parquet._features(world.layout, "clip", tmp_path / "out")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 12 << 20
    assert pool.bytes_allocated() - before < 8 << 20
    assert pyarrow.parquet.ParquetFile(tmp_path / "out" / f"{shard}.parquet").metadata.num_rows == 48 << 10


def test_without_pyarrow_nothing_is_written(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(LibraryError, match="pyarrow is not installed") as error:
        export(world, tmp_path / "out")
    assert "pip install 'prvr[parquet]'" in str(error.value)
    assert not (tmp_path / "out").exists()
