"""HLFormer against its equations written out (benchmarks/literal_hlformer.py), in float64; its sizes; its hazards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks import literal_hlformer
from pipeline.config.methods import HlFormer as Settings
from pipeline.config.objectives import Objectives
from pipeline.core.errors import TrainingError
from pipeline.models.base import Dims, Retriever, Videos, Words
from pipeline.models.cpu import kernels
from pipeline.models.hlformer import HlFormer
from pipeline.objectives.total import Total, step_of

TINY = Settings(hidden=8, heads=2, widths=[None, 2.0], lorentz_width=24, max_words=5, dropout=0.0, input_dropout=0.0)
DIMS = Dims(7, 6, 9, 4)
LOSSES = {"margin": 0.2, "hard": True, "pool": 1, "nce": (0.02, 0.04), "diversity": (0.003, 0.2, 32.0, 1.0), "cones": 1e-3}
OBJECTIVES = Objectives.model_validate(
    {
        "nce": {"clip": 0.02, "frame": 0.04},
        "triplet": {"hard_start_epoch": 0, "hard_pool": 1},
        "tcpl": {"distance": 0, "angle": 0},
        "cbva": {"weight": 0},
        "query_diversity": {"weight": 0.003, "form": "pair"},
        "entailment": {"weight": 1e-3},
    }
)


def model_of(seed: int, settings: Settings = TINY) -> HlFormer:
    """A model whose every parameter is something, the scales not at their bounds."""
    torch.manual_seed(seed)
    model = HlFormer(settings, DIMS).double()
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "weight")):
            nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.3)
    model.cones.log_curvature.data.fill_(0.3)
    return model


def batch_of(seed: int, lengths: tuple[int, ...] = (9, 4, 1), captions: tuple[int, ...] = (3, 1, 2)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def rows(*shape: int) -> Tensor:
        return nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)

    frame_mask = (torch.arange(DIMS.frames) < torch.tensor(lengths)[:, None]).double()
    count = sum(captions)
    word_mask = (torch.arange(TINY.max_words) < torch.randint(1, TINY.max_words + 1, (count, 1), generator=generator)).double()
    return {
        "frames": rows(len(lengths), DIMS.frames, DIMS.video_dim) * frame_mask[..., None],
        "frame_mask": frame_mask,
        "clips": rows(len(lengths), DIMS.clips, DIMS.video_dim),
        "words": rows(count, TINY.max_words, DIMS.text_dim) * word_mask[..., None],
        "word_mask": word_mask,
        "labels": torch.tensor([i for i, n in enumerate(captions) for _ in range(n)]),
    }


def seen(batch: dict[str, Tensor], mask: bool = True) -> tuple[Videos, Words]:
    nobody = torch.zeros(0)
    frame_mask = batch["frame_mask"] if mask else None
    return Videos(batch["frames"], batch["clips"], nobody, nobody, nobody, frame_mask), Words(batch["words"], batch["word_mask"])


def terms_of(model: Retriever, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    total = Total(OBJECTIVES)
    total.check(model, teacher=False)
    step = step_of(model, *seen(batch), batch["labels"], None, needs=total.needs, epoch=0)
    return {name: value for objective in total.objectives.values() for name, value in objective(step).items()}


@pytest.mark.parametrize(("seed", "plain"), [(0, False), (1, False), (0, True)])
def test_outputs_losses_and_gradients_equal_the_literal_form(seed: int, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if plain:
        monkeypatch.setattr(kernels, "fast", lambda _: False)
    model, batch = model_of(seed).train(), batch_of(seed)
    frames, clips, query, again = literal_hlformer.encode(model, batch)
    videos, words = seen(batch)
    encoded, asked = model.encode_videos(videos), model.encode_queries(words)
    for ours, theirs in ((encoded["frames"], frames), (encoded["clips"], clips), (asked["pooled"], query), (asked["pooled_again"], again)):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-11)
    parameters = dict(model.named_parameters())
    gradients = []
    for terms in (terms_of(model, batch), literal_hlformer.loss(model, batch, **LOSSES)):
        gradients.append((terms, torch.autograd.grad(sum(terms.values()), list(parameters.values()), allow_unused=True)))
    (ours, mine), (theirs, expected) = gradients
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-12)
    largest = max(g.abs().max() for g in expected if g is not None)
    for name, a, b in zip(parameters, mine, expected, strict=True):
        if a is None or b is None:  # of the consolidation's key bias nothing is left
            assert name.endswith("consolidation.attention.key.bias") or a is b, name
            continue
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-9 * largest.item(), msg=lambda text, name=name: f"{name}: {text}")


def test_the_cone_loss_alone_reaches_curvature_and_scales() -> None:
    model, batch = model_of(2).train(), batch_of(2)
    terms_of(model, batch)["entailment"].backward()
    for name, parameter in model.cones.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_curvature_and_scales_keep_within_their_bounds() -> None:
    model, batch = model_of(3).train(), batch_of(3)
    for value, expected in ((9.0, 10.0), (-9.0, 0.1)):
        model.cones.log_curvature.data.fill_(value)
        model.cones.log_video_scale.data.fill_(1.0)
        terms_of(model, batch)
        assert model.cones.log_curvature.exp().item() == pytest.approx(expected)
        assert model.cones.log_video_scale.item() == 0


@pytest.mark.parametrize(("video", "text", "parameters"), [(3072, 768, 29_911_484), (1024, 1024, 28_429_244)])
def test_parameter_counts(video: int, text: int, parameters: int) -> None:
    """TVR; ActivityNet and Charades. The published count includes the manifold's curvature, a constant, which here is the number -1."""
    with torch.device("meta"):
        model = HlFormer(Settings(max_words=30), Dims(video, text))
    assert sum(p.numel() for p in model.parameters()) + 1 == parameters


def test_what_decays() -> None:
    model = model_of(0)
    kept = {name for name, _ in model.named_parameters() if not model.decays(name)}
    layer = "frame.block.hyperbolic.1"
    for name in (f"{layer}.attention.logit_bias", f"{layer}.attention.inwards.norm.weight", f"{layer}.attention.outwards.norm.weight"):
        assert name in kept
    for name in (
        "cones.log_curvature",
        "cones.log_video_scale",
        f"{layer}.attention.log_scale",
        f"{layer}.attention.logit_scale",
        f"{layer}.attention.query.log_scale",
        f"{layer}.norm1.weight",
    ):
        assert name not in kept


def test_frames_without_a_mask_are_all_real() -> None:
    model, batch = model_of(4).eval(), batch_of(4, lengths=(9, 9, 9))
    masked, bare = (model.encode_videos(seen(batch, mask=mask)[0]) for mask in (True, False))
    for name in ("frames", "clips"):
        torch.testing.assert_close(masked[name], bare[name])
    assert (bare["mask"] == 1).all()


def test_a_video_does_not_depend_on_its_neighbours_nor_on_what_padding_holds() -> None:
    model, batch = model_of(5).eval(), batch_of(5)
    together = model.encode_videos(seen(batch)[0])
    for i in range(3):
        alone = {name: value[i : i + 1] for name, value in batch.items()}
        for name, value in model.encode_videos(seen(alone)[0]).items():
            torch.testing.assert_close(value, together[name][i : i + 1])
    assert (together["frames"][1, 4:] == 0).all()
    assert together["frames"][1, :4].abs().min() > 0


def test_bf16_autocast_and_recompute_stay_near_and_finite() -> None:
    settings = TINY.model_copy(update={"dropout": 0.1, "input_dropout": 0.1})
    model = model_of(6, settings).float().train()
    batch = {name: value if name == "labels" else value.float() for name, value in batch_of(6).items()}
    total, found = Total(OBJECTIVES), []
    for precision, recompute in ((torch.float32, False), (torch.float32, True), (torch.bfloat16, False)):
        model.recompute(recompute)
        torch.manual_seed(0)
        model.zero_grad()
        loss, _ = total(step_of(model, *seen(batch), batch["labels"], None, epoch=0, precision=precision))
        loss.backward()
        found.append((loss.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]))
        assert all(g.isfinite().all() for g in found[-1][1])
    torch.testing.assert_close(found[0][0], found[1][0])
    for a, b in zip(found[0][1], found[1][1], strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(found[0][0], found[2][0], rtol=0.05, atol=0.02)


def test_entailment_without_cones_is_refused() -> None:
    class Other(Retriever):
        provides = HlFormer.provides
        branches = ("clip", "frame")

    with pytest.raises(TrainingError, match=r"objectives\.entailment trains the cones of HLFormer"):
        Total(OBJECTIVES).check(Other(TINY, DIMS), teacher=False)


@pytest.mark.parametrize("changes", [{"lorentz_width": 6, "heads": 4}, {"lorentz_width": 4, "heads": 4}])
def test_a_width_that_leaves_no_space_is_refused_with_the_configuration(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="lorentz_width"):
        Settings.model_validate(changes)
