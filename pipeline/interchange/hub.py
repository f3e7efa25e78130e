"""A run as the folder the Hugging Face hub expects, and back: weights as safetensors, how they were made as JSON, a model card.

Nothing of such a folder is ever run, and nothing in it decides what is built: that is the configuration's experiment, which must agree.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core.atomic import replacing, write_json, write_text
from pipeline.core.errors import BundleError, LibraryError
from pipeline.core.kept import run_hash
from pipeline.core.layout import Layout
from pipeline.core.provenance import canonical, flat
from pipeline.interchange.cards import model_card
from pipeline.models.base import Dims, build
from pipeline.models.checkpoint import load_model, save_model

WEIGHTS, DESCRIPTION, SETTINGS, CARD = "model.safetensors", "config.json", "experiment.yaml", "README.md"
FORMAT, LARGEST, WIDEST = 1, 10 << 20, 1 << 16  # bytes of a description; values of a row
# What decides the numbers of the same weights: said when it differs, and not refused.
_DECIDE = ("clips.", "evaluation.clip_weight", "evaluation.frame_weight", "evaluation.weights", "features", "text")


class Description(BaseModel):
    """What of a config.json is read back."""

    format: int = Field(ge=1, le=FORMAT)
    dims: dict[str, int]
    experiment: dict[str, Any]
    epoch: int | None = None
    selection_split: str = "unknown (imported)"
    run: str = ""


def export_hub(
    config: Config, layout: Layout, experiment: str, seed: int, target: Path, made_by: Mapping[str, Any], licence: str = ""
) -> None:
    """Write a run's folder: model.safetensors, config.json, experiment.yaml, README.md.

    `made_by` are the recipes of its encoders by name, for a run whose checkpoint does not say them (an imported one).
    Errors: StoreError, DiskError.
    """
    checkpoint = layout.checkpoint(experiment, seed)
    model, chosen, attrs = load_model(checkpoint, experiment=experiment, seed=seed)
    run = run_hash(attrs, checkpoint)
    about = {
        "model_type": "prvr",
        "format": FORMAT,
        "prvr_version": importlib.metadata.version("prvr"),
        "dataset": config.dataset.name,
        "demo": config.dataset.kind == "demo",
        "experiment_name": experiment,
        "seed": seed,
        "run": run,
        "epoch": attrs.get("epoch"),
        "selection_split": attrs.get("selection_split"),
        "imported": attrs.get("imported"),
        "branches": list(model.branches),
        "fusion": chosen.evaluation.fusion(model.branches),
        "dims": model.dims._asdict(),
        "experiment": _plain(chosen),
        "encoders": {name: _described(of) for name, of in (_recipes(attrs) or made_by).items()},
        "made_by": _private(attrs["recipe"]),
    }
    target.mkdir(parents=True, exist_ok=True)
    with replacing(target / WEIGHTS) as temporary:
        save_file({name: value.detach().clone().contiguous() for name, value in model.state_dict().items()}, temporary, {"format": "pt"})
    write_json(target / DESCRIPTION, about)
    write_text(target / SETTINGS, yaml.safe_dump({"experiments": {experiment: about["experiment"]}}, sort_keys=False))
    write_text(target / CARD, model_card(about, _metrics(layout, experiment, seed, run), licence))


def import_hub(
    config: Config, layout: Layout, experiment: str, seed: int, folder: Path, fits: Callable[[Dims], None] = lambda dims: None
) -> list[str]:
    """Write the weights of such a folder as a run's checkpoint.

    Returns what the configuration says otherwise, and decides the numbers of the same weights, a line each.
    `fits` may refuse its sizes before anything is written.
    Errors: BundleError listing every size that differs, or every weight that is unknown, missing, of another shape or type, or not finite.
    """
    about, chosen = _read(folder / DESCRIPTION), config.experiment(experiment)
    ours, theirs = flat(_plain(chosen)), flat(about.experiment)
    differ = [key for key in {**ours, **theirs} if canonical(ours.get(key)) != canonical(theirs.get(key))]
    network = [f"{key} is {ours.get(key)}, the folder has {theirs.get(key)}" for key in differ if key.startswith("model.")]
    sizes = {"frames": chosen.clips.frames, "clips": chosen.clips.clips}
    network += [
        f"clips.{key} is {size}, the folder has {about.dims.get(key)}" for key, size in sizes.items() if about.dims.get(key) != size
    ]
    if network:
        lines = "\n  ".join(network)
        raise BundleError(f"the model differs:\n  {lines}", where=folder, fix=f"set these keys as {SETTINGS} in the folder has them")
    if set(about.dims) != set(Dims._fields) or not all(0 < value <= WIDEST for value in about.dims.values()):
        raise BundleError(f"no sizes of a model: {about.dims}", where=folder / DESCRIPTION, fix="fetch the folder again")
    dims = Dims(**about.dims)
    weights = _fitting(folder / WEIGHTS, build(chosen.model.kind, chosen.model, dims).state_dict())
    fits(dims)
    save_model(
        layout.checkpoint(experiment, seed),
        weights,
        chosen,
        dims,
        experiment=experiment,
        seed=seed,
        epoch=about.epoch,
        selection_split=about.selection_split,
        imported=folder.resolve().name,
        imported_run=about.run,
    )
    return [f"{key} is {ours.get(key)}, the folder has {theirs.get(key)}" for key in differ if key.startswith(_DECIDE)]


def push(repo: str, folder: Path, kind: str) -> str:
    """Send a folder to a repository of the hub (`kind` model or dataset); returns its address. Errors: LibraryError."""
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise LibraryError("huggingface_hub is not installed", where="--push", fix="pip install huggingface_hub") from error
    api = HfApi()
    address = api.create_repo(repo, repo_type=kind, private=True, exist_ok=True)
    api.upload_folder(repo_id=repo, folder_path=folder, repo_type=kind)
    return str(address)


def push_command(repo: str, folder: Path, kind: str) -> str:
    """The same for a shell."""
    words = ["hf", "upload", repo, str(folder), ".", *(["--repo-type", kind] if kind != "model" else []), "--private"]
    return shlex.join(words)


def _plain(chosen: Experiment) -> dict[str, Any]:
    """The settings of an experiment without the paths of this machine."""
    values: dict[str, Any] = chosen.model_dump(mode="json")
    values["evaluation"]["relevance"] = None
    return values


def _recipes(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """The recipes of its encoders, as a trained run's checkpoint has them; those of the videos and of the queries may be one encoder's."""
    recipe = attrs["recipe"]
    return {**recipe.get("text", {}), **recipe.get("clips", {}).get("features", {})}


def _described(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """An encoder: its settings, the identity of its weights, and the stream of frames it was given."""
    chosen = {key: recipe[key] for key in ("weights", "stream", "imported") if key in recipe}
    return dict(_private({**recipe.get("encoder", {}), **chosen}))


def _private(value: Any) -> Any:
    """The same, of a path of this machine the last name alone."""
    if isinstance(value, Mapping):
        return {key: _private(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_private(inner) for inner in value]
    return re.sub(r"(^|[\s:])[~/][^\s:]*/", r"\1", value) if isinstance(value, str) else value


def _metrics(layout: Layout, experiment: str, seed: int, run: str) -> dict[str, Any] | None:
    """The measures of this very run; None where there are none."""
    try:
        metrics = json.loads(layout.metrics(experiment, seed).read_text())
    except (OSError, ValueError):
        return None
    return metrics if isinstance(metrics, dict) and metrics.get("run") == run else None


def _read(path: Path) -> Description:
    try:
        if path.stat().st_size > LARGEST:
            raise BundleError(f"{path.stat().st_size} bytes, more than a description has", where=path, fix="fetch the folder again")
        return Description.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        said = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise BundleError(
            f"not a description of a model of prvr: {said[:200]}", where=path, fix="give a folder that `prvr export --layout hub` wrote"
        ) from error


def _fitting(path: Path, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a file, which must be those of a model. Errors: BundleError."""
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"no whole safetensors file: {str(error)[:200]}", where=path, fix="fetch the folder again") from error
    wrong = [f"{name}: {'unknown' if name in weights else 'missing'}" for name in sorted(set(weights) ^ set(own))]
    for name in sorted(set(weights) & set(own)):
        given, wanted = weights[name], own[name]
        if given.shape != wanted.shape or given.dtype != wanted.dtype:
            wrong.append(f"{name}: {tuple(given.shape)} {given.dtype}, not {tuple(wanted.shape)} {wanted.dtype}")
        elif given.is_floating_point() and not torch.isfinite(given).all():
            wrong.append(f"{name}: values that are no numbers")
    if wrong:
        raise BundleError("the weights do not fit:\n  " + "\n  ".join(wrong), where=path, fix="fetch the folder again")
    return weights
