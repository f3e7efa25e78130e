"""Released checkpoints in and out: the same weights under the other names, with nothing of the file executed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
from torch import Tensor

from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.config.variants import BASE
from pipeline.core.errors import BundleError
from pipeline.core.layout import Layout
from pipeline.core.pickles import write_archive
from pipeline.core.store import open_store
from pipeline.interchange import released_file
from pipeline.interchange.released_names import KINDS, from_released, kind_of, to_released
from pipeline.models import base as models
from pipeline.models.base import Dims, Retriever
from pipeline.models.checkpoint import load_model, save_model


def read_released(path: str | Path) -> dict[str, Tensor]:
    """The parameters of a released checkpoint by their released names. Errors: BundleError."""
    return released_file.read(path).weights


def dimensions(weights: Mapping[str, Tensor], kind: str = "msc") -> dict[str, int]:
    """The sizes a released model was built with, as far as its weights (released names) tell. KeyError when one is missing."""
    sizes = {
        "video_dim": len(weights["frame_input_proj.LayerNorm.weight"]),
        "text_dim": len(weights["query_input_proj.LayerNorm.weight"]),
        "hidden": len(weights["query_pos_embed.LayerNorm.weight"]),
        "max_words": len(weights["query_pos_embed.position_embeddings.weight"]),
        "frames": len(weights["frame_pos_embed.position_embeddings.weight"]),
        "widths": len({name.split(".")[1] for name in weights if name.startswith("clip_encoder.attn")}),
    }
    return sizes if kind in ("ms_sl", "gmmformer") else {**sizes, "clips": len(weights["clip_encoder.layer2.weight"])}


def _kind(experiment: Experiment, where: str | Path) -> str:
    """The kind of an experiment's model, of which there are released checkpoints. Errors: BundleError for another kind."""
    kind, base = experiment.model.kind, getattr(experiment.model, "base", None)
    if kind not in KINDS or (base is not None and base.kind != BASE):
        raise BundleError(
            f"the experiment's model is {' on '.join(experiment.model.kinds)}; released checkpoints are known of {', '.join(KINDS)}, "
            f"of ral on {BASE}",
            where=where,
            fix="name an experiment with a model of one of these kinds",
        )
    return kind


def _expected(experiment: Experiment) -> dict[str, int]:
    model: Any = getattr(experiment.model, "base", experiment.model)
    own = {"hidden": model.hidden, "max_words": model.max_words, "widths": len(getattr(model, "widths", ()))}
    return {**own, "frames": experiment.clips.frames, "clips": experiment.clips.clips}


def build(weights: Mapping[str, Tensor], experiment: Experiment, where: str | Path) -> Retriever:
    """Our model with released weights, in evaluation mode.

    Errors: BundleError naming the kind of model the weights are of, or listing every size in which they and the configuration differ;
    WeightsError listing unknown and missing names.
    """
    kind, expected = _kind(experiment, where), _expected(experiment)
    if (theirs := kind_of(weights)) not in (kind, None):
        raise BundleError(
            f"a checkpoint of {theirs}, and the experiment's model is {kind}",
            where=where,
            fix=f"name an experiment of `model.kind: {theirs}`",
        )
    try:
        sizes = dimensions(weights, kind)
    except KeyError as error:
        raise BundleError(
            f"not a checkpoint of the released model of kind {kind}: {error} is missing", where=where, fix="give its `best.ckpt`"
        ) from error
    keys = {"frames": "clips.frames", "clips": "clips.clips", "widths": "the number of model.widths"}
    differ = [(keys.get(name, f"model.{name}"), size, sizes[name]) for name, size in expected.items() if sizes.get(name, size) != size]
    if differ:
        lines = "\n  ".join(f"{key} is {ours}, the checkpoint has {theirs}" for key, ours, theirs in differ)
        raise BundleError(f"sizes differ:\n  {lines}", where=where, fix="set these keys of the configuration to the checkpoint's")
    dims = Dims(sizes["video_dim"], sizes["text_dim"], expected["frames"], expected["clips"])
    model = models.build(kind, experiment.model, dims)
    named = from_released(weights, sizes["widths"], kind)
    own = model.state_dict()
    wrong = [
        f"{name}: {tuple(value.shape)}, not {tuple(own[name].shape)}" for name, value in named.items() if value.shape != own[name].shape
    ]
    if wrong:
        raise BundleError("parameters of another shape:\n  " + "\n  ".join(wrong), where=where, fix="check the configuration")
    model.load_state_dict(named)
    return model.eval()


def import_checkpoint(
    config: Config, layout: Layout, experiment: str, seed: int, path: str | Path, fits: Callable[[Dims], None] = lambda dims: None
) -> None:
    """Write a released `best.ckpt`, or a checkpoint of ours, as runs/<experiment>/seed<k>/checkpoint.h5, ready for evaluation and search.

    `fits` may refuse its sizes before anything is written.
    Heads, dropout, the Gaussian widths' order and the consolidation temperature are not in the weights: they come from the configuration.
    Errors: BundleError, WeightsError. Source: docs/method.md 10 (released checkpoints are pickles).
    """
    chosen = config.experiment(experiment)
    if h5py.is_hdf5(path):
        _import_ours(layout, chosen, experiment, seed, path, fits)
        return
    released = released_file.read(path)
    model = build(released.weights, chosen, path)
    fits(model.dims)
    attrs: dict[str, Any] = {
        "experiment": experiment,
        "seed": seed,
        "epoch": released.epoch,
        "selection_split": "unknown (imported)",
        "imported": Path(path).name,
    }
    if released.recalls:
        attrs["recalls"] = released.recalls
    save_model(layout.checkpoint(experiment, seed), model.state_dict(), chosen, model.dims, **attrs)


READS = ("features", "text", "clips", "model")  # what of an experiment decides whether a model of ours can be used in it


def _import_ours(layout: Layout, chosen: Experiment, experiment: str, seed: int, path: str | Path, fits: Callable[[Dims], None]) -> None:
    """The same of a checkpoint of ours, made in another folder. Errors: BundleError listing the settings that differ; StoreError."""
    model, theirs, attrs = load_model(path)
    ours, other = chosen.model_dump(include=set(READS)), theirs.model_dump(include=set(READS))
    differ = [f"{key} is {mine!r} here, {yours!r} in the checkpoint" for key, mine, yours in _differences(ours, other)]
    if differ:
        lines = "\n  ".join(differ)
        raise BundleError(
            f"settings of {experiment} differ:\n  {lines}", where=path, fix="set these keys of the experiment to the checkpoint's"
        )
    fits(model.dims)
    kept: dict[str, Any] = {key: attrs[key] for key in ("epoch", "selection_split", "recalls") if key in attrs}
    named: dict[str, Any] = {"experiment": experiment, "seed": seed, "imported": Path(path).name}
    save_model(layout.checkpoint(experiment, seed), model.state_dict(), chosen, model.dims, **kept, **named)


def _differences(ours: Any, theirs: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The values in which two settings differ, each with its dotted key."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in dict.fromkeys([*ours, *theirs]):
            yield from _differences(ours.get(name), theirs.get(name), f"{key}.{name}" if key else name)
    elif ours != theirs:
        yield key, ours, theirs


def export_checkpoint(layout: Layout, experiment: str, seed: int, path: str | Path, *, like: str | Path | None = None) -> list[str]:
    """Write a run's checkpoint with everything that the released code's `--eval --resume` reads (released_file.py).

    `like`, a released checkpoint of the same sizes, lends what else it holds, its `config` first of all, in the order and the types of its
    weights: plain values only. Returns what of it was left out, a line each. The epoch and the recalls are the run's own.
    Errors: StoreError, BundleError.
    """
    file = layout.checkpoint(experiment, seed)
    model, chosen, attrs = load_model(file)
    kind, branches = _kind(chosen, file), _expected(chosen)["widths"]
    weights = dict(sorted(to_released(model.state_dict(), branches, kind).items()))
    config = released_file.config(chosen, *model.dims[:2])
    extra, left_out = dict[str, Any](), list[str]()
    form = released_file.form_of(kind)
    if like is not None:
        lender = released_file.read(like)
        weights, form = _as_lent(weights, lender.weights, like), form._replace(weights=lender.entry or form.weights)
        extra, left_out = released_file.lent(lender)
        config = extra.pop(form.config, config)
    epoch = int(attrs.get("epoch") or 0)
    content = released_file.content(form, weights, config, chosen.training, epoch, attrs.get("recalls") or _recalls(file, epoch))
    write_archive(path, {**content, **extra})
    return left_out


def _as_lent(weights: Mapping[str, Tensor], theirs: Mapping[str, Tensor], like: str | Path) -> dict[str, Tensor]:
    """The weights in the order and the types of the lender's. Errors: BundleError listing every difference in name or shape."""
    differ = sorted(set(theirs) ^ set(weights)) or sorted(n for n, value in theirs.items() if value.shape != weights[n].shape)
    if differ:
        lines = "\n  ".join(differ)
        raise BundleError(f"parameters that do not fit the model to be like:\n  {lines}", where=like, fix="use one of the same sizes")
    return {name: weights[name].to(theirs[name].dtype) for name in theirs}


def _recalls(file: Path, epoch: int) -> dict[str, float]:
    """The recalls a trained run had on its selection split after its best epoch; empty when they were not kept."""
    with open_store(file, stage="checkpoint") as store:
        if "history" not in store:
            return {}
        history = store.table("history")
    row = history[history["epoch"] == epoch]
    return {name: float(row[name].iloc[0]) for name in released_file.RECALLS if len(row) and name in row}
