"""Checkpoint files of the released codes: what one holds, and one with everything that its `--eval --resume` reads.

Read: five entries are unpacked, `config`, `state_dict`, `optimizer`, `epoch` (from 0) and `model_val` (R@1, R@5, R@10, R@100, SumR of its
validation list); the evaluation uses the weights alone, training goes on from the others. MS-SL's files hold `model`, `model_cfg`, `epoch`.
Source: docs/interchange.md.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from pipeline.config.method import Experiment, Training
from pipeline.core.errors import BundleError
from pipeline.core.pickles import plain, read_archive

WEIGHTS = ("state_dict", "model", "model_state_dict")  # entries a checkpoint may keep its weights under
RECALLS = ("R@1", "R@5", "R@10", "R@100", "SumR")  # model_val, in this order
# A key of the released configurations, or a flag of their command line -> ours (docs/interchange.md has the table).
COMMON = {
    "margin": "objectives.triplet.margin",
    "hard_pool_size": "objectives.triplet.hard_pool",
    "hidden_size": "model.hidden",
    "n_heads": "model.heads",
    "drop": "model.dropout",
    "input_drop": "model.input_dropout",
    "max_desc_l": "model.max_words",
    "max_ctx_l": "clips.frames",
}
# And those that stand in the configuration of all but MS-SL, whose file holds that of the network alone.
RUN = {
    "hard_negative_start_epoch": "objectives.triplet.hard_start_epoch",
    "batchsize": "training.batch_videos",
    "n_epoch": "training.epochs",
    "max_es_cnt": "training.patience",
    "lr": "training.learning_rate",
    "lr_warmup_proportion": "training.warmup",
    "wd": "training.weight_decay",
    "clip_scale_w": "evaluation.clip_weight",
    "frame_scale_w": "evaluation.frame_weight",
}
OF_KIND = {
    "ms_sl": {"map_size": "clips.clips"},
    "msc": {
        **RUN,
        "rkd_d_coef": "objectives.tcpl.distance",
        "rkd_a_coef": "objectives.tcpl.angle",
        "vl_coef": "objectives.cbva.weight",
        "sim_thr": "clips.tau",
        "sft_factor": "model.consolidation_temperature",
    },
    "gmmformer": {**RUN, "map_size": "clips.clips"},
    "gmmformer_v2": {**RUN, "map_size": "clips.clips", "sft_factor": "model.consolidation_temperature"},
}
_NCE = ("objectives.nce.clip", "objectives.nce.frame")
_DIVERSITY = ("objectives.query_diversity.delta", "objectives.query_diversity.alpha", "objectives.query_diversity.focus")
# Keys that are lists, in this order.
LISTS: dict[str, dict[str, tuple[str, ...]]] = {
    "ms_sl": {},
    "msc": {"loss_factor": _NCE},
    "gmmformer": {"loss_factor": (*_NCE, "objectives.query_diversity.weight"), "neg_factor": _DIVERSITY[:2]},
    "gmmformer_v2": {
        "loss_factor": (*_NCE, "objectives.query_diversity.weight", "objectives.optimal_matching.weight"),
        "neg_factor": _DIVERSITY,
    },
}
# By the released names: BertAdam leaves biases and what is called a LayerNorm without decay (docs/method.md 7.1).
UNDECAYED = ("bias", "LayerNorm.weight")


class Form(NamedTuple):
    """How a released code's file is laid out: its entries of weights and configuration, what the configuration calls the widths of rows and
    words, and whether the file holds what training goes on from."""

    weights: str = "state_dict"
    config: str = "config"
    widths: tuple[str, str] = ("visual_feat_dim", "q_feat_size")
    resumes: bool = True


MS_SL = Form("model", "model_cfg", ("visual_input_size", "query_input_size"), resumes=False)


def form_of(kind: str) -> Form:
    """The layout of the files of a model's kind."""
    return MS_SL if kind == "ms_sl" else Form()


class Released(NamedTuple):
    """A checkpoint as read: weights by released name, the entry they lie under (None: they are the file), the epoch counted from 1, the
    recalls of its validation list, and the rest of what it holds."""

    weights: dict[str, Tensor]
    entry: str | None
    epoch: int
    recalls: dict[str, float]
    content: Any


def read(path: str | Path) -> Released:
    """A checkpoint of the released code, with nothing of it executed.

    Errors: BundleError when it is not a torch archive (the format of torch 1.6 and later), is damaged, or holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise BundleError("no such checkpoint" if not path.exists() else "not a file", where=path, fix="check the path")
    try:
        content = read_archive(path)
    except Exception as error:  # a malformed pickle can fail in any way
        raise BundleError(
            f"not a readable torch checkpoint ({type(error).__name__}: {error})",
            where=path,
            fix="give the `best.ckpt` of a run; files of torch before 1.6 must be saved again with a newer one",
        ) from error
    weights, entry = _weights(content, path)
    about: Mapping[Any, Any] = content if entry is not None else {}
    epoch, scores = about.get("epoch"), about.get("model_val")
    numbers = [plain(score)[0] for score in scores] if isinstance(scores, list | tuple) else []
    known = len(numbers) == len(RECALLS) and all(isinstance(score, int | float) for score in numbers)
    return Released(
        weights,
        entry,
        epoch + 1 if isinstance(epoch, int) and epoch >= 0 else 0,
        dict(zip(RECALLS, map(float, numbers), strict=True)) if known else {},
        content,
    )


def _weights(content: Any, path: Path) -> tuple[dict[str, Tensor], str | None]:
    candidates = [(content.get(key), key) for key in WEIGHTS] + [(content, None)] if isinstance(content, Mapping) else []
    for held, key in candidates:
        if isinstance(held, Mapping) and held and all(isinstance(value, Tensor) for value in held.values()):
            return {str(name).removeprefix("module."): value for name, value in held.items()}, key
    names = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise BundleError(f"no weights among: {names}", where=path, fix=f"they are expected under one of {', '.join(WEIGHTS)}")


def flags(kind: str) -> dict[str, str]:
    """The released names of a model's kind for single values -> ours."""
    return {**COMMON, **OF_KIND[kind]}


def config(experiment: Experiment, video_dim: int, text_dim: int) -> dict[str, Any]:
    """An experiment by the released names, as far as they reach."""
    if base := getattr(experiment.model, "base", None):  # a plug-in's configuration has its base's keys
        return config(experiment.model_copy(update={"model": base}), video_dim, text_dim)
    kind = experiment.model.kind
    values = {name: attrgetter(key)(experiment) for name, key in flags(kind).items()}
    lists = {name: [attrgetter(key)(experiment) for key in keys] for name, keys in LISTS[kind].items()}
    return {**values, **lists, **dict(zip(form_of(kind).widths, (video_dim, text_dim), strict=True))}


def content(
    form: Form, weights: Mapping[str, Tensor], config: Mapping[str, Any], training: Training, epoch: int, recalls: Mapping[str, float]
) -> dict[str, Any]:
    """What a file for the released code holds; `epoch` counted from 1. Unknown recalls are 0, which is what that code begins with.

    The optimiser's state is empty: its moments are not kept with a finished run, and belong to no other weights.
    """
    found = {form.weights: OrderedDict(weights), form.config: dict(config), "epoch": max(epoch - 1, 0)}
    if not form.resumes:
        return found
    scores = [float(recalls.get(name, 0.0)) for name in RECALLS]
    return {**found, "model_val": scores, "optimizer": _optimizer(list(weights), training)}


def _optimizer(names: list[str], training: Training) -> dict[str, Any]:
    """The two groups of parameters that `load_state_dict` compares: those with decay first, numbered through."""
    decayed = [name for name in names if not name.endswith(UNDECAYED)]
    groups, first = [], 0
    for count, decay in ((len(decayed), training.weight_decay), (len(names) - len(decayed), 0.0)):
        common = {"b1": 0.9, "b2": 0.999, "e": 1e-6, "max_grad_norm": training.clip_norm, "lr": training.learning_rate}
        groups.append({"weight_decay": decay, **common, "params": list(range(first, first + count))})
        first += count
    return {"state": {}, "param_groups": groups}


def lent(lender: Released) -> tuple[dict[str, Any], list[str]]:
    """What a lender's file holds beside its weights, epoch, recalls and optimiser, as plain values; and what of it was left out."""
    own = {lender.entry, "epoch", "model_val", "optimizer"}
    return plain({key: value for key, value in lender.content.items() if key not in own} if lender.entry is not None else {})
