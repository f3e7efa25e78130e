"""Several relevant videos a query: the measures against a loop over a sorted list, one query at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.ranking.relevance import per_query, relevant_ranks, summary

K = (1, 5, 10, 100)


def literal(scores: np.ndarray, relevant: list[set[int]]) -> dict[str, float]:
    """Sort each query's videos, walk down the list."""
    rows = []
    for row, wanted in zip(scores, relevant, strict=True):
        if not wanted:
            continue
        order = sorted(range(len(row)), key=lambda v: (-row[v], v))
        hits, precisions = 0, []
        for position, video in enumerate(order, start=1):
            if video in wanted:
                hits += 1
                precisions.append(hits / position)
        found = {f"any R@{k}": float(bool(wanted & set(order[:k]))) for k in K}
        found |= {f"coverage@{k}": len(wanted & set(order[:k])) / len(wanted) for k in K}
        rows.append({**found, "mAP": sum(precisions) / len(wanted)})
    means = {key: 100 * float(np.mean([row[key] for row in rows])) for key in rows[0]}
    return means | {"any SumR": sum(means[f"any R@{k}"] for k in K)}


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_the_loop(seed: int) -> None:
    """Equal scores, unsorted pairs, queries without any relevant video, more relevant videos than the cut-off."""
    random = np.random.default_rng(seed)
    scores = random.integers(0, 12, (23, 140)).astype(np.float32)
    relevant = [set(random.choice(140, size=size, replace=False).tolist()) for size in random.integers(0, 9, 23)]
    pairs = [(query, video) for query, videos in enumerate(relevant) for video in videos]
    random.shuffle(pairs)
    table = torch.tensor(pairs)
    measured = per_query(relevant_ranks(torch.from_numpy(scores), table), table[:, 0].numpy(), 23)
    assert measured["relevant"].tolist() == [len(videos) for videos in relevant]
    assert summary(measured) == pytest.approx(literal(scores, relevant))


def test_one_relevant_video_each_is_the_ordinary_recall() -> None:
    from pipeline.ranking.metrics import ranks, recalls

    scores, truth = torch.rand(50, 30), torch.randint(30, (50,))
    pairs = torch.stack([torch.arange(50), truth], 1)
    found = summary(per_query(relevant_ranks(scores, pairs), pairs[:, 0].numpy(), 50))
    ordinary = recalls(ranks(scores, truth))
    for k in K:
        assert found[f"any R@{k}"] == pytest.approx(found[f"coverage@{k}"]) == pytest.approx(ordinary[f"R@{k}"])


def test_no_relevant_video_at_all_is_no_measure() -> None:
    pairs = torch.zeros(0, 2, dtype=torch.int64)
    measured = per_query(relevant_ranks(torch.rand(3, 4), pairs), pairs[:, 0].numpy(), 3)
    assert np.isnan(measured["AP"]).all()
    with pytest.raises(ValueError, match="no query has a relevant video"):
        summary(measured)
