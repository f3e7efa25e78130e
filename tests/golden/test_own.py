"""The production code against golden arrays of this project's own making (make_own.py): what a clone without ../shared proves.

Allowed is ten times the error that the same literal form makes in float32, and never less than ten roundings of the largest value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.clips.context import choose, levels_of, ratio, similarities
from pipeline.clips.op_tome import op_tome
from pipeline.clips.pooling import average_to_fixed_length
from pipeline.config.objectives import Objectives
from pipeline.models.base import Dims
from pipeline.models.cpu import kernels
from pipeline.models.msc import DualBranch
from pipeline.objectives import cbva, tcpl
from pipeline.objectives.nce import nce
from pipeline.objectives.triplet import triplet
from pipeline.ranking.metrics import ranks, recalls
from pipeline.training.optimizer import BertAdam, schedule
from tests.golden import make_own, released_model
from tests.golden.arrays import FACTOR
from tests.golden.make_own import FILES, FOLDER

LEVELS = [32, 20, 12, 8, 5]
ROUNDING = 2.0**-24  # of float32, relative
KEYS = ("R@1", "R@5", "R@10", "R@100", "SumR")


class Own:
    """One file: `own.given` its inputs, `own.close(value, name)` compares an output."""

    def __init__(self, name: str) -> None:
        with np.load(FOLDER / f"{name}.npz") as stored:
            self.stored = {key: stored[key] for key in stored.files}

    @property
    def given(self) -> dict[str, np.ndarray]:
        return {name.removeprefix("in/"): value for name, value in self.stored.items() if name.startswith("in/")}

    def tensor(self, name: str) -> Tensor:
        return torch.from_numpy(self.stored[f"in/{name}"])

    def expected(self, name: str) -> np.ndarray:
        return self.stored[f"out/{name}"]

    def close(self, ours: Any, name: str) -> None:
        ours = np.asarray(ours.detach() if isinstance(ours, Tensor) else ours, dtype=np.float64)
        theirs = self.expected(name)
        assert ours.shape == theirs.shape, name
        allowed = FACTOR * max(float(self.stored[f"noise/{name}"]), ROUNDING * float(np.abs(theirs).max()))
        assert np.abs(ours - theirs).max() <= allowed, f"{name}: {np.abs(ours - theirs).max():.2e}, allowed {allowed:.2e}"

    def equal(self, ours: Any, name: str) -> None:
        np.testing.assert_array_equal(np.asarray(ours), self.expected(name), err_msg=name)


@pytest.mark.parametrize("name", FILES)
def test_the_literal_forms_still_give_these_files(name: str) -> None:
    stored, made = Own(name).stored, make_own.make(name)
    assert stored.keys() == made.keys()
    for key, value in stored.items():
        if key.startswith("noise/"):
            continue  # of float32, another processor rounds otherwise
        if value.dtype.kind == "f" and key.startswith("out/"):
            # float64 sums in another order, then perhaps the last bit of the float32 it is stored as
            np.testing.assert_allclose(made[key], value, rtol=2e-7, atol=1e-9 * float(np.abs(value).max()), err_msg=key)
        else:
            np.testing.assert_array_equal(made[key], value, err_msg=key)


def test_the_files_are_small_and_their_noise_is_float32s() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.npz")) < 300_000
    assert {path.stem for path in FOLDER.glob("*.npz")} == set(FILES)
    for name in FILES:
        stored = Own(name).stored
        for key in (key for key in stored if key.startswith("noise/")):
            largest = float(np.abs(stored[key.replace("noise/", "out/")]).max())
            assert float(stored[key]) <= 1e-4 * largest, f"{name} {key}: a tolerance that would let a fault pass"


def test_pooling() -> None:
    own = Own("pooling")
    for name, rows in own.given.items():
        for rule in ("drop", "keep"):
            own.close(average_to_fixed_length(rows, 128, rule), f"{rule}/{name}")


@pytest.mark.parametrize("case", ["plain", "spread", "ties"])
def test_op_tome(case: str) -> None:
    own = Own("op_tome")
    found = op_tome(own.tensor(case)[None], [80, 52, 32])
    own.equal(found.frame_to_clip[0], f"{case}/frame_to_clip")
    own.close(found.sizes[0], f"{case}/sizes")
    own.close(found.clips[0], f"{case}/clips")


def test_contexts() -> None:
    own = Own("contexts")
    clips, sizes = own.tensor("clips"), own.tensor("sizes")
    similar = similarities(clips)
    for kind in ("closure", "pairs"):
        own.close(torch.stack([ratio(similar, tau, kind) for tau in make_own.TAUS], dim=1), kind)
    assert len(np.unique(own.expected("closure"))) > 5, "ratios of every size"
    own.equal(levels_of(clips, sizes, LEVELS).transpose(0, 1), "assignments")


LOSSES: dict[str, tuple[str, Callable[[Tensor, Own], Tensor]]] = {
    "nce": ("dot", lambda x, own: nce(x, own.tensor("labels"))),
    "triplet": ("cosine", lambda x, own: triplet(x, own.tensor("labels"), 0.2, hard=True, pool=1)),
    "tcpl_distance": ("student", lambda x, own: tcpl.distance(x, own.tensor("teacher"))),
    "tcpl_angle": ("student", lambda x, own: tcpl.angle(x, own.tensor("teacher"))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients(name: str) -> None:
    own = Own("losses")
    of, value = LOSSES[name]
    at = own.tensor(of).requires_grad_()
    loss = value(at, own)
    own.close(loss, name)
    own.close(torch.autograd.grad(loss, at)[0], f"{name}/gradient")


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8])
def test_cbva_at_every_level(share: float) -> None:
    own = Own("losses")
    frames, tokens = (own.tensor(name).requires_grad_() for name in ("frames", "tokens"))
    level = choose(torch.full((3,), share), len(LEVELS))
    context = levels_of(own.tensor("frozen"), own.tensor("sizes"), LEVELS)[level, torch.arange(3)]
    loss = cbva.loss(frames, tokens, own.tensor("sizes"), own.tensor("frame_to_clip"), context)
    own.close(loss, f"cbva{share}")
    if f"out/cbva{share}/by_frames" in own.stored:
        by_frames, by_tokens = torch.autograd.grad(loss, [frames, tokens])
        own.close(by_frames, f"cbva{share}/by_frames")
        own.close(by_tokens, f"cbva{share}/by_clips")


@pytest.mark.parametrize("name", ["clip", "frame", "fused", "tied"])
def test_ranks_and_recalls(name: str) -> None:
    own = Own("ranking")
    given = own.given
    scores = 0.4 * given["clip"].astype(float) + 0.6 * given["frame"].astype(float) if name == "fused" else given[name]
    found = ranks(scores, given["truth"])
    own.equal(found, f"{name}/ranks")
    measured = recalls(found)
    own.close([measured[key] for key in KEYS], f"{name}/recalls")


def test_optimiser_and_schedule() -> None:
    own = Own("optimizer")
    np.testing.assert_allclose(
        [schedule(step, make_own.TOTAL, make_own.WARMUP) for step in range(15)], own.expected("schedule"), atol=1e-12
    )
    named = {name: torch.nn.Parameter(own.tensor(name)) for name in ("weight", "bias")}
    optimizer = BertAdam(named.items(), lambda name: name != "bias", learning_rate=1e-2, total_steps=make_own.TOTAL, warmup=make_own.WARMUP)
    values: dict[str, list[Tensor]] = {"weight": [], "bias": []}
    for step in range(6):
        for name, parameter in named.items():
            parameter.grad = own.tensor(f"by_{name}")[step].clone()
        optimizer.step()
        for name, parameter in named.items():
            values[name].append(parameter.detach().clone())
    for name, steps in values.items():
        own.close(torch.stack(steps), name)


@pytest.fixture(params=["hand-written", "plain"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of the encoder layer: the CPU's, and the one a GPU or torch.compile uses."""
    if request.param == "plain":
        monkeypatch.setattr(kernels, "fast", lambda _: False)
    return request.param


BATCH = {
    "in_frame_video_features": "frames",
    "in_clip_video_features": "clips",
    "in_merge_size": "sizes",
    "in_merged_frame_label": "frame_to_clip",
    "in_text_feat": "words",
    "in_text_mask": "word_mask",
    "in_text_labels": "labels",
}
OBJECTIVES = Objectives.model_validate({"triplet": {"margin": 0.2, "hard_pool": 1}})


def _model() -> tuple[Own, DualBranch, dict[str, Tensor]]:
    own = Own("model")
    model = DualBranch(make_own.SETTINGS, Dims(make_own.VIDEO, make_own.TEXT)).eval()
    model.load_state_dict({n.removeprefix("weights/"): torch.from_numpy(v) for n, v in own.given.items() if n.startswith("weights/")})
    return own, model, {name: own.tensor(f"batch/{of}") for name, of in BATCH.items()}


def test_encoder_and_whole_loss(form: str) -> None:
    own, model, inputs = _model()
    frames, clips, query = released_model.encode(model, inputs)
    own.close(frames[:2, ::8], "frames")
    own.close(clips, "clips")
    own.close(query, "query")
    loss, terms = released_model.loss(model, inputs, OBJECTIVES, make_own.TERMS["tau"])
    assert len(terms) == 7
    own.close(loss, "loss")
    loss.backward()
    gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in sorted(model.named_parameters())}
    own.close(torch.stack([gradient.norm() for gradient in gradients.values()]), "norms")
    for name in ("token", "alignment.weight", "query.pooling.linear.weight"):
        own.close(gradients[name], f"gradient/{name}")


def test_steps_of_training(form: str) -> None:
    own, model, inputs = _model()
    before = {name: value.detach().clone() for name, value in sorted(model.named_parameters())}
    optimizer = BertAdam(
        model.named_parameters(),
        model.decays,
        learning_rate=make_own.RATE,
        total_steps=make_own.TOTAL,
        warmup=make_own.WARMUP,
        weight_decay=0.01,
    )
    losses = []
    for _ in range(make_own.STEPS):
        optimizer.zero_grad()
        loss, _ = released_model.loss(model, inputs, OBJECTIVES, make_own.TERMS["tau"])
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    own.close(losses, "losses")
    moved = [(value.detach() - before[name]).norm() for name, value in sorted(model.named_parameters()) if not make_own.idle(name)]
    own.close(torch.stack(moved), "moved")
    own.close(model.alignment.weight, "alignment.weight")
