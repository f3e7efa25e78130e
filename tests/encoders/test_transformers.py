"""VideoMAE and V-JEPA 2 from a folder: the library's own vectors and pixels, strict, and nothing asked of the hub."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.config.encoders import Transformers
from pipeline.core.errors import EncoderError, WeightsError
from pipeline.encoders import golden, transformers
from pipeline.encoders.weights import identity
from pipeline.video.picture import square
from tests.encoders.conftest import pixels, randomised

library = pytest.importorskip("transformers")
SIZE, FRAMES = 32, 4
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16}
MAE = {
    **SMALL,
    "image_size": SIZE,
    "num_frames": FRAMES,
    "intermediate_size": 64,
    "decoder_hidden_size": 16,
    "decoder_intermediate_size": 32,
}
MAE |= {"decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "num_labels": 3}
JEPA = {**SMALL, "crop_size": SIZE, "frames_per_clip": FRAMES, "pred_hidden_size": 24, "pred_num_hidden_layers": 1, "num_pooler_layers": 1}
JEPA |= {"pred_num_attention_heads": 2, "num_labels": 3}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def saved(kind: str, folder: Path) -> Any:
    """A two-layer model, saved by the library with its processor; returns the model."""
    config = library.VJEPA2Config(**JEPA) if kind.startswith("VJEPA2") else library.VideoMAEConfig(**MAE)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = randomised(getattr(library, kind)(config))
    model.save_pretrained(folder)
    processor(kind).save_pretrained(folder)
    return model


def processor(kind: str) -> Any:
    if kind.startswith("VJEPA2"):
        return library.VJEPA2VideoProcessor(crop_size=SIZE)
    return library.VideoMAEImageProcessor(
        size={"shortest_edge": SIZE + 7}, crop_size={"height": SIZE, "width": SIZE}, image_mean=[0.485, 0.456, 0.406], image_std=[0.2] * 3
    )


def entry(folder: Path, **changes: Any) -> Transformers:
    return Transformers(**{"weights": str(folder), "size": SIZE, "frames": FRAMES, **changes})


@pytest.mark.parametrize("kind", transformers.CLASSES)
def test_vectors_equal_the_librarys(kind: str, tmp_path: Path) -> None:
    model = saved(kind, tmp_path / kind)
    encoder = transformers.load(entry(tmp_path / kind))
    windows = pixels(3, FRAMES, SIZE, SIZE, 3)
    given = encoder.normalise(torch.from_numpy(windows))
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        if kind.endswith("Classification"):  # what reaches the classifier
            model.classifier.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
            model(given)
        else:
            video = model.videomae if kind == "VideoMAEForPreTraining" else model
            seen.append(video(given).last_hidden_state.mean(1))
    torch.testing.assert_close(encoder.encode(windows), seen[0], atol=1e-5, rtol=1e-5)
    assert encoder.dim == entry(tmp_path / kind).cost[1] == 32


@pytest.mark.parametrize("kind", ["VideoMAEModel", "VJEPA2Model"])
@pytest.mark.parametrize("shape", [(48, 80), (91, 40), (SIZE, SIZE), (37, 200)])
def test_pixels_equal_the_librarys(kind: str, shape: tuple[int, int], tmp_path: Path) -> None:
    """To 1e-6 its Pillow processor's. Its torchvision one, all V-JEPA 2 has, rounds some pixels to the next of 255 levels."""
    saved(kind, tmp_path / kind)
    settings, own = entry(tmp_path / kind), processor(kind)
    encoder, stream = transformers.load(settings), settings.stream
    frames = pixels(FRAMES, *shape, 3)
    ways = {"resize": stream.resize, "side": stream.side, "interpolation": stream.interpolation, "corner": stream.corner}
    ours = np.stack([square(frame, stream.size, exact=stream.precise, **ways) for frame in frames])  # type: ignore[arg-type]
    found = encoder.normalise(torch.from_numpy(ours))
    crop = {"height": SIZE, "width": SIZE}
    pillow = library.VideoMAEImageProcessorPil(size=own.size, crop_size=crop, image_mean=own.image_mean, image_std=own.image_std)
    assert (found - pillow(list(frames), return_tensors="pt")["pixel_values"][0]).abs().max() <= 1e-6
    (theirs,) = own(list(frames), return_tensors="pt").values()
    level = 1 / 255 / float(np.min(own.image_std))
    difference = (found - theirs[0]).abs()
    assert difference.max() <= 1.01 * level
    assert difference.mean() < 0.3 * level


def test_streams_say_how_frames_are_taken(tmp_path: Path) -> None:
    saved("VideoMAEModel", tmp_path / "mae")
    saved("VJEPA2Model", tmp_path / "jepa")
    assert entry(tmp_path / "mae").stream.name == "window4x1at8-every2s-32px-of39-bilinear-exact-floor"
    assert entry(tmp_path / "jepa").stream.side == 36


@pytest.mark.parametrize("spoil", ["missing", "extra", "shape", "nan", "damaged"])
@pytest.mark.parametrize("kind", ["VideoMAEForVideoClassification", "VJEPA2Model"])
def test_loading_is_strict(kind: str, spoil: str, tmp_path: Path) -> None:
    saved(kind, tmp_path / kind)
    file = tmp_path / kind / "model.safetensors"
    state, before = load_file(file), identity(entry(tmp_path / kind))
    name = next(key for key in state if "layer.1." in key and key.endswith("weight"))
    if spoil == "missing":
        del state[name]
    elif spoil == "extra":
        state["more"] = torch.zeros(2)
    elif spoil == "shape":
        state[name] = torch.zeros(7, 7)
    elif spoil == "nan":
        state[name].view(-1)[0] = float("nan")
    save_file(state, file, {"format": "pt"})
    if spoil == "damaged":
        file.write_bytes(file.read_bytes()[:1000])
    assert identity(entry(tmp_path / kind)) != before
    with pytest.raises(WeightsError, match=r"cannot read the weights|do not fit the architecture"):
        transformers.load(entry(tmp_path / kind))


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    model = saved("VideoMAEModel", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"config.json and model.safetensors"):
        transformers.load(entry(tmp_path))


def test_wrong_settings_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved("VideoMAEModel", tmp_path / "mae")
    saved("VJEPA2Model", tmp_path / "jepa")
    for folder, changes, words in (
        ("mae", {"size": 48}, "set size: 32"),
        ("mae", {"frames": 8}, "set frames: 4"),
        ("jepa", {"frames": 3}, "set frames: a multiple of 2"),
    ):
        with pytest.raises(EncoderError, match=words):
            transformers.load(entry(tmp_path / folder, **changes))
    assert transformers.load(entry(tmp_path / "jepa", frames=8)).dim == 32
    content = json.loads((tmp_path / "mae" / "config.json").read_text())
    (tmp_path / "mae" / "config.json").write_text(json.dumps({**content, "architectures": ["BertModel"]}))
    with pytest.raises(EncoderError, match="holds a BertModel"):
        transformers.load(entry(tmp_path / "mae"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(EncoderError, match=r"not installed(.|\n)*pip install 'prvr\[transformers\]'"):
        transformers.load(entry(tmp_path / "jepa"))


def test_golden_vectors_can_be_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRVR_WEIGHTS", str(tmp_path))
    saved("VJEPA2Model", tmp_path / "jepa")
    golden.record(entry(tmp_path / "jepa"), "jepa")
    assert golden.verify(entry(tmp_path / "jepa")).ok
