"""The golden models and batches of ../shared/golden_methods (MS-SL, GMMFormer and GMMFormer v2), sized by the arrays themselves."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import literal
from pipeline.config.methods import GmmFormer, GmmFormerV2, MsSl
from pipeline.config.objectives import Objectives
from pipeline.interchange.released_names import from_released, to_released
from pipeline.models.base import Dims, Retriever, Videos, Words, build
from pipeline.objectives.base import Step
from pipeline.objectives.total import Total, step_of
from tests.golden.arrays import FACTOR, Golden
from tests.golden.released_model import drawn, eval_shape

KINDS = {"ms_sl": MsSl, "gmmformer": GmmFormer, "gmmformer_v2": GmmFormerV2}
FOLDERS = {"mssl": "ms_sl", "gmmformer": "gmmformer", "gmmformer_v2": "gmmformer_v2"}  # folder of the arrays -> kind
TERMS = {
    "nce_clip": "clip_nce",
    "nce_frame": "frame_nce",
    "triplet_clip": "clip_trip",
    "triplet_frame": "frame_trip",
    "query_diversity": "query_diversity",
    "optimal_matching": "optimal_matching",
}


class Method(Golden):
    """The arrays of one method; `close` as for MSC's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kind = FOLDERS[folder.name]

    def text(self, name: str, key: str) -> list[str]:
        """An array of names."""
        with np.load(self.folder / f"{name}.npz") as arrays:
            return [str(value) for value in arrays[key]]

    def gradient(self, ours: Tensor | None, theirs: Tensor, name: str, size: str = "small") -> None:
        """A parameter's gradient relative to its largest entry, within ten of its own floors."""
        assert ours is not None, name
        floor = self.floor[f"{size}.grad.rel"].get(name, self.floor[f"{size}.grad.median_rel"])
        difference = (ours.double() - theirs.double()).abs().max() / theirs.abs().max()
        assert difference <= FACTOR * max(floor, 2.0**-23), f"{name}: {difference:.2e}, floor {floor:.2e}"


def sets(folders: Collection[str] = FOLDERS) -> list[Path]:
    """The folder of each method in every set of golden arrays beside the project."""
    shared = Path(__file__).resolve().parents[2].parent / "shared"
    return sorted(path for path in shared.glob("golden_methods*/*") if path.name in folders and (path / "noise_floor.json").is_file())


def identity(path: Path | None) -> str:
    return f"{path.parent.name}-{path.name}" if path else "absent"


def model(weights: dict[str, Tensor], kind: str, temperature: float = 0.6) -> Retriever:
    """A model of released weights in evaluation mode, padded as the released code pads."""
    words, hidden = weights["query_pos_embed.position_embeddings.weight"].shape
    video, text = (len(weights[f"{name}_input_proj.LayerNorm.weight"]) for name in ("frame", "query"))
    own: dict[str, Any] = {"gmmformer": {"padding": "longest"}, "gmmformer_v2": {"consolidation_temperature": temperature}}.get(kind, {})
    found = build(kind, KINDS[kind](hidden=hidden, max_words=words, **own), Dims(video, text))
    found.load_state_dict(from_released(weights, widths(found), kind))
    return found.eval()


def small(golden: Method) -> Retriever:
    """small_weights.npz."""
    return model(golden("small_weights"), golden.kind, float(golden("small_outputs").get("coef_sft_factor", torch.tensor(0.6))))


def big(golden: Method) -> tuple[Retriever, dict[str, Tensor]]:
    """The published size with the weights and the inputs of big768's recipe."""
    stored = golden("big768")
    with np.load(golden.folder / "big768.npz") as arrays:
        shapes = {str(n): eval_shape(str(s)) for n, s in zip(arrays["weight_names"], arrays["weight_shapes"], strict=True)}
    weights = drawn(shapes, int(stored["weight_seed"]))
    for name, first, total in zip(golden.text("big768", "weight_names"), stored["weight_first"], stored["weight_sum"], strict=True):
        assert float(weights[name].flatten()[0]) == float(first)
        assert weights[name].double().sum() == pytest.approx(float(total), rel=1e-6, abs=1e-3)
    temperature = float(golden("small_outputs").get("coef_sft_factor", torch.tensor(0.6)))
    words, video = (len(weights[name]) for name in ("query_pos_embed.position_embeddings.weight", "frame_input_proj.LayerNorm.weight"))
    random = np.random.RandomState(int(stored["input_seed"]))
    rows, captions = [], []
    for place, (length, count) in enumerate(
        zip(stored["in_video_lengths"].tolist(), stored["in_captions_per_video"].tolist(), strict=True)
    ):
        base = random.standard_normal(video)
        rows.append((base + random.standard_normal((length, video))).astype(np.float32))
        text = len(weights["query_input_proj.LayerNorm.weight"])
        captions.append([random.standard_normal((5 + 3 * k + place, text)).astype(np.float32) for k in range(count)])
    inputs, order = collate(rows, captions, words)
    assert [f"big{i}" for i in order] == golden.text("big768", "in_video_order")
    for name, total in zip(golden.text("big768", "in_sum_names"), stored["in_sum"].tolist(), strict=True):
        assert inputs[f"in_{name}"].double().sum().item() == pytest.approx(total, abs=1e-2), name
    return model(weights, golden.kind, temperature), inputs


def collate(rows: list[np.ndarray], captions: list[list[np.ndarray]], words: int) -> tuple[dict[str, Tensor], list[int]]:
    """A batch as the released loaders make it: pooled and normalised in float64, the longest video first; and the order of the videos."""

    def normalised(values: np.ndarray) -> np.ndarray:
        return values / (np.linalg.norm(values, axis=-1, keepdims=True) + 1e-5)

    sampled = [literal.pool(video.astype(np.float64), 128, "drop") if len(video) > 128 else video.astype(np.float64) for video in rows]
    order = sorted(range(len(rows)), key=lambda i: -len(sampled[i]))
    asked = [normalised(words_)[:words] for i in order for words_ in captions[i]]
    longest, most = len(sampled[order[0]]), max(map(len, asked))

    def padded(items: list[np.ndarray], length: int) -> Tensor:
        return torch.from_numpy(np.stack([np.pad(item, ((0, length - len(item)), (0, 0))) for item in items]).astype(np.float32))

    found = {
        "in_frame_video_features": padded([normalised(sampled[i]) for i in order], longest),
        "in_clip_video_features": padded([normalised(literal.pool(rows[i].astype(np.float64), 32, "drop")) for i in order], 32),
        "in_videos_mask": padded([np.ones((len(sampled[i]), 1)) for i in order], longest)[..., 0],
        "in_text_feat": padded(asked, most),
        "in_text_mask": padded([np.ones((len(item), 1)) for item in asked], most)[..., 0],
        "in_text_labels": torch.tensor([place for place, i in enumerate(order) for _ in captions[i]]),
    }
    return found, order


def widths(model: Retriever) -> int:
    """Gaussian branches of a model."""
    return len(getattr(model.settings, "widths", ()))


def objectives(golden: Method, file: str = "small_outputs") -> Objectives:
    """The settings the arrays were made with, hard negatives without chance."""
    arrays = golden(file)
    if golden.kind == "ms_sl":
        margin, *factors = arrays["coef_margin_clip_frame_fusion"].tolist()[:3]
        return settings(golden.kind, factors, [], margin)
    factors, negatives = arrays["coef_loss_factor"].tolist(), arrays["coef_neg_factor"].tolist()
    return settings(golden.kind, factors, negatives, float(arrays["coef_margin_fusion"][0]))


def settings(kind: str, factors: list[float], negatives: list[float], margin: float) -> Objectives:
    diversity: dict[str, Any] = {}
    if kind != "ms_sl":
        diversity = {"weight": factors[2], "delta": negatives[0], "alpha": negatives[1]}
        diversity |= {"form": "pair", "focus": negatives[2]} if kind == "gmmformer_v2" else {"form": "query"}
    return Objectives.model_validate(
        {
            "nce": {"clip": factors[0], "frame": factors[1]},
            "triplet": {"margin": margin, "hard_pool": 1},
            "tcpl": {"distance": 0, "angle": 0},
            "cbva": {"weight": 0},
            "query_diversity": diversity,
            "optimal_matching": {"weight": factors[3] if kind == "gmmformer_v2" else 0},
        }
    )


def videos(inputs: dict[str, Tensor]) -> Videos:
    """A collated batch's videos; what only MSC reads is left empty."""
    empty = torch.zeros(0)
    return Videos(inputs["in_frame_video_features"], inputs["in_clip_video_features"], empty, empty, empty, inputs["in_videos_mask"])


def step(model: Retriever, inputs: dict[str, Tensor], total: Total) -> Step:
    """One step on a collated batch `in_*`, with hard negatives."""
    words = Words(inputs["in_text_feat"], inputs["in_text_mask"])
    return step_of(model, videos(inputs), words, inputs["in_text_labels"], None, needs=total.needs, epoch=1000)


def gradients(model: Retriever) -> dict[str, Tensor]:
    """Gradients by released names; zeros for a parameter that has none."""
    named = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()}
    return to_released(named, widths(model), model.settings.kind)
