"""Scores, InfoNCE and triplet against the released code's arrays."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.scores import max_similarity
from pipeline.objectives.nce import nce
from pipeline.objectives.triplet import triplet
from tests.golden.arrays import Golden, golden

__all__ = ["golden"]


def _outputs(golden: Golden) -> tuple[dict, torch.Tensor]:
    return golden("small_outputs"), golden("small_inputs")["in_text_labels"]


@pytest.mark.parametrize("branch", ["clip", "frame"])
def test_scores(golden: Golden, branch: str) -> None:
    arrays = golden("small_outputs")
    cosine, dot = max_similarity(arrays["out_query"], arrays[f"out_enc_{branch}"])
    golden.close(cosine, arrays[f"out_{branch}_scores"], f"small.{branch}_scores")
    golden.close(dot, arrays[f"out_{branch}_scores_unnorm"], f"small.{branch}_scores_unnorm")


@pytest.mark.parametrize("branch", ["clip", "frame"])
def test_nce(golden: Golden, branch: str) -> None:
    arrays, labels = _outputs(golden)
    scores = arrays[f"out_{branch}_scores_unnorm"].requires_grad_()
    loss = nce(scores, labels)
    weight = 0.02 if branch == "clip" else 0.04
    golden.close(weight * loss.detach(), arrays[f"loss_{branch}_nce"], f"small.loss.{branch}_nce")
    golden.close(loss.detach(), arrays[f"loss_{branch}_nce_raw"], f"small.loss.{branch}_nce", scale=1 / weight)
    if branch == "clip":
        loss.backward()
        golden.close_gradient(scores.grad, arrays["dclip_nce_dscores"])


@pytest.mark.parametrize("branch", ["clip", "frame"])
def test_triplet_with_the_hardest_negatives(golden: Golden, branch: str) -> None:
    arrays, labels = _outputs(golden)
    scores = arrays[f"out_{branch}_scores"].requires_grad_()
    loss = triplet(scores, labels, 0.2, hard=True, pool=1)
    golden.close(loss.detach(), arrays[f"loss_{branch}_trip"], f"small.loss.{branch}_trip")
    if branch == "clip":
        loss.backward()
        golden.close_gradient(scores.grad, arrays["dclip_trip_dscores"])


@pytest.mark.parametrize(("mode", "options"), [("easy", {"hard": False}), ("hard_pool3", {"hard": True, "pool": 3})])
def test_random_negatives_have_the_released_distribution(golden: Golden, mode: str, options: dict) -> None:
    arrays, labels = _outputs(golden)
    generator = torch.Generator().manual_seed(5)
    for place, branch in enumerate(("clip", "frame")):
        scores = arrays[f"out_{branch}_scores"]
        draws = torch.stack([triplet(scores, labels, 0.2, generator=generator, **options) for _ in range(4000)])
        # both means are of 4000 draws, so their difference has sqrt(2) of one's standard error; five of them never happen by chance
        assert abs(draws.mean() - arrays[f"trip_{mode}_mean"][place]) < 5 * 2**0.5 * arrays[f"trip_{mode}_sem"][place]
        assert draws.min() >= arrays[f"trip_{mode}_min"][place] - 0.05
        assert draws.max() <= arrays[f"trip_{mode}_max"][place] + 0.05


@pytest.mark.parametrize("branch", ["clip", "frame"])
def test_at_full_size(golden: Golden, branch: str) -> None:
    arrays = golden("big768")
    labels = arrays["in_text_labels"]
    weight = {"clip": 0.05, "frame": 0.04}[branch]
    loss = weight * nce(arrays[f"out_{branch}_scores_unnorm"], labels)
    golden.close(loss, arrays[f"loss_{branch}_nce"], f"big.loss.{branch}_nce")
    loss = triplet(arrays[f"out_{branch}_scores"], labels, 0.1, hard=True, pool=1)
    golden.close(loss, arrays[f"loss_{branch}_trip"], f"big.loss.{branch}_trip")
