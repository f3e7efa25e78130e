"""The engine of the configuration: which one answers, where it keeps what, and what is said when it cannot be had."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
import torch
import yaml

from pipeline.config.reading import load
from pipeline.config.schema import Search
from pipeline.core.errors import ConfigError
from pipeline.jobs.dag import Dag
from pipeline.jobs.products import products
from pipeline.search import nearest
from pipeline.search.frozen import Frozen
from pipeline.search.indices import engine_for
from pipeline.search.qdrant_index import client
from tests.evaluation.conftest import World


def test_auto_is_exact_below_the_threshold_and_faiss_from_it_on(tmp_path: Path) -> None:
    config = World(tmp_path).config.model_copy(update={"search": Search(faiss_from=100)})
    assert [engine_for(config, videos) for videos in (1, 99, 100, 1_000_000)] == ["exact", "exact", "faiss", "faiss"]
    forced = config.model_copy(update={"search": Search(engine="exact", faiss_from=1)})
    assert engine_for(forced, 1_000_000) == "exact"


def test_the_frozen_encoder_answers_alike_with_every_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By way of the configuration, with real files of features; nothing is read or learned a second time."""
    monkeypatch.setattr(nearest, "LEAST", 6)
    monkeypatch.setattr(nearest, "WIDER", 3)
    monkeypatch.setattr(nearest, "FEW", 1)
    world = World(tmp_path)
    asked = [torch.nn.functional.normalize(torch.from_numpy(rows).float(), dim=-1) for rows in list(world.sentence.values())[:6]]
    exact = Frozen(world.config)
    assert exact.index is not None
    for engine, url in (("faiss", ""), ("qdrant", f"file:{tmp_path / 'points'}")):
        config = world.config.model_copy(update={"search": Search(engine=engine, url=url)})  # type: ignore[arg-type]
        other = Frozen(config)
        assert other.index is not None
        assert other.index.name == engine
        for sentence in asked:
            right, found = exact.index.search(exact.query(sentence), 2), other.index.search(other.query(sentence), 2)
            assert found.videos.tolist() == right.videos.tolist()
            assert found.scores.tolist() == right.scores.tolist()
    kept = world.layout.root / "index" / "clip" / "faiss"
    before = {file.name: file.stat().st_mtime_ns for file in kept.iterdir()}
    again = Frozen(world.config.model_copy(update={"search": Search(engine="faiss")}))
    assert again.index.changes == ((), ())  # type: ignore[union-attr]
    assert {file.name: file.stat().st_mtime_ns for file in kept.iterdir()} == before


def test_no_setting_of_search_is_part_of_what_a_job_is_made_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for i in range(4):
        (tmp_path / "videos" / f"v{i}.mp4").write_text(str(i))
    (tmp_path / "queries.csv").write_text("video_id,query,split\n" + "\n".join(f"v{i},somebody waves {i},train" for i in range(4)) + "\n")
    given = {
        "dataset": {"name": "mine", "kind": "own", "videos": "videos", "annotations": "queries.csv"},
        "encoders": {"clip": {"kind": "open_clip"}},
        "features": ["clip"],
        "text": "clip",
    }
    traces = []
    for search in ({}, {"engine": "faiss", "faiss_from": 7, "url": "http://elsewhere:1"}):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump({**given, "search": search}))
        dag = Dag.of(load("config.yaml"))
        traces.append([dag.trace(product.stage, **product.of) for product in products(dag)])
    assert len(traces[0]) > 4
    assert traces[0] == traces[1]


def test_a_server_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="no Qdrant answers") as raised:
            client(address)
    assert raised.value.where == address
    assert "search.url" in raised.value.fix


def test_the_extra_is_named_where_the_library_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "qdrant_client", None)
    with pytest.raises(ConfigError, match="the engine qdrant needs the library qdrant-client") as raised:
        client(":memory:")
    assert raised.value.fix == "pip install 'prvr[qdrant]'"
