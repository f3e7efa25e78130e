"""Golden vectors: the demo's encoders give theirs, a wrong activation or another model does not, and unknown ones can be recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import published
from pipeline.config import reading as config_io
from pipeline.core.errors import WeightsError
from pipeline.encoders import golden
from tests.encoders.conftest import clip_entry, slowfast_entry


def test_the_demos_encoders_give_their_vectors(root: Path) -> None:
    """After they were trained again: `python -m pipeline.encoders.golden`."""
    config = config_io.load(root / "config.yaml")
    for name in config.encoders:
        verdict = golden.verify(config.network(name), name)
        assert verdict.ok, f"{name}: {verdict.detail}"


def test_published_numbers_are_known_by_the_published_checksum() -> None:
    entry = golden.known(published.table()["ViT-B-32-quickgelu"]["openai"].sha256, {"size": 224})
    assert entry is not None
    assert len(entry["sentence"]) == 5
    assert "published" in entry["source"]


@pytest.mark.parametrize("kind", ["clip", "motion"])
def test_record_then_verify(kind: str, clip_dir: Path, slowfast_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRVR_WEIGHTS", str(tmp_path))
    encoder = clip_entry(clip_dir) if kind == "clip" else slowfast_entry(slowfast_dir)
    assert golden.verify(encoder).ok is None
    file = golden.record(encoder, "mine")
    assert golden.verify(encoder) == (True, golden.verify(encoder).detail)
    assert "the record of mine" in golden.verify(encoder).detail
    entries = json.loads(file.read_text())
    (entry,) = entries.values()
    (vector,) = [value for name, value in entry.items() if name in ("image", "window")]
    vector[0] += 0.1 * float(np.abs(vector).max())
    file.write_text(json.dumps(entries))
    verdict = golden.verify(encoder)
    assert verdict.ok is False
    assert "differs by" in verdict.detail
    golden.record(encoder, "mine")  # known ones are never overwritten
    assert golden.verify(encoder).ok is False


def test_a_record_counts_for_the_shape_it_was_made_with(slowfast_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PRVR_WEIGHTS", str(tmp_path))
    encoder = slowfast_entry(slowfast_dir)
    golden.record(encoder)
    assert golden.verify(encoder).ok
    assert golden.verify(encoder.model_copy(update={"frames": encoder.frames * 2})).ok is None


def test_vectors_that_are_not_finite_are_neither_right_nor_recorded(
    clip_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PRVR_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(golden, "vectors", lambda encoder, name: {"image": [float("nan")]})
    assert golden.verify(clip_entry(clip_dir)).ok is False
    with pytest.raises(WeightsError, match="not finite"):
        golden.record(clip_entry(clip_dir))
