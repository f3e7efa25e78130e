"""The stages: frames and annotations in, whole stores and manifests out, nothing computed twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.core.errors import EncoderError, StoreMissing, StoreSchema
from pipeline.core.shards import key
from pipeline.core.store import create, open_store
from pipeline.encoders import open_clip, slowfast, stage, text_stage
from pipeline.jobs import recipes

ROWS = {"a": 3, "b": 7, "c": 1, "d": 5}


@pytest.mark.parametrize("encoder", ["clip", "motion"])
def test_features_of_a_shard(encoder: str, project: Callable) -> None:
    config, layout, sources = project(ROWS, batch_size=4)
    stage.run_video(config, layout, encoder, "000", sources, recipes.features(config, encoder))
    settings = config.encoders[encoder]
    model = open_clip.load(settings) if encoder == "clip" else slowfast.load(settings)
    with (
        open_store(layout.frames(settings.stream.name, "000"), stage="frames") as frames,
        open_store(layout.features(encoder, "000")) as found,
    ):
        pixels, windows, features = frames.ragged("frames"), frames.ragged("windows"), found.ragged("features")
        assert features.ids == list(ROWS)
        assert features.values.dtype == np.float16
        assert found.attrs["dim"] == model.dim == features.values.shape[1]
        assert found.attrs["normalised"] is False
        assert found.attrs["weights_sha256"] == model.weights.sha256
        for video_id, count in ROWS.items():
            rows = pixels[video_id][windows[video_id]]
            expected = model.encode(rows[:, 0]) if encoder == "clip" else model.encode(rows)
            np.testing.assert_allclose(features[video_id], expected.numpy(), atol=2e-3, rtol=2e-3)
            assert features.columns["start"][features.rows(video_id)].tolist() == [2.0 * i for i in range(count)]
            assert features.columns["end"][features.rows(video_id)].tolist() == [2.0 * (i + 1) for i in range(count)]
            assert features.items["key"][features.index[video_id]] == key(f"print-{video_id}", recipes.features(config, encoder))
    manifest = json.loads(layout.features_manifest(encoder, "000").read_text())
    assert (manifest["videos"], manifest["rows"], manifest["computed"], manifest["quarantine"]) == (4, 16, 4, [])
    assert manifest["stats"]["rows"] == 16
    assert manifest["stats"]["batch_size"] == 4


def test_only_new_content_is_computed(project: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    config, layout, sources = project(ROWS)
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    before = layout.features("clip", "000").read_bytes()
    loaded: list[str] = []
    load = open_clip.load
    monkeypatch.setattr(open_clip, "load", lambda *args: (loaded.append(args[2]), load(*args))[1])
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    assert layout.features("clip", "000").read_bytes() == before
    assert not loaded
    config, layout, sources = project({**ROWS, "e": 2})
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    assert json.loads(layout.features_manifest("clip", "000").read_text())["computed"] == 1
    assert loaded == ["clip"]
    stage.run_video(config, layout, "clip", "000", sources[1:], recipes.features(config, "clip"))
    with open_store(layout.features("clip", "000")) as store:
        assert store.ragged("features").ids == ["b", "c", "d", "e"]


def test_killed_run_goes_on_and_gives_the_same_bytes(project: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config, layout, sources = project(ROWS, batch_size=2)
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    undisturbed = layout.features("clip", "000").read_bytes()
    layout.features("clip", "000").unlink()
    monkeypatch.setattr(stage, "FLUSH_EVERY", 0.0)
    encode, calls = open_clip.OpenClipEncoder.encode, 0

    def dying(self: open_clip.OpenClipEncoder, frames: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return encode(self, frames)

    with monkeypatch.context() as patch:
        patch.setattr(open_clip.OpenClipEncoder, "encode", dying)
        with pytest.raises(KeyboardInterrupt):
            stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    assert not layout.features("clip", "000").exists()
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    assert 0 < json.loads(layout.features_manifest("clip", "000").read_text())["computed"] < 4
    assert layout.features("clip", "000").read_bytes() == undisturbed


def test_killed_between_the_last_video_and_the_merge(project: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    config, layout, sources = project(ROWS)
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    undisturbed = layout.features("clip", "000").read_bytes()
    layout.features("clip", "000").unlink()

    def dying(self: stage.ShardStore, *args: object, **attrs: object) -> int:
        self.flush()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stage.ShardStore, "finish", dying)
        with pytest.raises(KeyboardInterrupt):
            stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    assert layout.features("clip", "000").read_bytes() == undisturbed


def test_report(project: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Progress, manifest and attributes say how fast it went, how long the encoder waited, and what failed; memory runs out on the way."""
    config, layout, sources = project({**ROWS, "z": 2}, quarantine=("z",), batch_size=8)
    encode = open_clip.OpenClipEncoder.encode

    def small_device(self: open_clip.OpenClipEncoder, frames: torch.Tensor) -> torch.Tensor:
        if len(frames) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return encode(self, frames)

    monkeypatch.setattr(open_clip.OpenClipEncoder, "encode", small_device)
    monkeypatch.setattr("pipeline.core.progress.LINE_EVERY", 0.0)
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    lines = capsys.readouterr().err.splitlines()
    pattern = r"clip 000: \d+/16 rows, [\d.]+ s, [\d.]+ rows/s(, \d+ s left)? \d/4 videos, idle \d+%, batch 2, 1 unusable, out of memory 2x"
    shown = [line for line in lines if re.fullmatch(pattern, line)]
    assert len(shown) >= 2, lines
    assert any("s left" in line for line in shown)
    stats = json.loads(layout.features_manifest("clip", "000").read_text())["stats"]
    assert (stats["videos"], stats["rows"], stats["batch_size"], stats["out_of_memory"]) == (4, 16, 2, 2)
    assert stats["rows_per_second"] > 0
    assert 0 <= stats["idle_share"] <= 1
    with open_store(layout.features("clip", "000"), stage="features") as store:
        assert (store.attrs["videos"], store.attrs["quarantined"]) == (4, 1)


def test_quarantined_videos_are_carried_along(project: Callable) -> None:
    config, layout, sources = project(ROWS, quarantine=("b",))
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    manifest = json.loads(layout.features_manifest("clip", "000").read_text())
    assert [entry["id"] for entry in manifest["quarantine"]] == ["b"]
    assert manifest["videos"] == 3
    with open_store(layout.features("clip", "000")) as store:
        assert store.ragged("features").ids == ["a", "c", "d"]


def test_shard_without_a_usable_video_needs_no_model(project: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    config, layout, sources = project({"b": 3}, quarantine=("b",))
    monkeypatch.setattr(open_clip, "load", None)
    stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))
    with open_store(layout.features("clip", "000"), stage="features") as store:
        assert "features" not in store
        assert store.attrs["dim"] == 0


def test_frames_of_another_content_are_refused(project: Callable) -> None:
    config, layout, sources = project(ROWS)
    changed = [sources[0], *(type(s)(s.video_id, s.paths, "replaced", None) for s in sources[1:])]
    with pytest.raises(StoreMissing, match="present content of 'b'"):
        stage.run_video(config, layout, "clip", "000", changed, recipes.features(config, "clip"))


def test_frames_of_another_recipe_are_refused(project: Callable) -> None:
    config, layout, sources = project(ROWS)
    path, recipe = layout.frames(config.encoders["clip"].stream.name, "000"), recipes.features(config, "clip")
    for decoding, shard in (({**recipe["decoding"], "keep_truncated": True}, "000"), (recipe["decoding"], "001")):
        with open_store(path) as old:
            frames, windows = old.ragged("frames"), old.ragged("windows")
        with create(path, stage="frames", recipe={"stream": recipe["stream"], "decoding": decoding}, shard=shard) as writer:
            writer.ragged("frames", frames)
            writer.ragged("windows", windows)
        with pytest.raises(StoreSchema, match="expected"):
            stage.run_video(config, layout, "clip", "000", sources, recipe)


def test_values_beyond_float16_are_an_error(project: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    config, layout, sources = project(ROWS)
    monkeypatch.setattr(open_clip.OpenClipEncoder, "encode", lambda self, frames: torch.full((len(frames), 24), 1e6))
    with pytest.raises(EncoderError, match="not finite in float16"):
        stage.run_video(config, layout, "clip", "000", sources, recipes.features(config, "clip"))


def annotate(layout, texts: dict[str, str]) -> None:
    with create(layout.annotations, stage="annotations") as writer:
        writer.table("queries", pd.DataFrame({"query_id": list(texts), "video_id": "a", "split": "train", "query": list(texts.values())}))


def test_text(project: Callable) -> None:
    config, layout, _ = project(ROWS)
    texts = {"q2": "the cat", "q1": "the " * 20, "q3": ""}
    annotate(layout, texts)
    text_stage.run(config, layout, "clip", recipes.text(config, "clip"))
    model = open_clip.load(config.encoders["clip"])
    with open_store(layout.text("clip"), stage="text") as store:
        tokens = store.ragged("tokens")
        assert store.attrs["teacher"] == "last"
    assert tokens.ids == list(texts)
    assert tokens.values.dtype == np.float16
    assert tokens.items["truncated"].tolist() == [False, True, False]
    for query_id, (states, sentence, _) in zip(texts, model.encode_texts(list(texts.values())), strict=True):
        np.testing.assert_array_equal(tokens[query_id], states.numpy().astype(np.float16))
        np.testing.assert_array_equal(tokens.items["sentence"][tokens.index[query_id]], sentence.numpy().astype(np.float16))
    manifest = json.loads(layout.text_manifest("clip").read_text())
    assert (manifest["queries"], manifest["truncated"], manifest["stats"]["computed"]) == (3, ["q1"], 3)
    before = layout.text("clip").read_bytes()
    text_stage.run(config, layout, "clip", recipes.text(config, "clip"))
    assert layout.text("clip").read_bytes() == before, "nothing is computed, and what was said of the encoder stays"
    annotate(layout, {**texts, "q3": "a bat"})
    text_stage.run(config, layout, "clip", recipes.text(config, "clip"))
    assert json.loads(layout.text_manifest("clip").read_text())["stats"]["computed"] == 1
    layout.text("clip").unlink()
    annotate(layout, texts)
    text_stage.run(config, layout, "clip", recipes.text(config, "clip"))
    assert layout.text("clip").read_bytes() == before


def test_motion_encoder_has_no_text(project: Callable) -> None:
    config, layout, _ = project(ROWS)
    annotate(layout, {"q": "the cat"})
    with pytest.raises(EncoderError, match="no text tower"):
        text_stage.run(config.model_copy(update={"text": "motion"}), layout, "motion", recipes.text(config, "motion"))
