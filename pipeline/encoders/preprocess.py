"""From the stored squares of pixels to the tensors the encoders were trained on (resizing and cropping belong to pipeline/video)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
SLOWFAST_MEAN = (0.45, 0.45, 0.45)
SLOWFAST_STD = (0.225, 0.225, 0.225)


@dataclass(frozen=True)
class Normalisation:
    """(x / 255 - mean) / std per channel, folded into one multiplication and one addition."""

    mean: Sequence[float] = CLIP_MEAN
    std: Sequence[float] = CLIP_STD

    def __call__(self, frames: Tensor) -> Tensor:
        """Normalised frames, channels last in memory, on the device of `frames`.

        Shapes: frames uint8 [..., S, S, 3] RGB -> float32 [..., 3, S, S]. Equals open_clip's ToTensor + Normalize to 1e-6.
        """
        mean, std = np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)
        scale = torch.tensor(1 / (255 * std), dtype=torch.float32, device=frames.device)
        shift = torch.tensor(-mean / std, dtype=torch.float32, device=frames.device)
        # One kernel reads uint8 and writes float32; the permutation is a view, so the result stays channels-last.
        return torch.addcmul(shift, frames.to(torch.float32), scale).movedim(-1, -3)


def pathways(windows: Tensor, alpha: int) -> list[Tensor]:
    """SlowFast's two inputs: every frame for the fast pathway, 1 in `alpha` for the slow one, spread over the whole window.

    Shapes: windows [N, k, 3, S, S] -> [slow [N, 3, k/alpha, S, S], fast [N, 3, k, S, S]].
    Source: pytorchvideo's PackPathway, as the Kinetics weights were trained (indices linspace(0, k-1, k/alpha), rounded down).
    """
    frames = windows.shape[1]
    index = torch.linspace(0, frames - 1, frames // alpha, device=windows.device).long()
    slow = windows.movedim(2, -1).index_select(1, index).movedim(-1, 2)  # chosen where the channels are last, so that they stay so
    return [slow.transpose(1, 2), windows.transpose(1, 2)]
