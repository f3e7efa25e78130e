"""Released checkpoints in and out: the same weights under the other names, with nothing of the file executed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config.method import Experiment
from pipeline.config.models import Msc
from pipeline.config.schema import Config
from pipeline.core.errors import BundleError
from pipeline.core.layout import Layout
from pipeline.interchange.pickles import Inert, read_pickle, stand_in, write_pickle
from pipeline.interchange.released_names import from_released, to_released
from pipeline.models import base as models
from pipeline.models.base import Dims, Retriever
from pipeline.models.checkpoint import load_model, save_model

WEIGHTS = ("state_dict", "model", "model_state_dict")  # entries a checkpoint may keep its weights under


def _weights(content: Any, path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The parameters of an unpickled checkpoint, and the entry they lie under (None: they are the whole of it)."""
    candidates = [(content.get(key), key) for key in WEIGHTS] + [(content, None)] if isinstance(content, Mapping) else []
    for found, key in candidates:
        if isinstance(found, Mapping) and found and all(isinstance(value, Tensor) for value in found.values()):
            return {str(name).removeprefix("module."): value for name, value in found.items()}, key
    held = ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
    raise BundleError(f"no weights among: {held}", where=path, fix=f"they are expected under one of {', '.join(WEIGHTS)}")


def read_released(path: str | Path) -> dict[str, Tensor]:
    """The parameters of a released checkpoint by their released names. Errors: BundleError."""
    return _weights(read_pickle(path), Path(path))[0]


def dimensions(weights: Mapping[str, Tensor]) -> dict[str, int]:
    """The sizes a released model was built with, read off its weights (released names). KeyError when one is missing."""
    return {
        "video_dim": len(weights["frame_input_proj.LayerNorm.weight"]),
        "text_dim": len(weights["query_input_proj.LayerNorm.weight"]),
        "hidden": len(weights["weight_token"].flatten()),
        "max_words": len(weights["query_pos_embed.position_embeddings.weight"]),
        "frames": len(weights["frame_pos_embed.position_embeddings.weight"]),
        "clips": len(weights["clip_encoder.layer2.weight"]),
        "widths": len({name.split(".")[1] for name in weights if name.startswith("clip_encoder.attn")}),
    }


def _settings(experiment: Experiment, where: str | Path) -> Msc:
    """The settings of MSC's model, the one the released checkpoints are of. Errors: BundleError for another kind."""
    if not isinstance(experiment.model, Msc):
        raise BundleError(
            f"the experiment's model is {experiment.model.kind}, not msc", where=where, fix="name an experiment whose model is msc"
        )
    return experiment.model


def _expected(model: Msc, experiment: Experiment) -> dict[str, int]:
    clips = experiment.clips
    return {
        "hidden": model.hidden,
        "max_words": model.max_words,
        "frames": clips.frames,
        "clips": clips.clips,
        "widths": len(model.widths),
    }


def build(weights: Mapping[str, Tensor], experiment: Experiment, where: str | Path) -> Retriever:
    """Our model with released weights, in evaluation mode.

    Errors: BundleError listing every size in which weights and configuration differ; WeightsError listing unknown and missing names.
    """
    try:
        found = dimensions(weights)
    except KeyError as error:
        raise BundleError(f"not a checkpoint of the released model: {error} is missing", where=where, fix="give its `best.ckpt`") from error
    settings = _settings(experiment, where)
    expected = _expected(settings, experiment)
    keys = {"frames": "clips.frames", "clips": "clips.clips", "widths": "the number of model.widths"}
    differ = [(keys.get(name, f"model.{name}"), size, found[name]) for name, size in expected.items() if found[name] != size]
    if differ:
        lines = "\n  ".join(f"{key} is {ours}, the checkpoint has {theirs}" for key, ours, theirs in differ)
        raise BundleError(f"sizes differ:\n  {lines}", where=where, fix="set these keys of the configuration to the checkpoint's")
    model = models.build(settings.kind, settings, Dims(found["video_dim"], found["text_dim"], found["frames"], found["clips"]))
    named = from_released(weights, found["widths"])
    own = model.state_dict()
    wrong = [
        f"{name}: {tuple(value.shape)}, not {tuple(own[name].shape)}" for name, value in named.items() if value.shape != own[name].shape
    ]
    if wrong:
        raise BundleError("parameters of another shape:\n  " + "\n  ".join(wrong), where=where, fix="check the configuration")
    model.load_state_dict(named)
    return model.eval()


def import_checkpoint(config: Config, layout: Layout, experiment: str, seed: int, path: str | Path) -> None:
    """Write a released `best.ckpt` as runs/<experiment>/seed<k>/checkpoint.h5, ready for evaluation and search.

    Heads, dropout, the Gaussian widths' order and the consolidation temperature are not in the weights: they come from the configuration.
    Errors: BundleError, WeightsError. Source: docs/method.md 10 (released checkpoints are pickles).
    """
    chosen = config.experiment(experiment)
    model = build(read_released(path), chosen, path)
    attrs: dict[str, Any] = {"epoch": 0, "selection_split": "unknown (imported)", "imported": Path(path).name}
    save_model(layout.checkpoint(experiment, seed), model.state_dict(), chosen, model.dims, **attrs)


def export_checkpoint(layout: Layout, experiment: str, seed: int, path: str | Path, *, like: str | Path | None = None) -> None:
    """Write a run's checkpoint as the released code reads it: `state_dict` under the released names.

    `like`, a released checkpoint of the same dataset, lends everything else it holds (its configuration object, untouched and unread);
    without it the `config` entry is an EasyDict with the sizes this project knows. The optimiser's state is never written.
    Errors: StoreError, BundleError.
    """
    model, chosen, attrs = load_model(layout.checkpoint(experiment, seed))
    weights = OrderedDict(sorted(to_released(model.state_dict(), len(_settings(chosen, path).widths)).items()))
    if like is not None:
        content = read_pickle(like)
        theirs, key = _weights(content, Path(like))
        differ = sorted(set(theirs) ^ set(weights)) or sorted(n for n, value in theirs.items() if value.shape != weights[n].shape)
        if differ:
            lines = "\n  ".join(differ)
            raise BundleError(f"parameters that do not fit the model to be like:\n  {lines}", where=like, fix="use one of the same sizes")
        weights = OrderedDict((name, weights[name].to(theirs[name].dtype)) for name in theirs)
        content = {**content, key: weights} if key is not None else weights
        # The optimiser's moments belong to the other weights.
        content.pop("optimizer", None)
    else:
        content = {"state_dict": weights, "config": _config(model, _settings(chosen, path), chosen), "epoch": int(attrs.get("epoch") or 0)}
    write_pickle(path, content)


def _config(model: Retriever, settings: Msc, chosen: Experiment) -> Inert:
    """The sizes as MS-SL's line of code spells them, in the class it keeps them in."""
    values = {
        "visual_input_size": model.dims.video_dim,
        "query_input_size": model.dims.text_dim,
        "hidden_size": settings.hidden,
        "n_heads": settings.heads,
        "max_ctx_l": chosen.clips.frames,
        "max_desc_l": settings.max_words,
        "sft_factor": settings.consolidation_temperature,
        "drop": settings.dropout,
        "input_drop": settings.input_dropout,
    }
    easydict = stand_in("easydict", "EasyDict")
    config = easydict.__new__(easydict)
    config.update(values)
    config.state = dict(values)
    return config
