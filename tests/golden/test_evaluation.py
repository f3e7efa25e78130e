"""Ranks, recalls and the similarity structure against the arrays of the released code."""

import numpy as np
import pytest
import torch

from pipeline.evaluation import collapse
from pipeline.ranking.metrics import ranks, recalls
from tests.golden.arrays import FACTOR, Golden, golden

__all__ = ["golden"]

KEYS = ("R@1", "R@5", "R@10", "R@100", "SumR")


def test_ranks_and_recalls_of_every_branch(golden: Golden) -> None:
    with np.load(golden.folder / "f_eval.npz") as z:
        truth = z["gt_video_index"]
        scores = {"clip": z["clip_scores"], "frame": z["frame_scores"], "fused": 0.4 * z["clip_scores"] + 0.6 * z["frame_scores"]}
        np.testing.assert_allclose(scores["fused"], z["fused"], rtol=0, atol=2e-7)
        for branch, matrix in scores.items():
            found = ranks(matrix, truth)
            np.testing.assert_array_equal(found, z[f"ranks_{branch}"])
            np.testing.assert_allclose([recalls(found)[k] for k in KEYS], z[f"metrics_{branch}"], rtol=0, atol=1e-9)


def test_ties_go_to_the_lower_video_index(golden: Golden) -> None:
    with np.load(golden.folder / "f_eval.npz") as z:
        truth = z["gt_video_index"][: len(z["tie_scores"])]
        found = ranks(z["tie_scores"], truth)
        np.testing.assert_array_equal(found, z["tie_ranks_stable"])
        np.testing.assert_allclose([recalls(found)[k] for k in KEYS], z["tie_metrics_stable"], rtol=0, atol=1e-9)


def test_similarity_structure(golden: Golden) -> None:
    with np.load(golden.folder / "g_dist.npz") as z:
        index = {video: i for i, video in enumerate(z["video_metas"])}
        videos = torch.tensor([index[query.split("#")[0]] for query in z["query_metas"]])
        found = {}
        for side, queries, tokens in (("FINE", "student_query", "frame_feat"), ("CLIP", "clip_query", "frozen_clip_feat")):
            text = collapse.text_structure(torch.from_numpy(z[queries]), videos)
            video = collapse.video_structure(torch.from_numpy(z[tokens]))
            found[f"{side} inner video text sim mean"], found[f"{side} total text sim mean"] = text["intra"], text["total"]
            found[f"{side} inner video clip feat sim mean"], found[f"{side} total sim mean"] = video["intra"], video["total_released"]
        assert len(z["names"]) == len(found)
        for name, value in zip(z["names"], z["values"], strict=True):
            assert found[name] == pytest.approx(value, abs=FACTOR * golden.floor[f"dist.{name}"], nan_ok=True), name
