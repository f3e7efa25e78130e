"""Cross-branch video alignment: the literal form, both variants, stop-gradients, extreme logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from benchmarks import literal
from pipeline.clips.context import choose, levels_of
from pipeline.objectives import cbva

SEEDS = st.integers(0, 10_000)
LEVELS = [32, 20, 12, 8, 5]


def _batch(seed: int, videos: int = 3, std: float = 1.0, dtype: torch.dtype = torch.float64) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Arguments of cbva.loss, frozen clip rows, and the ratios the contexts were chosen by."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 1 + torch.stack([torch.bincount(torch.randint(32, (96,), generator=generator), minlength=32) for _ in range(videos)])
    frame_to_clip = torch.stack([torch.arange(32).repeat_interleave(row) for row in sizes])
    frozen = torch.randn(videos, 32, 5, generator=generator, dtype=dtype)
    ratios = torch.rand(videos, generator=generator)
    level = choose(ratios, 5)
    batch = {
        "frames": std * torch.randn(videos, 128, 4, generator=generator, dtype=dtype),
        "clips": torch.randn(videos, 32, 4, generator=generator, dtype=dtype),
        "sizes": sizes.to(dtype),
        "frame_to_clip": frame_to_clip,
        "context": levels_of(frozen, sizes.to(dtype), LEVELS)[level, torch.arange(videos)],
    }
    return batch, frozen, ratios


def _graded(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.clone().requires_grad_() if k in ("frames", "clips") else v for k, v in batch.items()}


@settings(max_examples=12)
@given(SEEDS)
def test_equals_the_literal_form(seed: int) -> None:
    batch, frozen, ratios = _batch(seed)
    ours, theirs = _graded(batch), _graded(batch)
    loss = cbva.loss(**ours)
    expected = literal.cbva(theirs["frames"], theirs["clips"], frozen, theirs["sizes"], theirs["frame_to_clip"], ratios.tolist())
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours["frames"].grad, theirs["frames"].grad)
    torch.testing.assert_close(ours["clips"].grad, theirs["clips"].grad)


def _written(batch: dict[str, Tensor]) -> Tensor:
    """The paper's form, video by video: cosines, sums over all, no stop-gradient (docs/method.md 6.6)."""
    losses = []
    for frames, clips, sizes, frame_to_clip, context in zip(*batch.values(), strict=True):
        count = int(context.max()) + 1
        merged = torch.stack([(sizes[context == k, None] * clips[context == k]).sum(0) / sizes[context == k].sum() for k in range(count)])
        similar = normalize(frames, dim=1) @ normalize(merged, dim=1).T
        own = context[frame_to_clip][:, None] == torch.arange(count)
        to_context = -(similar[own].exp() / similar.exp().sum(1)).log().mean()
        to_frame = -((similar.exp() * own).sum(0) / similar.exp().sum(0)).log().mean()
        losses.append(to_context + to_frame)
    return torch.stack(losses).mean()


@given(SEEDS)
def test_the_paper_variant_is_its_equations(seed: int) -> None:
    batch, _, _ = _batch(seed)
    ours, theirs = _graded(batch), _graded(batch)
    loss, expected = cbva.loss(**ours, similarity="cosine", normaliser="sum", stop_gradient=False, epsilon=0.0), _written(theirs)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours["frames"].grad, theirs["frames"].grad)
    torch.testing.assert_close(ours["clips"].grad, theirs["clips"].grad)


def test_unmerged_contexts_are_the_naive_form() -> None:
    batch, _, _ = _batch(0)
    batch["context"] = torch.arange(32).expand(3, 32)
    torch.testing.assert_close(cbva.loss(**batch), cbva.loss(**{**batch, "context": None}))


@given(SEEDS, st.sampled_from(["dot", "cosine"]), st.sampled_from(["mean", "sum"]))
def test_the_gradients_are_right(seed: int, similarity: str, normaliser: str) -> None:
    batch, _, _ = _batch(seed, videos=1)
    small = {**batch, "frames": batch["frames"][:, ::8], "frame_to_clip": batch["frame_to_clip"][:, ::8]}
    small["context"] = small["frame_to_clip"].new_zeros(1, 32) + torch.arange(32) % 2  # both contexts keep frames
    options: dict[str, Any] = {"similarity": similarity, "normaliser": normaliser, "stop_gradient": False, "epsilon": 0.0}

    def of(frames: Tensor, clips: Tensor) -> Tensor:
        return cbva.loss(frames, clips, small["sizes"], small["frame_to_clip"], small["context"], **options)

    assert torch.autograd.gradcheck(of, (small["frames"].requires_grad_(), small["clips"].requires_grad_()), fast_mode=True)


def test_stop_gradients_train_one_branch_each() -> None:
    batch, _, _ = _batch(1)
    own = batch["context"].gather(1, batch["frame_to_clip"])[:, :, None] == torch.arange(32)
    graded = _graded(batch)
    merged, exists = cbva.merge(graded["clips"], graded["sizes"], graded["context"])
    logits = graded["frames"] @ merged.detach().mT
    cbva._frames_to_contexts(logits, own, exists, "mean", 1e-8).mean().backward()
    whole = _graded(batch)
    cbva.loss(**whole).backward()
    torch.testing.assert_close(whole["frames"].grad, graded["frames"].grad)
    assert graded["clips"].grad is None


@pytest.mark.parametrize("options", [{}, {"normaliser": "sum", "stop_gradient": False, "epsilon": 0.0}])
@pytest.mark.parametrize("std", [20.0, 50.0, 1000.0])
def test_large_logits_do_not_overflow(std: float, options: dict) -> None:
    batch, _, _ = _batch(2, std=std, dtype=torch.float32)
    graded = _graded(batch)
    loss = cbva.loss(**graded, **options)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(graded["frames"].grad).all()
    assert torch.isfinite(graded["clips"].grad).all()
    exact = cbva.loss(**{k: v.double() if v.is_floating_point() else v for k, v in batch.items()}, **options)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("options", [{}, {"normaliser": "sum", "epsilon": 0.0}])
def test_a_single_context_has_nothing_to_tell_apart(options: dict) -> None:
    batch, _, _ = _batch(3)
    graded = _graded({**batch, "context": torch.zeros(3, 32, dtype=torch.long)})
    loss = cbva.loss(**graded, **options)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert torch.isfinite(graded["frames"].grad).all()
    assert torch.isfinite(graded["clips"].grad).all()


def test_stored_types_and_one_video() -> None:
    batch, _, _ = _batch(4)
    stored = {**batch, "frame_to_clip": batch["frame_to_clip"].to(torch.uint8), "context": batch["context"].to(torch.uint8)}
    torch.testing.assert_close(cbva.loss(**stored), cbva.loss(**batch))
    alone = [cbva.loss(**{k: v[i : i + 1] for k, v in batch.items()}) for i in range(3)]
    torch.testing.assert_close(torch.stack(alone).mean(), cbva.loss(**batch))
