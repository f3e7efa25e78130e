"""The real architectures at full size, from random weights saved as their publishers save them, on two seconds of a real video."""

from __future__ import annotations

import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from pipeline.config.encoders import OpenClip, SlowFast
from pipeline.encoders import architecture, open_clip, slowfast
from pipeline.encoders.preprocess import Normalisation
from pipeline.video.picture import square
from tests.conftest import NO_SHARED
from tests.encoders.conftest import randomised

pytestmark = pytest.mark.slow
VIDEO = "univtg_charades.mp4"


def frames(shared: Path, count: int, every: int) -> np.ndarray:
    """uint8 [count, 224, 224, 3]: every n-th frame from the start, resized and cropped."""
    file = shared / "videos" / VIDEO
    if not file.exists():
        pytest.skip(f"{NO_SHARED}/videos/{VIDEO}")
    found: list[np.ndarray] = []
    with av.open(str(file)) as container:
        for i, frame in enumerate(container.decode(video=0)):
            if i % every == 0:
                found.append(square(frame.to_ndarray(format="rgb24"), 224))
            if len(found) == count:
                return np.stack(found)
    raise AssertionError("the video is too short")


@pytest.mark.parametrize(
    ("name", "file", "dim", "width"), [("ViT-B-16-quickgelu", "ViT-B-16.pt", 512, 512), ("ViT-L-14-quickgelu", "ViT-L-14.pt", 768, 768)]
)
def test_clip(name: str, file: str, dim: int, width: int, shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenAI's file: half precision, with its three extra buffers, under its published name; only its checksum cannot be theirs."""
    import open_clip as library

    from pipeline.config import published
    from pipeline.encoders import checkpoints

    torch.manual_seed(0)
    with architecture.quiet(), checkpoints.SkipInit():
        model = library.create_model(name, load_weights=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02)
    state = {k: v.half() for k, v in model.state_dict().items()}
    extra = {"input_resolution": torch.tensor(224), "context_length": torch.tensor(77), "vocab_size": torch.tensor(49408)}
    torch.save(state | extra, tmp_path / file)
    model.load_state_dict(state)
    pixels = frames(shared, 1, 15)
    captions = ["a person walks in a doorway drinking some coffee.", "a man drinks a glass of water in doorway."]
    with torch.no_grad():
        model.eval()
        images = model.encode_image(Normalisation()(torch.from_numpy(pixels)))
        sentences = model.encode_text(library.get_tokenizer(name)(captions))
    del model, state  # two copies of ViT-L/14 at once are 4 GB
    monkeypatch.setattr(published.Published, "sha256", "")
    monkeypatch.setenv("PRVR_WEIGHTS", str(tmp_path))
    encoder = open_clip.load(OpenClip(architecture=name, weights="openai"))
    assert (encoder.dim, encoder.text_dim, encoder.context_length) == (dim, width, 77)
    torch.testing.assert_close(encoder.encode(pixels), images, atol=1e-4, rtol=1e-4)
    found = encoder.encode_texts(captions)
    torch.testing.assert_close(torch.stack([s for _, s, _ in found]), sentences, atol=1e-4, rtol=1e-4)
    assert [tuple(states.shape) for states, _, _ in found] == [(12, width), (12, width)]
    (tmp_path / file).unlink()


def test_slowfast(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published checkpoint: {"model_state": ...} with the Kinetics head, beside the training run's other entries."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pytorchvideo.models.hub import slowfast_r50
    torch.manual_seed(0)
    model = randomised(slowfast_r50())
    state = model.state_dict()
    torch.save(
        {"model_state": state, "epoch": 196, "optimizer_state": {"momentum": [torch.zeros(2)]}, "cfg": "TRAIN:"},
        tmp_path / "SLOWFAST_8x8_R50.pyth",
    )
    monkeypatch.setenv("PRVR_WEIGHTS", str(tmp_path))
    encoder = slowfast.load(SlowFast())
    assert encoder.dim == 2304
    windows = frames(shared, 32, 2)[None]
    seen: list[torch.Tensor] = []
    model.blocks[-1].proj.register_forward_hook(lambda *args: seen.append(args[1][0]))
    fast = (torch.from_numpy(windows).permute(0, 4, 1, 2, 3).float() / 255 - 0.45) / 0.225
    with torch.no_grad():
        model([fast[:, :, torch.linspace(0, 31, 8).long()], fast])
    torch.testing.assert_close(encoder.encode(windows), seen[0].reshape(1, 2304), atol=1e-3, rtol=1e-3)
    (tmp_path / "SLOWFAST_8x8_R50.pyth").unlink()
