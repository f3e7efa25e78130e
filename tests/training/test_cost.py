"""What a method costs, on the miniature: counts that are known, and a scan that gives what one look at the whole gallery gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.config import presets
from pipeline.config.method import Experiment
from pipeline.ranking import gallery
from pipeline.ranking.split import Split
from pipeline.training import cost
from pipeline.training.stage import prepare

from . import miniature

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Split]:
    made = miniature.make(tmp_path_factory.mktemp("miniature"))
    settings = made.config.experiment("main")
    return settings, cost.train_split(settings, made.layout)


@pytest.fixture(scope="module")
def measured(given: tuple[Experiment, Split]) -> dict:
    return cost.measure(*given, CPU, [50, 400])


def test_counts(given: tuple[Experiment, Split], measured: dict) -> None:
    trainee, _, _ = prepare(*given, 0, CPU)
    model = trainee.model
    assert measured["parameters"]["training"] == sum(p.numel() for p in trainee.parameters())
    left_out = measured["parameters"]["training"] - measured["parameters"]["inference"]
    assert left_out >= sum(p.numel() for p in model.alignment.parameters()), "CBVA's layer is trained and never ranks"
    assert left_out < 0.1 * measured["parameters"]["training"]
    assert measured["vectors"] == model.dims.frames + model.dims.clips
    assert measured["bytes"] == measured["vectors"] * model.settings.hidden * 4


def test_times_and_memory(measured: dict) -> None:
    assert set(measured["latency_ms"]) == {"50", "400"}
    assert all(value > 0 for value in measured["latency_ms"].values())
    assert measured["epoch_seconds"] > 0
    assert measured["peak_mb"] > 100
    assert measured["threads"] == torch.get_num_threads()
    assert "cores" in measured["device"]


@pytest.mark.parametrize("videos", [5, 8, 64, 101])
def test_scanning_a_block_again_and_again_finds_the_same(given: tuple[Experiment, Split], videos: int) -> None:
    """Galleries smaller than the block, a multiple of it, and with a rest."""
    settings, data = given
    model = prepare(settings, data, 0, CPU)[0].model
    encoded = gallery.encode_videos(model, data.videos.batches(8, CPU))
    block = gallery.part(encoded, torch.arange(8))
    whole = gallery.part(block, torch.arange(videos) % 8)
    words = data.queries.padded(torch.tensor([0]), model.settings.max_words, CPU)
    weights = settings.evaluation.fusion(model.branches)
    scores, places = cost.ask(model, block, words, weights, videos)
    fused = gallery.score(model, gallery.encode_queries(model, [words]), whole, weights).fused
    expected = fused.topk(min(100, videos), dim=1).values
    torch.testing.assert_close(scores, expected)
    torch.testing.assert_close(fused.gather(1, places), expected)
    assert places.unique().numel() == places.numel()


def test_a_gallery_that_would_take_too_long_is_left_out(given: tuple[Experiment, Split], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "LONGEST", 0.0)
    found = cost.measure(*given, CPU, [20, 2_000_000])["latency_ms"]
    assert found["20"] > 0
    assert found["2000000"] is None


@pytest.mark.slow
@pytest.mark.parametrize("preset", presets.names())
def test_every_method_can_be_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, preset: str) -> None:
    monkeypatch.setattr(miniature, "TEXT", miniature.DIM)  # one space of pictures and sentences, for those that have a teacher
    overrides = {"main": {"preset": f"{preset}/small"}}
    made = miniature.make(tmp_path, train=6, val=2, experiments=overrides, model={}, objectives={})
    settings = made.config.experiment("main")
    found = cost.measure(settings, cost.train_split(settings, made.layout), CPU, [30])
    assert 0 < found["parameters"]["inference"] <= found["parameters"]["training"]
    assert found["vectors"] >= 32
    assert found["latency_ms"]["30"] > 0
