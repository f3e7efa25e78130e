"""Every family open_clip lists: pixels, vectors, tokens and sentences are those of the library itself, from local files alone."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip import get_model_config, list_models
from open_clip.factory import create_model
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import load_file

from pipeline.config.encoders import OpenClip
from pipeline.config.schema import Config
from pipeline.core.errors import EncoderError, WeightsError
from pipeline.encoders import architecture, open_clip
from pipeline.encoders.weights import identity, inventory
from pipeline.video.picture import square
from tests.encoders.conftest import SIZE, clip_entry, pixels
from tests.encoders.towers import FAMILIES, OF_HUB, family

CAPTIONS = ["The cat", "a", "", "the bat, then THE hat!", "the " * 90, "wow!!! !!"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking anybody for anything is a failure."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(params=FAMILIES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(name: str, tmp_path: Path) -> Path:
    return family(name, tmp_path / name)


def theirs(folder: Path) -> Any:
    """The library's own model with the same weights."""
    model = create_model(f"local-dir:{folder}", load_weights=False, pretrained_image=False, pretrained_text=False).eval()
    model.load_state_dict(load_file(folder / "open_clip_model.safetensors"))
    return model


def their_tokenizer(name: str, folder: Path) -> Any:
    text = FAMILIES[name][0]["text_cfg"]
    kwargs = dict(text.get("tokenizer_kwargs") or {})
    if name in OF_HUB:
        return HFTokenizer(str(folder), context_length=text["context_length"], **kwargs)
    return SimpleTokenizer(context_length=text["context_length"], bpe_path=str(folder / kwargs["bpe_path"]))


@pytest.mark.parametrize("shape", [(48, 80), (90, 40), (32, 32), (31, 200)])
def test_pictures_equal_the_librarys(name: str, folder: Path, shape: tuple[int, int]) -> None:
    """From a decoded frame to the image vector, with the configuration's defaults alone."""
    entry = clip_entry(folder)
    encoder, model, said = open_clip.load(entry), theirs(folder), FAMILIES[name][1]
    frame, stream = pixels(*shape, 3), entry.stream
    ours = square(frame, stream.size, resize=stream.resize, interpolation=stream.interpolation)
    expected = image_transform(SIZE, False, **said)(Image.fromarray(frame))
    assert (encoder.normalise(torch.from_numpy(ours)) - expected).abs().max() <= 1e-6
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode(ours[None]), model.encode_image(expected[None]), atol=1e-5, rtol=1e-5)
    assert encoder.preprocessing["resize_mode"] == said.get("resize_mode", "shortest")


def test_texts_equal_the_librarys(name: str, folder: Path) -> None:
    encoder, model, tokenizer = open_clip.load(clip_entry(folder)), theirs(folder), their_tokenizer(name, folder)
    seen: list[torch.Tensor] = []
    model.get_submodule("text.ln_final" if hasattr(model, "text") else "ln_final").register_forward_hook(lambda *args: seen.append(args[2]))
    ids = tokenizer(CAPTIONS)
    with torch.no_grad():
        sentences = model.encode_text(ids)
    found = encoder.encode_texts(CAPTIONS)
    torch.testing.assert_close(torch.stack([caption.sentence for caption in found]), sentences, atol=1e-5, rtol=1e-5)
    for row, full, tokens, caption in zip(ids, seen[0], encoder.tokenizer(CAPTIONS), found, strict=True):
        assert row[: len(tokens.ids)].tolist() == tokens.ids.tolist()
        assert set(row[len(tokens.ids) :].tolist()) <= {encoder.tokenizer.pad}
        torch.testing.assert_close(caption.states, full[: len(tokens.ids)], atol=1e-5, rtol=1e-5)
    assert [caption.truncated for caption in found] == [False, False, False, len(found[3].states) == 12, True, False]
    assert encoder.sentence_is_last == (name not in ("siglip", "siglip2", "clipa"))


def test_capitals_stay_where_the_models_tokenizer_keeps_them(tmp_path: Path) -> None:
    for name, lowered in (("cased", False), ("siglip2", True), ("eva02", True)):
        encoder = open_clip.load(clip_entry(family(name, tmp_path / name)))
        low, high = encoder.tokenizer(["the cat", "The CaT"])
        assert (low.ids.tolist() == high.ids.tolist()) == lowered, name


def test_texts_do_not_depend_on_their_neighbours(folder: Path) -> None:
    encoder = open_clip.load(clip_entry(folder))
    for caption, together in zip(CAPTIONS, encoder.encode_texts(CAPTIONS * 7), strict=False):
        (alone,) = encoder.encode_texts([caption])
        assert torch.equal(alone.states, together.states)
        assert torch.equal(alone.sentence, together.sentence)


def test_tokenizer_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images need none; the error says which files, and they are found where it says."""
    folder = family("siglip2", tmp_path / "model")
    files = [folder / name for name in ("tokenizer.json", "tokenizer_config.json")]
    monkeypatch.setenv("PRVR_WEIGHTS", str(tmp_path / "weights"))
    elsewhere = tmp_path / "weights" / "of-this-folder"
    elsewhere.mkdir(parents=True)
    kept = [file.rename(elsewhere / file.name) for file in files]
    entry = clip_entry(folder)
    before, there = identity(entry), open_clip.load(entry).encode_texts(["a"])[0].sentence
    kept[0].write_text(kept[0].read_text() + "\n")
    assert identity(entry) != before, "another tokenizer gives other texts"
    for file in kept:
        file.rename(folder / file.name)
    assert torch.equal(open_clip.load(entry).encode_texts(["a"])[0].sentence, there)
    files[1].unlink()
    with pytest.raises(EncoderError, match=r"does not pad at the end(.|\n)*tokenizer_config.json beside it"):
        open_clip.load(entry).encode_texts(["a"])
    files[0].unlink()
    encoder = open_clip.load(entry)
    assert encoder.encode(pixels(1, SIZE, SIZE, 3)).shape == (1, 24)
    words = r"tokenizer.json and tokenizer_config.json of https://huggingface.co/timm/of-this-folder"
    with pytest.raises(WeightsError, match=words):
        encoder.encode_texts(["a"])
    for text, named in (("model", True), ("clip", False)):
        other = OpenClip(weights=str(family("pe-core", tmp_path / "clip")), architecture="own", size=SIZE)
        config = Config(encoders={"model": entry, "clip": other}, features=["model"], text=text)
        problems = {needed.encoder: bool(re.search(words, needed.problem)) for needed in inventory(config)}
        assert problems == {name: named and name == "model" for name in {"model": 0, text: 0}}, "only an encoder of queries needs one"


def test_a_tower_described_on_the_hub_is_refused(tmp_path: Path) -> None:
    folder = family("pe-core", tmp_path / "model")
    content = json.loads((folder / "open_clip_config.json").read_text())
    content["model_cfg"]["vision_cfg"]["timm_model_name"] = "hf-hub:someone/model"
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    with pytest.raises(EncoderError, match="on the hub"):
        open_clip.load(clip_entry(folder))


def test_published_tags_have_their_streams() -> None:
    """What decoding must do is known from the tag, before any weights are here."""
    for model, tag, resize, interpolation in (
        ("ViT-B-16-SigLIP2", "webli", "squash", "bicubic"),
        ("PE-Core-B-16", "meta", "squash", "bilinear"),
        ("EVA02-B-16", "merged2b_s8b_b131k", "shortest", "bicubic"),
        ("ViT-B-16-quickgelu", "metaclip_fullcc", "shortest", "bicubic"),
    ):
        entry = OpenClip(architecture=model, weights=tag)
        assert entry.published is not None, model
        assert (entry.stream.resize, entry.stream.interpolation) == (resize, interpolation)
    assert OpenClip(architecture="ViT-B-16-SigLIP2", weights="webli").stream.name == "still-middle-every2s-224px-squash"
    assert OpenClip().stream.name == "still-middle-every2s-224px"
    assert OpenClip().stream.recipe == {"every": 2.0, "at": "middle", "size": 224, "count": 1, "fps": 0.0, "stride": 1}


def test_the_page_lists_what_is_refused(root: Path) -> None:
    """docs/stages.md names the architectures of open_clip that are no configuration entry, and those whose text is not."""
    page = (root / "docs" / "stages.md").read_text()
    (refused,), (images,) = (re.findall(rf"{words}: ([^.]*)\.", page) for words in ("built from the hub", "images alone"))
    configs = {name: get_model_config(name) for name in list_models()}
    of_hub = {name for name, cfg in configs.items() if "hf_model_name" in cfg["text_cfg"]}
    no_text = {name for name, cfg in configs.items() if cfg["text_cfg"].get("embed_cls")} - of_hub
    assert set(re.findall(r"`([^`]+)`", refused)) == of_hub
    assert set(re.findall(r"`([^`]+)`", images)) == no_text
    for name in of_hub:
        with pytest.raises(EncoderError, match="hub"):
            architecture.check_network_free(configs[name], OpenClip(architecture=name))
    for name in configs.keys() - of_hub:
        architecture.check_network_free(configs[name], OpenClip(architecture=name))


def test_coca_has_images_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = get_model_config("coca_ViT-B-32")
    vision = {**cfg["vision_cfg"], "image_size": SIZE, "layers": 2, "width": 64, "patch_size": 16, "attn_pooler_heads": 2}
    words = {**cfg["text_cfg"], "width": 64, "heads": 2, "layers": 2}
    decoder = {**cfg["multimodal_cfg"], "width": 64, "heads": 2, "layers": 2, "attn_pooler_heads": 2}
    coca = {**cfg, "embed_dim": 64, "vision_cfg": vision, "text_cfg": words, "multimodal_cfg": decoder}
    monkeypatch.setitem(FAMILIES, "coca", (coca, {}))
    encoder = open_clip.load(clip_entry(family("coca", tmp_path / "coca")))
    assert np.isfinite(encoder.encode(pixels(2, SIZE, SIZE, 3)).numpy()).all()
    with pytest.raises(EncoderError, match="images can be used all the same"):
        encoder.encode_texts(["a"])
