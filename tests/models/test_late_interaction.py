"""The chunked late interaction against its literal form, in values, gradients and the size of what it holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pipeline.models import late_interaction
from pipeline.models.late_interaction import ConfidenceGate, confidence_cosines, confidence_scores


def _literal(words: Tensor, mask: Tensor, gate: Tensor, frames: Tensor, real: Tensor) -> Tensor:
    """[Q, L, H], [V, F, H] -> [Q, V] by way of [Q, V, L, F]."""
    products = torch.einsum("qlh,vfh->qvlf", words, frames) * mask[:, None, :, None] * real[None, :, None, :]
    return (products.amax(-1) * (gate * mask)[:, None]).sum(-1)


def _case(seed: int, queries: int = 7, videos: int = 5, words: int = 6, frames: int = 9) -> tuple[Tensor, ...]:
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, words + 1, (queries,), generator=random)
    counts = torch.randint(1, frames + 1, (videos,), generator=random)
    counts[0] = frames  # one without padding
    return (
        torch.randn(queries, words, 8, generator=random, dtype=torch.float64),
        (torch.arange(words) < lengths[:, None]).double(),
        torch.rand(queries, words, generator=random, dtype=torch.float64),
        torch.randn(videos, frames, 8, generator=random, dtype=torch.float64),
        (torch.arange(frames) < counts[:, None]).double(),
    )


@pytest.mark.parametrize("chunk", [1, 50, 1 << 20])
@pytest.mark.parametrize("shape", [(7, 5, 6, 9), (1, 1, 1, 1), (1, 4, 3, 2), (3, 1, 2, 128)])
def test_values_and_gradients_are_the_literal_ones(chunk: int, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late_interaction, "CHUNK", chunk)
    words, mask, gate, frames, real = _case(3, *shape)
    cotangents = torch.randn(2, shape[0], shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = []
    for chunked in (True, False):
        given = [value.clone().requires_grad_() for value in (words, gate, frames)]
        w, g, f = given
        if chunked:
            scores = confidence_scores(w, mask, (g, g * 2), f, real)
        else:
            scores = (
                _literal(F.normalize(w, dim=-1), mask, g, F.normalize(f, dim=-1), real),
                _literal(w, mask, g * 2, f, real),
            )
        sum((s * c).sum() for s, c in zip(scores, cotangents, strict=True)).backward()
        found.append([*scores, *(value.grad for value in given)])
    for ours, literal in zip(*found, strict=True):
        torch.testing.assert_close(ours, literal, rtol=1e-12, atol=1e-12)
    unit = F.normalize(frames, dim=-1) * real[..., None]
    torch.testing.assert_close(
        confidence_cosines(F.normalize(words, dim=-1), gate * mask, unit), found[1][0].detach(), rtol=1e-12, atol=1e-12
    )


def test_a_video_with_padding_is_never_below_zero() -> None:
    words, frames = torch.ones(1, 2, 4), -torch.ones(2, 3, 4)
    real = torch.tensor([[1.0, 1, 1], [1, 1, 0]])
    gate = torch.full((1, 2), 0.5)
    cosine, dot = confidence_scores(words, torch.ones(1, 2), (gate, gate), frames, real)
    torch.testing.assert_close(cosine, torch.tensor([[-1.0, 0.0]]))
    torch.testing.assert_close(dot, torch.tensor([[-4.0, 0.0]]))


class _Largest(TorchDispatchMode):
    """The number of entries of the largest tensor that any operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        sizes = [leaf.untyped_storage().nbytes() // leaf.element_size() for leaf in tree_leaves(made) if isinstance(leaf, Tensor)]
        self.entries = max([self.entries, *sizes])
        return made


def test_the_tensor_of_queries_videos_words_and_frames_never_exists_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, videos, words, frames = 24, 16, 8, 32
    monkeypatch.setattr(late_interaction, "CHUNK", 4 * videos * frames)
    given, mask, gate, rows, real = _case(0, queries, videos, words, frames)
    given.requires_grad_()
    rows.requires_grad_()
    with _Largest() as largest:
        cosine, dot = confidence_scores(given, mask, (gate, gate), rows, real)
        (cosine.sum() + dot.sum()).backward()
    inputs = max(given.numel(), rows.numel(), 2 * queries * words * videos)
    assert largest.entries <= inputs < queries * videos * words * frames / 10


def test_the_same_twice_whatever_ties() -> None:
    words, frames = torch.ones(4, 3, 5, requires_grad=True), torch.ones(6, 7, 5, requires_grad=True)
    torch.use_deterministic_algorithms(True)
    try:
        gradients = []
        for _ in range(2):
            words.grad = frames.grad = None
            gate = torch.ones(4, 3) / 3
            sum(score.sum() for score in confidence_scores(words, torch.ones(4, 3), (gate, gate), frames, torch.ones(6, 7))).backward()
            gradients.append((words.grad, frames.grad))
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_gate_sums_to_one_over_the_words_and_is_finite_without_any() -> None:
    gate = ConfidenceGate(4)
    mask = torch.tensor([[1.0, 1, 0], [0, 0, 0]])
    found = gate(torch.randn(2, 3, 4), mask)
    torch.testing.assert_close(found.sum(1), torch.tensor([1.0, 0.0]))
    assert found[0, 2] == 0
