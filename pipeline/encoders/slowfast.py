"""SlowFast motion features of pytorchvideo: the published Kinetics checkpoints key for key, or a folder with a smaller model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config.encoders import SlowFast
from pipeline.core.errors import EncoderError, WeightsError
from pipeline.encoders import checkpoints
from pipeline.encoders.base import PRECISIONS
from pipeline.encoders.preprocess import Normalisation
from pipeline.encoders.weights import Weights, resolve

MEAN, STD = (0.45, 0.45, 0.45), (0.225, 0.225, 0.225)
_R101 = {"model_depth": 101, "slowfast_fusion_conv_kernel_size": (5, 1, 1)}
_LONG = (
    ((1, 1, 1),) * 2 + (((3, 1, 1),) * 6 + ((1, 1, 1),) * 17, (3, 1, 1)),
    ((3, 1, 1),) * 2 + (((3, 1, 1),) * 6 + ((1, 1, 1),) * 17, (3, 1, 1)),
)
ARCHITECTURES: dict[str, dict[str, Any]] = {  # create_slowfast arguments (pytorchvideo.models.hub.slowfast)
    "slowfast_r50": {"model_depth": 50, "slowfast_fusion_conv_kernel_size": (7, 1, 1)},
    "slowfast_r101": _R101,
    "slowfast_16x8_r101_50_50": _R101 | {"stage_conv_a_kernel_sizes": _LONG, "head_pool_kernel_sizes": ((16, 7, 7), (64, 7, 7))},
}


class PooledPathways(nn.Module):
    """The mean over time and space of each pathway, slow then fast: what SlowFast's head pools at its own 224 pixels, at any size."""

    def forward(self, paths: list[Tensor]) -> Tensor:
        """Shapes: [[N, C1, T1, H, W], [N, C2, T2, H, W]] -> [N, C1 + C2]."""
        return torch.cat([path.mean(dim=(2, 3, 4)) for path in paths], dim=1)


class SlowFastEncoder:
    """A loaded SlowFast without its classifier: windows of frames to motion vectors (2048 slow + 256 fast for R50; not normalised)."""

    def __init__(self, model: Any, weights: Weights, config: SlowFast, device: torch.device) -> None:
        self.model = model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last_3d)
        self.weights, self.device, self.alpha = weights, device, config.alpha
        self.preprocessing = {"mean": MEAN, "std": STD, "size": config.size, "alpha": config.alpha}
        self.normalise = Normalisation(MEAN, STD)
        self._dtype = PRECISIONS[config.precision]
        self.dim = int(self.encode(np.zeros((1, config.frames, config.size, config.size, 3), np.uint8)).shape[-1])
        if config.compile:
            self.model = torch.compile(self.model)

    def encode(self, rows: Tensor | np.ndarray) -> Tensor:
        """Motion vectors. Shapes: windows uint8 [N, k, S, S, 3] RGB -> float32 [N, D] on the encoder's device."""
        windows = torch.as_tensor(rows).to(self.device, non_blocking=True)
        with torch.inference_mode(), torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            return self.model(pathways(self.normalise(windows), self.alpha)).float()


def pathways(windows: Tensor, alpha: int) -> list[Tensor]:
    """SlowFast's two inputs: every frame for the fast pathway, 1 in `alpha` for the slow one, spread over the whole window.

    Shapes: windows [N, k, 3, S, S] -> [slow [N, 3, k/alpha, S, S], fast [N, 3, k, S, S]].
    Source: pytorchvideo's PackPathway, as the Kinetics weights were trained (indices linspace(0, k-1, k/alpha), rounded down).
    """
    frames = windows.shape[1]
    index = torch.linspace(0, frames - 1, frames // alpha, device=windows.device).long()
    slow = windows.movedim(2, -1).index_select(1, index).movedim(-1, 2)  # chosen where the channels are last, so that they stay so
    return [slow.transpose(1, 2), windows.transpose(1, 2)]


def load(config: SlowFast, device: torch.device | str = "cpu", name: str = "") -> SlowFastEncoder:
    """The configured encoder with its pretrained weights on `device`.

    Errors: WeightsError (missing, damaged, wrong checksum, not this architecture's), EncoderError (unknown architecture, window
    lengths the pathways cannot share).
    """
    if config.frames % config.alpha:
        raise EncoderError(
            f"{config.frames} frames cannot be thinned to every {config.alpha}th", fix="set `frames` to a multiple of `alpha`"
        )
    weights = resolve(config, name)
    with checkpoints.SkipInit():
        model = build(_arguments(config, weights), config.alpha)
    checkpoints.load_strict(model, checkpoints.read(weights.file), where=weights.file)
    model.blocks = model.blocks[:-2].append(PooledPathways())  # pool and classifier of the published head; the pool is tied to 224 pixels
    return SlowFastEncoder(model, weights, config, torch.device(device))


def build(arguments: dict[str, Any], alpha: int) -> Any:
    """pytorchvideo's SlowFast with its head, randomly initialised. EncoderError when its fusion does not fit `alpha`."""
    from pytorchvideo.models.slowfast import create_slowfast

    stride = arguments.get("slowfast_fusion_conv_stride", (4, 1, 1))[0]
    if stride != alpha:
        raise EncoderError(
            f"the pathways are fused with a time stride of {stride}, the configuration says alpha: {alpha}", fix=f"set alpha: {stride}"
        )
    return create_slowfast(**arguments)


def _arguments(config: SlowFast, weights: Weights) -> dict[str, Any]:
    file = weights.folder / SlowFast.config_file if weights.folder is not None else None
    if file is not None and file.is_file():
        return read_arguments(file)
    if config.architecture not in ARCHITECTURES:
        raise EncoderError(
            f"unknown SlowFast architecture {config.architecture!r}",
            where=file,
            fix=f"one of {', '.join(ARCHITECTURES)}, or a folder with {SlowFast.config_file}",
        )
    return ARCHITECTURES[config.architecture]


def read_arguments(file: Path) -> dict[str, Any]:
    """create_slowfast arguments from JSON, lists as tuples. WeightsError when it is not a JSON object."""
    try:
        content = json.loads(file.read_text())
        return {key: _tuples(value) for key, value in content.items()}
    except (ValueError, AttributeError) as error:
        raise WeightsError(
            "not a JSON object of create_slowfast arguments", where=file, fix="see pytorchvideo.models.slowfast.create_slowfast"
        ) from error


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
