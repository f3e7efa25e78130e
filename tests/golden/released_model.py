"""The golden models: built from the released parameter names, sized by the arrays themselves."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.clips.context import contexts
from pipeline.config.models import Msc as Settings
from pipeline.config.objectives import Objectives
from pipeline.interchange.released_names import from_released, to_released
from pipeline.models.base import Dims, Videos, Words
from pipeline.models.msc import DualBranch
from pipeline.objectives.total import Total, step_of
from tests.golden.arrays import Golden

BIG_SEEDS = (1011, 7323)  # public, held out (golden/README.md)
RELEASED_LEVELS = [32, 20, 12, 8, 5]


def small(golden: Golden) -> DualBranch:
    """small_weights.npz in our model, evaluation mode."""
    return _model(golden("small_weights"), 0.6)


def big(golden: Golden) -> DualBranch:
    """The published size, with the weights of big768's recipe."""
    with np.load(golden.folder / "big768.npz") as stored:
        shapes = {str(n): eval_shape(str(s)) for n, s in zip(stored["weight_names"], stored["weight_shapes"], strict=True)}
        first = dict(zip(map(str, stored["weight_names"]), stored["weight_first"], strict=True))
    for seed in BIG_SEEDS:
        weights = drawn(shapes, seed)
        if all(float(weights[name].flatten()[0]) == value for name, value in first.items()):
            return _model(weights, 0.09)
    raise AssertionError("no seed of golden/README.md gives the weights of big768.npz")


def eval_shape(text: str) -> tuple[int, ...]:
    return tuple(int(side) for side in text.strip("()").split(",") if side.strip())


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    state = np.random.RandomState(seed)
    weights = {}
    for name in sorted(shapes):
        z = state.standard_normal(shapes[name])
        if name.endswith(("LayerNorm.weight", "norm1.weight", "norm2.weight")):
            z = 1 + 0.1 * z
        elif name.endswith("position_embeddings.weight"):
            z = 0.5 * z
        elif name != "weight_token":
            z = 0.05 * z if z.ndim == 1 else z / np.sqrt(z.shape[1])
        weights[name] = torch.from_numpy(z.astype(np.float32))
    return weights


def _model(weights: dict[str, Tensor], temperature: float) -> DualBranch:
    words, hidden = weights["query_pos_embed.position_embeddings.weight"].shape
    video, text = (len(weights[f"{name}_input_proj.LayerNorm.weight"]) for name in ("frame", "query"))
    settings = Settings(hidden=hidden, heads=4, consolidation_temperature=temperature, max_words=words)
    model = DualBranch(settings, Dims(video, text))
    model.load_state_dict(from_released(weights))
    return model.eval()


def encode(model: DualBranch, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Frame tokens, clip tokens and pooled queries of a collated batch `in_*`."""
    tokens = model.encode_videos(videos(inputs))
    return tokens["frames"], tokens["clips"], model.encode_queries(Words(inputs["in_text_feat"], inputs["in_text_mask"]))["pooled"]


def loss(model: DualBranch, inputs: dict[str, Tensor], settings: Objectives, tau: float) -> tuple[Tensor, dict[str, Tensor]]:
    """The released total on a collated batch `in_*`, from frozen inputs to the sum of all terms."""
    found = contexts(inputs["in_clip_video_features"], inputs["in_merge_size"], RELEASED_LEVELS, tau)
    words = Words(inputs["in_text_feat"], inputs["in_text_mask"])
    last = words.mask.sum(1).long() - 1
    total = Total(settings)
    step = step_of(
        model,
        videos(inputs)._replace(frame_to_clip=inputs["in_merged_frame_label"], context=found.assignment),
        words,
        inputs["in_text_labels"],
        words.rows[torch.arange(len(last)), last],
        needs=total.needs,
        epoch=settings.triplet.hard_start_epoch,
    )
    return total(step)


def videos(inputs: dict[str, Tensor]) -> Videos:
    """A collated batch's videos; what only CBVA reads is left empty."""
    empty = torch.zeros(0)
    return Videos(inputs["in_frame_video_features"], inputs["in_clip_video_features"], inputs["in_merge_size"], empty, empty)


def gradients(model: DualBranch) -> dict[str, Tensor]:
    """Gradients by released names; zeros for a parameter that has none."""
    return to_released({n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.named_parameters()})
