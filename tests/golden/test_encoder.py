"""The encoder against the released code's outputs, from the released parameter names."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config import Model
from pipeline.model import kernels
from pipeline.model.dual_branch import DualBranch
from pipeline.model.layers import gaussian_window
from pipeline.model.released_names import from_released, to_released

FLOORS = 10  # a port should land within this many noise floors of the released float32 values


@pytest.fixture(scope="module")
def public(shared: Path) -> Path:
    return Path(os.environ.get("PRVR_GOLDEN", shared / "golden" / "public"))


@pytest.fixture(scope="module")
def floor(public: Path) -> dict:
    return json.loads((public / "noise_floor.json").read_text())


@pytest.fixture(scope="module")
def small(public: Path) -> tuple[DualBranch, dict, dict]:
    weights, inputs, outputs = (dict(np.load(public / f"small_{name}.npz")) for name in ("weights", "inputs", "outputs"))
    words, hidden = weights["query_pos_embed.position_embeddings.weight"].shape
    video, text = (weights[f"{name}_input_proj.LayerNorm.weight"].shape[0] for name in ("frame", "query"))
    model = DualBranch(Model(hidden=hidden, heads=4, consolidation_temperature=0.6, max_words=words), video, text)
    model.load_state_dict(from_released({name: torch.from_numpy(array) for name, array in weights.items()}))
    return model.eval(), {k: torch.from_numpy(v) for k, v in inputs.items() if k.startswith("in_")}, outputs


def big_weights(stored: dict, seed: int) -> dict[str, torch.Tensor]:
    """The published recipe of golden/README.md: weights of the official sizes from a numpy seed."""
    state = np.random.RandomState(seed)  # the recipe names this generator
    weights = {}
    for name, text in sorted(zip(stored["weight_names"], stored["weight_shapes"], strict=True)):
        shape = tuple(int(n) for n in str(text).replace("x", ",").strip("()[],").split(","))
        z = state.standard_normal(shape)
        if name.endswith(("LayerNorm.weight", "norm1.weight", "norm2.weight")):
            z = 1 + 0.1 * z
        elif name.endswith("position_embeddings.weight"):
            z = 0.5 * z
        elif name != "weight_token":
            z = 0.05 * z if z.ndim == 1 else z / np.sqrt(shape[1])
        weights[str(name)] = torch.from_numpy(z.astype(np.float32))
    return weights


@pytest.fixture(scope="module")
def big(public: Path) -> tuple[DualBranch, dict]:
    stored = dict(np.load(public / "big768.npz"))
    candidates = (big_weights(stored, seed) for seed in (1011, 7323))
    first = stored["weight_first"]
    names = [str(name) for name in stored["weight_names"]]
    weights = next(w for w in candidates if all(float(w[name].flatten()[0]) == value for name, value in zip(names, first, strict=True)))
    model = DualBranch(Model(consolidation_temperature=0.09), 768, 768)
    model.load_state_dict(from_released(weights))
    return model.eval(), stored


@pytest.fixture(params=["hand-written", "plain"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of the encoder layer: the CPU one, and the one a GPU or torch.compile uses."""
    if request.param == "plain":
        monkeypatch.setattr(kernels, "fast", lambda _: False)
    return request.param


def near(found: torch.Tensor, expected: np.ndarray, limit: float) -> None:
    difference = np.abs(found.detach().numpy().astype(np.float64) - expected).max()
    assert difference <= FLOORS * limit, f"{difference:.3g} from the released values, {FLOORS} x {limit:.3g} allowed"


def test_small_outputs(small, floor, form) -> None:
    model, inputs, outputs = small
    tokens = model.encode_video(inputs["in_frame_video_features"], inputs["in_clip_video_features"], inputs["in_merge_size"])
    near(tokens.frames, outputs["out_enc_frame"], floor["small.enc_frame"])
    near(tokens.clips, outputs["out_enc_clip"], floor["small.enc_clip"])
    near(model.project(tokens.frames), outputs["out_vproj_frame"], floor["small.vproj_frame"])
    near(model.project(tokens.clips), outputs["out_vproj_clip"], floor["small.vproj_clip"])
    words, mask = inputs["in_text_feat"], inputs["in_text_mask"]
    near(model.encode_query(words, mask), outputs["out_query"], floor["small.query"])
    near(model.query.words(words, mask), outputs["out_query_tokens"], floor["small.query_tokens"])


def test_small_intermediates(small, floor, public, form) -> None:
    model, inputs, _ = small
    expected = np.load(public / "small_intermediate.npz")
    for branch, rows, bias in (
        ("frame", inputs["in_frame_video_features"], None),
        ("clip", inputs["in_clip_video_features"], inputs["in_merge_size"].log()),
    ):
        part = getattr(model, branch)
        embedded = part.positions(part.projection(rows))
        near(embedded, expected[f"{branch}_embed"], floor[f"small.enc_{branch}"])
        for k, found in enumerate(part.block.branches(embedded, bias)):
            near(found[0], expected[f"{branch}_attn{k}_v0"], floor[f"small.enc_{branch}"])


def test_gaussian_windows(public) -> None:
    expected = np.load(public / "small_intermediate.npz")
    names = [name for name in expected.files if name.startswith("gauss")]
    assert len(names) == 9
    for name in names:
        length, width = name.removeprefix("gauss").split("_w")
        # The released form rounds positions in [0, 1] to float32 (6e-8) before dividing by the Gaussian's spread, width / 9.
        limit = 1e-7 + 6e-8 * 9 / float(width)
        assert np.abs(gaussian_window(int(length), float(width)).numpy() - expected[name]).max() < limit, name


def test_published_size_outputs(big, floor, form) -> None:
    model, stored = big
    stored = {k: torch.from_numpy(v) if k.startswith("in_") else v for k, v in stored.items()}
    with torch.no_grad():
        tokens = model.encode_video(stored["in_frame_video_features"], stored["in_clip_video_features"], stored["in_merge_size"])
        near(tokens.frames, stored["out_enc_frame"], floor["big.enc_frame"])
        near(tokens.clips, stored["out_enc_clip"], floor["big.enc_clip"])
        near(model.project(tokens.clips), stored["out_vproj_clip"], floor["big.vproj_clip"])
        near(model.encode_query(stored["in_text_feat"], stored["in_text_mask"]), stored["out_query"], floor["big.query"])


def test_released_names_both_ways(public) -> None:
    weights = dict(np.load(public / "small_weights.npz"))
    ours = from_released(weights)
    assert len(ours) == len(weights) == 299
    back = to_released(ours)
    assert set(back) == set(weights)
    assert all(back[name] is weights[name] for name in weights)
    model = DualBranch(Model(hidden=32, heads=4, max_words=16), 64, 48)
    assert set(ours) == set(model.state_dict())
    assert {name for name, _ in model.named_parameters()} == set(ours)
