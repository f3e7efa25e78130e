"""From the stored squares of pixels to the tensors the encoders were trained on (resizing and cropping belong to pipeline/video)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


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
