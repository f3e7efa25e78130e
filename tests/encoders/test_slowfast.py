"""SlowFast: published checkpoints key for key, features equal to pytorchvideo's own network before its classifier."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.config.encoders import SlowFast
from pipeline.core.errors import EncoderError, WeightsError
from pipeline.encoders import slowfast
from tests.encoders.conftest import SIZE, pixels, slowfast_entry


def test_equals_pytorchvideo(slowfast_dir: Path) -> None:
    """The pooled pathways are what the classifier of the whole network is given."""
    encoder = slowfast.load(slowfast_entry(slowfast_dir))
    reference = slowfast.build(slowfast.read_arguments(slowfast_dir / "slowfast_config.json"), 4).eval()
    reference.load_state_dict(torch.load(slowfast_dir / "slowfast_model.pyth", weights_only=True)["model_state"])
    seen: list[torch.Tensor] = []
    reference.blocks[-1].proj.register_forward_hook(lambda *args: seen.append(args[1][0]))
    windows = pixels(3, 8, SIZE, SIZE, 3)
    fast = (torch.from_numpy(windows).permute(0, 4, 1, 2, 3).float() / 255 - 0.45) / 0.225
    with torch.no_grad():
        reference([fast[:, :, torch.linspace(0, 7, 2).long()], fast])
    found = encoder.encode(windows)
    assert found.shape == (3, encoder.dim)
    torch.testing.assert_close(found, seen[0].reshape(3, -1), atol=1e-4, rtol=1e-4)


def test_safetensors_folder(slowfast_dir: Path) -> None:
    before = slowfast.load(slowfast_entry(slowfast_dir)).encode(pixels(1, 8, SIZE, SIZE, 3))
    file = slowfast_dir / "slowfast_model.pyth"
    save_file(torch.load(file, weights_only=True)["model_state"], slowfast_dir / "slowfast_model.safetensors")
    file.unlink()
    assert torch.equal(slowfast.load(slowfast_entry(slowfast_dir)).encode(pixels(1, 8, SIZE, SIZE, 3)), before)


def test_other_sizes_than_the_heads(slowfast_dir: Path) -> None:
    """The published head pools 7x7 cells; here any frame size works, and the size is the configuration's."""
    encoder = slowfast.load(slowfast_entry(slowfast_dir, size=64))
    assert encoder.encode(pixels(2, 8, 64, 64, 3)).shape == (2, encoder.dim)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"frames": 10}, EncoderError, "multiple of `alpha`"),
        ({"frames": 8, "alpha": 2}, EncoderError, "set alpha: 4"),
    ],
)
def test_pathways_must_fit(slowfast_dir: Path, changes: dict, error: type, text: str) -> None:
    with pytest.raises(error) as failure:
        slowfast.load(slowfast_entry(slowfast_dir, **changes))
    assert text in str(failure.value)


def test_strict(slowfast_dir: Path) -> None:
    file = slowfast_dir / "slowfast_model.pyth"
    state = torch.load(file, weights_only=True)["model_state"]
    name = "blocks.1.multipathway_fusion.norm.running_mean"
    del state[name]
    torch.save({"model_state": state}, file)
    with pytest.raises(WeightsError, match=name):
        slowfast.load(slowfast_entry(slowfast_dir))


def test_unknown_architecture_and_bad_arguments(slowfast_dir: Path) -> None:
    (slowfast_dir / "slowfast_config.json").write_text("[1]")
    with pytest.raises(WeightsError, match="not a JSON object"):
        slowfast.load(slowfast_entry(slowfast_dir))
    (slowfast_dir / "slowfast_config.json").unlink()
    with pytest.raises(EncoderError, match="unknown SlowFast architecture 'tiny'"):
        slowfast.load(slowfast_entry(slowfast_dir))


@pytest.mark.parametrize("name", ["slowfast_r50", "slowfast_r101", "slowfast_16x8_r101_50_50"])
def test_architectures_are_the_hubs(name: str) -> None:
    """The same parameters, by name and shape, as pytorchvideo builds for its published checkpoints."""
    from pytorchvideo.models.hub import slowfast as hub

    with torch.device("meta"):
        ours, theirs = slowfast.build(slowfast.ARCHITECTURES[name], 4), getattr(hub, name)()
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert SlowFast(architecture=name).architecture in slowfast.ARCHITECTURES
