"""The whole objective: weights, missing fields, precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.config.method import Cbva, Nce, Objectives, Tcpl, Triplet
from pipeline.objectives import cbva, retrieval, tcpl
from pipeline.objectives.scores import max_similarity
from pipeline.objectives.total import total

LABELS = torch.tensor([0, 0, 1, 2, 2, 2])


def _fields(dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "query": noise(6, 8),
        "frames": noise(3, 16, 8),
        "clips": noise(3, 4, 8),
        "labels": LABELS,
        "teacher": noise(6, 5),
        "aligned_frames": noise(3, 16, 8),
        "aligned_clips": noise(3, 4, 8),
        "sizes": torch.full((3, 4), 4.0, dtype=dtype),
        "frame_to_clip": (torch.arange(16) // 4).expand(3, 16),
        "context": torch.tensor([0, 1, 1, 0]).expand(3, 4),
        "frozen_frames": noise(3, 16, 7),
    }


def test_every_term_by_its_weight() -> None:
    fields = _fields()
    loss, terms = total(Objectives(), **fields, hard=True, generator=torch.Generator().manual_seed(1))
    expected = {}
    generator = torch.Generator().manual_seed(1)
    for branch, weight in (("clip", 0.02), ("frame", 0.04)):
        cosine, dot = max_similarity(fields["query"], fields[f"{branch}s"])
        expected[f"nce_{branch}"] = weight * retrieval.nce(dot, LABELS)
        expected[f"triplet_{branch}"] = retrieval.triplet(cosine, LABELS, 0.2, hard=True, pool=20, generator=generator)
    expected["tcpl_distance"] = 15 * tcpl.distance(fields["query"], fields["teacher"])
    expected["tcpl_angle"] = 30 * tcpl.angle(fields["query"], fields["teacher"])
    aligned = (fields[k] for k in ("aligned_frames", "aligned_clips", "sizes", "frame_to_clip", "context"))
    expected["cbva"] = 0.1 * cbva.loss(*aligned)
    assert terms.keys() == expected.keys()
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(loss, sum(expected.values()))


def test_terms_of_weight_zero_are_left_out_and_need_nothing() -> None:
    fields = {key: _fields()[key] for key in ("query", "frames", "clips", "labels")}
    off: dict[str, Any] = {"tcpl": Tcpl(distance=0, angle=0), "cbva": Cbva(weight=0)}
    assert set(total(Objectives(**off), **fields)[1]) == {"nce_clip", "triplet_clip", "nce_frame", "triplet_frame"}
    assert set(total(Objectives(**off, nce=Nce(clip=0)), **fields)[1]) == {"triplet_clip", "nce_frame", "triplet_frame"}
    with pytest.raises(ValueError, match="weight 0"):
        total(Objectives(**off, nce=Nce(clip=0, frame=0), triplet=Triplet(weight=0)), **fields)


@pytest.mark.parametrize("missing", ["teacher", "aligned_frames", "aligned_clips", "sizes", "frame_to_clip", "context"])
def test_a_missing_field_is_named(missing: str) -> None:
    with pytest.raises(ValueError, match=missing):
        total(Objectives(), **{**_fields(), missing: None})


def test_naive_cbva_needs_no_contexts() -> None:
    fields = {**_fields(), "context": None}
    _, terms = total(Objectives(cbva=Cbva(adaptive=False)), **fields)
    adaptive = {**fields, "context": torch.arange(4).expand(3, 4)}
    torch.testing.assert_close(terms["cbva"], total(Objectives(), **adaptive)[1]["cbva"])


def test_half_precision_is_computed_in_float32() -> None:
    fields = _fields(torch.bfloat16)
    loss, _ = total(Objectives(), **fields, hard=True, generator=torch.Generator().manual_seed(1))
    full = {k: v.float() if v.is_floating_point() else v for k, v in fields.items()}
    expected, _ = total(Objectives(), **full, hard=True, generator=torch.Generator().manual_seed(1))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(total(Objectives(), **full, hard=True, generator=torch.Generator().manual_seed(1))[0], expected)


def test_one_video_with_one_caption() -> None:
    fields = {k: v[:1].clone() for k, v in _fields().items()}
    for key in ("query", "frames", "clips", "aligned_frames", "aligned_clips"):
        fields[key].requires_grad_()
    loss, _ = total(Objectives(), **fields)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(v.grad is None or torch.isfinite(v.grad).all() for v in fields.values())
