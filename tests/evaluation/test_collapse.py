"""The collapse measures against their literal definitions over all pairs."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

from pipeline.evaluation import collapse


def off_diagonal(rows: torch.Tensor) -> float:
    rows = F.normalize(rows.double(), dim=-1)
    similarity = rows @ rows.T
    return float(similarity[~torch.eye(len(rows), dtype=torch.bool)].mean())


def test_text_structure_equals_the_pair_means() -> None:
    torch.manual_seed(0)
    queries, videos = torch.randn(20, 5), torch.tensor([0] * 7 + [1] * 4 + [3] * 8 + [4])
    found = collapse.text_structure(queries, videos)
    assert found["intra"] == pytest.approx(np.mean([off_diagonal(queries[videos == v]) for v in (0, 1, 3)]), abs=1e-12)
    assert found["total"] == pytest.approx(off_diagonal(queries), abs=1e-12)
    assert found["diff_norm"] == pytest.approx((found["intra"] - found["total"]) / (found["intra"] + found["total"]))


def test_video_structure_equals_the_pair_means_in_both_readings() -> None:
    torch.manual_seed(1)
    tokens = torch.randn(30, 40, 6) + 0.5
    found = collapse.video_structure(tokens)
    assert found["intra"] == pytest.approx(np.mean([off_diagonal(video) for video in tokens]), abs=1e-12)
    assert found["total"] == pytest.approx(off_diagonal(tokens.flatten(0, 1)), abs=1e-12)
    rows = F.normalize(tokens[:, :32].flatten(0, 1).double(), dim=-1)
    block = torch.arange(len(rows)) // 400
    assert found["total_released"] == pytest.approx(float((rows @ rows.T)[block[:, None] != block].mean()), abs=1e-12)


def test_padding_is_no_token_of_a_video() -> None:
    torch.manual_seed(2)
    tokens, count = torch.randn(5, 40, 6) + 0.5, torch.tensor([40, 3, 1, 33, 20])
    kept = [video[:n] for video, n in zip(tokens, count.tolist(), strict=True)]
    found = collapse.video_structure(tokens, count)
    assert found["intra"] == pytest.approx(np.mean([off_diagonal(video) for video in kept if len(video) > 1]), abs=1e-12)
    assert found["total"] == pytest.approx(off_diagonal(torch.cat(kept)), abs=1e-12)


def test_the_released_total_is_not_a_number_in_one_block() -> None:
    found = collapse.video_structure(torch.randn(12, 32, 4))
    assert [math.isnan(found[key]) for key in ("total_released", "diff_norm_released", "total")] == [True, True, False]


def test_single_captions_have_no_intra_similarity() -> None:
    assert math.isnan(collapse.text_structure(torch.randn(3, 4), torch.arange(3))["intra"])


def test_spearman_equals_scipy_and_says_how_many_queries_it_used() -> None:
    torch.manual_seed(2)
    student, teacher = torch.randn(25, 4), torch.randn(25, 6)
    above = torch.triu_indices(25, 25, 1)
    cosines = [(F.normalize(x, dim=-1) @ F.normalize(x, dim=-1).T)[above[0], above[1]] for x in (student, teacher)]
    found = collapse.spearman(student, teacher)
    assert found["spearman"] == pytest.approx(spearmanr(*cosines).statistic, abs=1e-6)
    assert found["queries"] == 25
    assert collapse.spearman(student, student * 3)["spearman"] == pytest.approx(1.0)
    assert collapse.spearman(student, teacher, limit=10)["queries"] == 10
    assert math.isnan(collapse.spearman(student[:2], teacher[:2])["spearman"])


def test_against_counts_the_four_cells_and_the_losers() -> None:
    found = collapse.against(torch.tensor([1, 1, 7, 30, 2]), torch.tensor([1, 5, 1, 1, 9]))
    assert found["R@1"] == {
        "both": 20.0,
        "only_ours": 20.0,
        "only_reference": 40.0,
        "neither": 20.0,
        "our_rank_where_we_lost": 18.5,
        "reference_rank_where_it_lost": 5.0,
    }
    assert found["R@10"]["reference_rank_where_it_lost"] is None
