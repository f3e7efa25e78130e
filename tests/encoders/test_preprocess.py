"""Preprocessing equals open_clip's own, and the published one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image

from pipeline.encoders.preprocess import Normalisation
from pipeline.encoders.slowfast import pathways
from pipeline.video.picture import square
from tests.encoders.conftest import pixels


def clip_transform(image: Image.Image, size: int = 224) -> torch.Tensor:
    return Normalisation()(torch.from_numpy(square(np.asarray(image.convert("RGB")), size)))


def test_oracle_image(shared: Path) -> None:
    """The published tensor of CLIP's preprocessing (docs/decisions.md, sampling)."""
    folder = shared / "annotations" / "oracle"
    expected = torch.from_numpy(np.load(folder / "expected_preprocessed_image.npy")).reshape(3, 224, 224)
    with Image.open(folder / "franz-kafka.jpg") as image:
        found = clip_transform(image)
        assert torch.equal(image_transform(224, False)(image), expected)
    assert (found - expected).abs().max() <= 1e-6


@pytest.mark.parametrize("shape", [(300, 224), (224, 301), (97, 640), (640, 97), (224, 224), (225, 225), (30, 31), (1, 5)])
def test_equals_open_clip(shape: tuple[int, int]) -> None:
    image = Image.fromarray(pixels(*shape, 3))
    assert (clip_transform(image) - image_transform(224, False)(image)).abs().max() <= 1e-6


def test_all_levels_and_layout() -> None:
    levels = torch.arange(256, dtype=torch.uint8)[None, :, None, None].expand(1, 256, 1, 3)
    found = Normalisation()(levels)
    mean, std = (torch.tensor(v)[:, None] for v in (Normalisation.mean, Normalisation.std))
    assert (found[0, :, :, 0] - (torch.arange(256) / 255 - mean) / std).abs().max() <= 1e-6
    frames = torch.from_numpy(pixels(2, 8, 8, 3))
    assert Normalisation()(frames).is_contiguous(memory_format=torch.channels_last)


def test_pathways() -> None:
    """pytorchvideo's PackPathway: all frames, and k/alpha of them spread from the first to the last."""
    windows = torch.arange(32.0)[None, :, None, None, None].expand(2, 32, 3, 4, 4)
    slow, fast = pathways(windows, 4)
    assert slow.shape == (2, 3, 8, 4, 4)
    assert fast.shape == (2, 3, 32, 4, 4)
    pixels_last = Normalisation()(torch.zeros(2, 8, 4, 4, 3, dtype=torch.uint8))
    assert all(path.is_contiguous(memory_format=torch.channels_last_3d) for path in pathways(pixels_last, 4))
    assert slow[0, 0, :, 0, 0].tolist() == [0, 4, 8, 13, 17, 22, 26, 31]
