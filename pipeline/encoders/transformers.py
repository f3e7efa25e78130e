"""Motion features of VideoMAE and V-JEPA 2, through transformers, from a folder with config.json and safetensors.

Papers: VideoMAE (Tong et al., NeurIPS 2022); V-JEPA 2 (Assran et al., 2025).
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.config.encoders import Transformers
from pipeline.core.errors import EncoderError, WeightsError
from pipeline.encoders import onednn
from pipeline.encoders.base import PRECISIONS
from pipeline.encoders.preprocess import Normalisation
from pipeline.encoders.weights import Weights, resolve

# The classes their checkpoints are saved from -> where the video encoder is in them.
CLASSES = {
    "VideoMAEModel": "",
    "VideoMAEForVideoClassification": "videomae",
    "VideoMAEForPreTraining": "videomae",
    "VJEPA2Model": "",
    "VJEPA2ForVideoClassification": "vjepa2",
}


class TransformersEncoder:
    """A loaded video transformer: windows of frames to the mean of their patches' last states (not normalised).

    Where the checkpoint was trained to classify, that mean goes through the norm before its classifier (VideoMAE), or its attentive
    pooler stands for it (V-JEPA 2).
    """

    def __init__(self, model: Any, place: str, weights: Weights, config: Transformers, device: torch.device) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        if device.type == "cpu":
            onednn.quicken(self.model)
        self.weights, self.device = weights, device
        self._video = getattr(model, place) if place else model
        self._options = {"skip_predictor": True} if model.config.model_type == "vjepa2" else {}
        said = config.described
        self.preprocessing = {"mean": said["mean"], "std": said["std"], "size": config.size, "side": said["side"]}
        self.normalise = Normalisation(said["mean"], said["std"])
        self._dtype = PRECISIONS[config.precision]
        self.dim = int(self.encode(np.zeros((1, config.frames, config.size, config.size, 3), np.uint8)).shape[-1])

    def encode(self, rows: Tensor | np.ndarray) -> Tensor:
        """Motion vectors. Shapes: windows uint8 [N, k, S, S, 3] RGB -> float32 [N, D] on the encoder's device."""
        windows = torch.as_tensor(rows).to(self.device, non_blocking=True)
        with torch.inference_mode(), torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            states = self._video(self.normalise(windows).contiguous(), **self._options).last_hidden_state
            if pooler := getattr(self.model, "pooler", None):
                return pooler(states).float()
            norm = getattr(self.model, "fc_norm", None)
            return (norm(states.mean(1)) if norm is not None else states.mean(1)).float()


def load(config: Transformers, device: torch.device | str = "cpu", name: str = "") -> TransformersEncoder:
    """The configured encoder with its pretrained weights on `device`.

    Errors: EncoderError (transformers is not installed, another model than these, other frames than it was trained with), WeightsError
    (missing, damaged, wrong checksum, not all of its parameters or others).
    """
    weights = resolve(config, name)
    folder, said = config.folder, config.model
    if folder is None or weights.folder != folder or not said:
        raise WeightsError("no readable config.json beside the weights", where=weights.file.parent, fix="give the model's whole folder")
    architecture = (said.get("architectures") or [""])[0]
    if architecture not in CLASSES:
        raise EncoderError(
            f"the folder holds a {architecture or said.get('model_type')}", where=folder, fix=f"give one of {', '.join(CLASSES)}"
        )
    _check_frames(config, said)
    try:
        library = import_module("transformers")
    except ImportError as error:
        raise EncoderError("transformers is not installed", where=name or config.weights, fix="pip install 'prvr[transformers]'") from error
    model = _read(getattr(library, architecture), weights)
    return TransformersEncoder(model, CLASSES[architecture], weights, config, torch.device(device))


def _check_frames(config: Transformers, said: dict[str, Any]) -> None:
    side = said.get("image_size", said.get("crop_size", config.size))
    tubelet, fixed = said.get("tubelet_size", 2), said.get("num_frames", 16) if said.get("model_type") == "videomae" else None
    if side != config.size:
        raise EncoderError(f"the model takes {side}x{side} pixels, the configuration says size: {config.size}", fix=f"set size: {side}")
    if config.frames % tubelet or (fixed and config.frames != fixed):
        wanted = fixed or f"a multiple of {tubelet}"
        raise EncoderError(f"the model takes {wanted} frames, the configuration says frames: {config.frames}", fix=f"set frames: {wanted}")


def _read(kind: Any, weights: Weights) -> Any:
    """The library's own reading of a folder, which knows former names of parameters; nothing may be left over or made up."""
    try:
        model, report = kind.from_pretrained(
            weights.folder, local_files_only=True, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        )
    except Exception as error:  # damaged files raise what the reader below happens to raise
        raise WeightsError(
            f"cannot read the weights ({type(error).__name__}: {error})", where=weights.file, fix="fetch them again"
        ) from error
    problems = {what: sorted(map(str, report.get(f"{what}_keys") or [])) for what in ("missing", "unexpected", "mismatched")}
    problems["not finite"] = [name for name, value in model.state_dict().items() if not torch.isfinite(value).all()]
    listed = [f"{len(names)} {what}: {', '.join(names[:4])}" for what, names in problems.items() if names]
    if listed:
        raise WeightsError(
            f"the weights do not fit the architecture; parameters {'; '.join(listed)}",
            where=weights.file,
            fix="give the config.json these weights were saved with, or fetch them again",
        )
    return model
