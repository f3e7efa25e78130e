"""open_clip models from every published format: equal to open_clip's own forward, strict, never random."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from open_clip.model import CustomTextCLIP
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import load_file, save_file

from pipeline.config.encoders import OpenClip
from pipeline.core.errors import EncoderError, WeightsError
from pipeline.encoders import open_clip
from tests.encoders.conftest import CLIP_CFG, SIZE, clip_entry, clip_folder, pixels, randomised, tiny_clip

CAPTIONS = ["the cat", "a", "", "the bat then the hat", "the " * 30, "wow!!! !!"]


def test_images_and_texts_equal_open_clip(clip_dir: Path) -> None:
    encoder, reference = open_clip.load(clip_entry(clip_dir)), tiny_clip()
    frames = pixels(5, SIZE, SIZE, 3)
    transform = image_transform(SIZE, False)
    with torch.no_grad():
        images = reference.encode_image(torch.stack([transform(Image.fromarray(f)) for f in frames]))
        sentences = reference.encode_text(encoder.tokenizer.tokenizer(CAPTIONS))
    torch.testing.assert_close(encoder.encode(frames), images, atol=1e-5, rtol=1e-5)
    found = encoder.encode_texts(CAPTIONS)
    torch.testing.assert_close(torch.stack([s for _, s, _ in found]), sentences, atol=1e-5, rtol=1e-5)
    assert (encoder.dim, encoder.text_dim, encoder.context_length) == (24, 64, 12)


def test_states_run_from_sos_to_eos(clip_dir: Path) -> None:
    encoder, reference = open_clip.load(clip_entry(clip_dir)), tiny_clip()
    seen: list[torch.Tensor] = []
    reference.ln_final.register_forward_hook(lambda *args: seen.append(args[2]))
    ids = encoder.tokenizer.tokenizer(CAPTIONS)
    with torch.no_grad():
        reference.encode_text(ids)
    for caption, row, full, (states, _, truncated) in zip(CAPTIONS, ids, seen[0], encoder.encode_texts(CAPTIONS), strict=True):
        words = len(encoder.tokenizer.tokenizer.encode(caption))
        assert len(states) == min(words + 2, 12) == int(row.argmax()) + 1  # [EOS], the highest id, is last
        assert truncated == (words + 2 > 12)
        torch.testing.assert_close(states, full[: len(states)], atol=1e-5, rtol=1e-5)


def test_caption_that_spells_eos(clip_dir: Path) -> None:
    encoder, reference = open_clip.load(clip_entry(clip_dir)), tiny_clip()
    text = "the <end_of_text> cat"
    ((states, sentence, truncated),) = encoder.encode_texts([text])
    with torch.no_grad():
        torch.testing.assert_close(sentence, reference.encode_text(encoder.tokenizer.tokenizer([text]))[0], atol=1e-5, rtol=1e-5)
    assert len(states) == 3
    assert truncated


def test_texts_do_not_depend_on_their_neighbours(clip_dir: Path) -> None:
    encoder = open_clip.load(clip_entry(clip_dir))
    together = encoder.encode_texts(CAPTIONS * 7)
    for caption, (states, sentence, _) in zip(CAPTIONS, together, strict=False):
        ((alone, alone_sentence, _),) = encoder.encode_texts([caption])
        assert torch.equal(states, alone)
        assert torch.equal(sentence, alone_sentence)


@pytest.mark.parametrize("kind", ["pt", "bin", "state_dict", "module", "half", "torchscript"])
def test_file_formats(kind: str, clip_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of each published kind behind a known architecture name gives the same tensors."""
    model = tiny_clip()
    state = model.state_dict()
    path = tmp_path / ("open_clip_pytorch_model.bin" if kind == "bin" else f"{kind}.pt")
    if kind == "torchscript":
        example = {"encode_image": torch.zeros(1, 3, SIZE, SIZE), "encode_text": torch.zeros(1, 12, dtype=torch.long)}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.trace_module(model, example), path)
    else:
        content = {"state_dict": {"epoch": 3, "state_dict": state}, "module": {f"module.{k}": v for k, v in state.items()}}
        torch.save(content.get(kind, {k: v.half() for k, v in state.items()} if kind == "half" else state), path)
    (clip_dir / "open_clip_model.safetensors").unlink()
    if kind == "bin":
        path.rename(clip_dir / path.name)
        encoder = open_clip.load(clip_entry(clip_dir))
    else:
        register(monkeypatch, "tiny-known", with_vocabulary(clip_dir))
        encoder = open_clip.load(OpenClip(architecture="tiny-known", weights=str(path), size=SIZE))
    for name, value in encoder.model.state_dict().items():
        assert torch.equal(value, state[name].half().float() if kind == "half" else state[name]), name


def with_vocabulary(folder: Path) -> dict:
    """The tiny architecture with its vocabulary given by an absolute path."""
    return CLIP_CFG | {"text_cfg": CLIP_CFG["text_cfg"] | {"tokenizer_kwargs": {"bpe_path": str(folder / "vocab.txt.gz")}}}


def register(monkeypatch: pytest.MonkeyPatch, name: str, cfg: dict) -> None:
    """Make `name` an architecture open_clip lists."""
    import open_clip.factory

    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, cfg)


@pytest.mark.parametrize("spoil", ["missing", "extra", "shape", "nan"])
def test_loading_is_strict(spoil: str, clip_dir: Path) -> None:
    file = clip_dir / "open_clip_model.safetensors"
    state = load_file(file)
    name = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    if spoil == "missing":
        del state[name]
    elif spoil == "extra":
        state["visual.extra"] = torch.zeros(2)
    elif spoil == "shape":
        state["positional_embedding"] = torch.zeros(14, 64)  # open_clip alone would resize it without a word
    else:
        state[name][0, 0] = float("nan")
    save_file(state, file)
    with pytest.raises(WeightsError, match="do not fit the architecture") as failure:
        open_clip.load(clip_entry(clip_dir))
    assert {"missing": name, "extra": "visual.extra", "shape": "positional_embedding (14, 64)", "nan": name}[spoil] in str(failure.value)


def test_pickled_code_is_not_run(clip_dir: Path, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "was-run",))

    (clip_dir / "open_clip_model.safetensors").unlink()
    torch.save({"state_dict": {"a": Evil()}}, clip_dir / "open_clip_pytorch_model.bin")
    with pytest.raises(WeightsError, match="cannot read"):
        open_clip.load(clip_entry(clip_dir))
    assert not (tmp_path / "was-run").exists()


def test_damaged_file(clip_dir: Path) -> None:
    file = clip_dir / "open_clip_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot read"):
        open_clip.load(clip_entry(clip_dir))


def test_wrong_size_and_preprocessing(tmp_path: Path, clip_dir: Path) -> None:
    with pytest.raises(EncoderError, match="takes 32x32 pixels"):
        open_clip.load(clip_entry(clip_dir, size=48))
    for said, wanted in (
        ({"resize_mode": "squash"}, {"resize": "shortest"}),
        ({"interpolation": "bilinear"}, {"interpolation": "bicubic"}),
    ):
        folder = clip_folder(tmp_path / "said", tiny_clip(), preprocess=said)
        open_clip.load(clip_entry(folder))
        with pytest.raises(EncoderError, match=r"(?s)was trained on frames with .* leave `.*` out"):
            open_clip.load(clip_entry(folder, **wanted))
    longest = clip_folder(tmp_path / "longest", tiny_clip(), preprocess={"resize_mode": "longest"})
    with pytest.raises(EncoderError, match=r"resize_mode longest"):
        open_clip.load(clip_entry(longest))


def test_own_mean_and_std(tmp_path: Path) -> None:
    folder = clip_folder(tmp_path / "own", tiny_clip(), preprocess={"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.5, 0.5]})
    encoder = open_clip.load(clip_entry(folder))
    found = encoder.normalise(torch.full((1, 1, 1, 3), 255, dtype=torch.uint8)).flatten()
    assert found.tolist() == pytest.approx([2.0, 1.0, 1.0], abs=1e-6)


def test_folder_of_another_architecture(clip_dir: Path) -> None:
    with pytest.raises(WeightsError, match=r"another architecture than ViT-B-16.*vision_cfg"):
        open_clip.load(clip_entry(clip_dir, architecture="ViT-B-16"))


def test_openai_weights_need_quick_gelu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clip_dir: Path) -> None:
    """OpenAI's archives carry three extra buffers: enough to know them from a file alone, where open_clip would not warn."""
    state = tiny_clip().state_dict() | {
        "input_resolution": torch.tensor(SIZE),
        "context_length": torch.tensor(12),
        "vocab_size": torch.tensor(520),
    }
    torch.save(state, tmp_path / "openai-like.pt")
    cfg = with_vocabulary(clip_dir)
    register(monkeypatch, "tiny-known", cfg)
    register(monkeypatch, "tiny-known-quickgelu", cfg | {"quick_gelu": True})
    with pytest.raises(WeightsError, match="QuickGELU mismatch") as failure:
        open_clip.load(OpenClip(architecture="tiny-known", weights=str(tmp_path / "openai-like.pt"), size=SIZE))
    assert "architecture: tiny-known-quickgelu" in str(failure.value)
    encoder = open_clip.load(OpenClip(architecture="tiny-known-quickgelu", weights=str(tmp_path / "openai-like.pt"), size=SIZE))
    with torch.no_grad():
        expected = tiny_clip(quick_gelu=True).encode_image(encoder.normalise(torch.from_numpy(pixels(2, SIZE, SIZE, 3))))
    torch.testing.assert_close(encoder.encode(pixels(2, SIZE, SIZE, 3)), expected, atol=1e-5, rtol=1e-5)


def test_custom_text_tower(tmp_path: Path) -> None:
    """The two-tower class loads the old one-tower names and has the same states; towers without them are refused by name."""
    cfg = {**CLIP_CFG, "custom_text": True}
    folder = clip_folder(tmp_path / "custom", tiny_clip(), cfg)
    encoder = open_clip.load(clip_entry(folder))
    assert isinstance(encoder.model, CustomTextCLIP)
    with torch.no_grad():
        expected = tiny_clip().encode_text(encoder.tokenizer.tokenizer(["the cat"]))[0]
    torch.testing.assert_close(encoder.encode_texts(["the cat"])[0][1], expected, atol=1e-5, rtol=1e-5)
    plain = {**CLIP_CFG, "custom_text": True, "text_cfg": {**CLIP_CFG["text_cfg"], "no_causal_mask": True, "pool_type": "last"}}
    model = randomised(CustomTextCLIP(**{k: v for k, v in plain.items() if k != "custom_text"}))
    encoder = open_clip.load(clip_entry(clip_folder(tmp_path / "siglip-like", model, plain)))
    assert encoder.encode(pixels(1, SIZE, SIZE, 3)).shape == (1, 24)
    states, sentence, _ = encoder.encode_texts(["the cat"])[0]
    ids = encoder.tokenizer.tokenizer(["the cat"])
    with torch.no_grad():
        torch.testing.assert_close(sentence, model.encode_text(ids)[0], atol=1e-5, rtol=1e-5)
    assert len(states) == int(ids.argmax()) + 1
    assert not encoder.sentence_is_last


def test_vocabulary_must_fit(clip_dir: Path) -> None:
    content = json.loads((clip_dir / "open_clip_config.json").read_text())
    del content["model_cfg"]["text_cfg"]["tokenizer_kwargs"]
    (clip_dir / "open_clip_config.json").write_text(json.dumps(content))
    encoder = open_clip.load(clip_entry(clip_dir))
    assert encoder.encode(pixels(1, SIZE, SIZE, 3)).shape == (1, 24)
    with pytest.raises(EncoderError, match="vocabulary has 49408 entries"):
        encoder.encode_texts(["the cat"])


def test_default_tokenizer_is_clips_own(shared: Path) -> None:
    """Token ids published for CLIP, without the hub."""
    expected = json.loads((shared / "annotations" / "oracle" / "clip_expected.json").read_text())["bumblebee_text"]["input_ids"]
    ids = SimpleTokenizer()(["a photo of a cat", "a photo of a dog"])
    assert [row[:7].tolist() for row in ids] == expected


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision(precision: str, clip_dir: Path) -> None:
    exact, low = open_clip.load(clip_entry(clip_dir)), open_clip.load(clip_entry(clip_dir, precision=precision))
    frames = pixels(3, SIZE, SIZE, 3)
    a, b = exact.encode(frames), low.encode(frames)
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert torch.cosine_similarity(a, b).min() > 0.999
    assert torch.cosine_similarity(exact.encode_texts(["the cat"])[0][1], low.encode_texts(["the cat"])[0][1], dim=0) > 0.999


def test_unknown_architecture(clip_dir: Path) -> None:
    with pytest.raises(EncoderError, match="knows no architecture"):
        open_clip.load(clip_entry(clip_dir / "open_clip_model.safetensors", architecture="ViT-B-17"))


def test_images_are_position_independent(clip_dir: Path) -> None:
    encoder = open_clip.load(clip_entry(clip_dir))
    frames = pixels(8, SIZE, SIZE, 3)
    order = np.array([5, 2, 7, 0, 1, 3, 6, 4])
    assert torch.equal(encoder.encode(frames)[order], encoder.encode(frames[order]))
