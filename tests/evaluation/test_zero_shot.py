"""Zero-shot max-sim against the literal loop over videos and rows."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.clips.pooling import average_to_fixed_length
from pipeline.evaluation import zero_shot


def test_max_sim_equals_the_loop_whatever_the_lengths_and_order(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    videos = [f"v{i}" for i in range(7)]
    rows = {v: random.standard_normal((n, 5)).astype(np.float32) for v, n in zip(videos, (1, 9, 4, 200, 3, 130, 2), strict=True)}
    sentences, truth = torch.from_numpy(random.standard_normal((11, 5)).astype(np.float32)), torch.arange(11) % 7
    middle = {v: np.arange(len(r)) * 2.0 + 1.0 for v, r in rows.items()}
    monkeypatch.setattr(zero_shot, "VIDEOS_AT_ONCE", 3)
    found = zero_shot.max_sim(sentences, truth, videos, ((v, rows[v], middle[v]) for v in reversed(videos)))

    def cosine(array: np.ndarray) -> torch.Tensor:
        return F.normalize(sentences, dim=-1) @ F.normalize(torch.from_numpy(array), dim=-1).T

    torch.testing.assert_close(found.rows, torch.stack([cosine(rows[v]).amax(1) for v in videos], 1), atol=1e-6, rtol=0)
    pooled = torch.stack([cosine(average_to_fixed_length(rows[v], 128)).amax(1) for v in videos], 1)
    torch.testing.assert_close(found.pooled, pooled, atol=1e-6, rtol=0)
    expected = [middle[videos[t]][int(cosine(rows[videos[t]])[q].argmax())] for q, t in enumerate(truth.tolist())]
    assert found.best_time.tolist() == expected


def test_a_video_without_rows_ranks_last() -> None:
    found = zero_shot.max_sim(torch.ones(2, 3), torch.tensor([0, 1]), ["a", "b"], iter([("b", -np.ones((2, 3), np.float32), np.zeros(2))]))
    assert found.rows[:, 0].tolist() == [-1.0, -1.0]
    assert np.isnan(found.best_time[0])


def test_of_equal_rows_the_first_is_the_best() -> None:
    """Rows that differ in length alone, their padding, and two equal rows in the middle of a video whose first row is worse."""
    sentence = torch.tensor([[1.0, 0.0]])
    long = -np.ones((9, 2), np.float32)
    for rows, best in (([[1, 0], [1, 0]], 0), ([[1, 0], [2, 0], [4, 0]], 0), ([[0, 1], [1, 0], [1, 0]], 1), ([[0, 1], [0, 1], [1, 0]], 2)):
        middle = np.arange(len(rows)) * 2.0 + 1.0
        given = [("short", np.array(rows, np.float32), middle), ("long", long, np.arange(9.0))]
        found = zero_shot.max_sim(sentence, torch.tensor([0]), ["short", "long"], iter(given))
        assert found.best_time.tolist() == [middle[best]]


def test_a_copy_that_comes_out_higher_stands_for_the_first_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """One matrix product may round two equal rows differently; the padding of a short video was then a row it does not have."""
    cosines = zero_shot.token_cosines
    monkeypatch.setattr(
        zero_shot, "token_cosines", lambda q, tokens: cosines(q, tokens) + 1e-7 * torch.arange(tokens.shape[1], dtype=torch.float32)
    )
    given = [("short", np.ones((2, 2), np.float32), np.array([1.0, 3.0])), ("long", np.ones((9, 2), np.float32), np.arange(9.0))]
    found = zero_shot.max_sim(torch.ones(1, 2), torch.tensor([0]), ["short", "long"], iter(given))
    assert found.best_time.tolist() == [1.0]
