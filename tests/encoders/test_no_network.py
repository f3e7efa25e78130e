"""No encoder asks a host for anything: what is not on this machine is named, never fetched."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config.encoders import OpenClip, SlowFast
from pipeline.config.schema import Config
from pipeline.core.errors import EncoderError, WeightsError
from pipeline.encoders import open_clip, slowfast
from pipeline.encoders.token_counts import token_counts
from pipeline.encoders.weights import inventory
from tests.encoders.conftest import clip_entry
from tests.encoders.towers import FAMILIES, family


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that were asked for; nobody answers. The libraries may go online as far as they are concerned."""
    hosts: list[str] = []

    def refuse(*args: object, **_: object) -> None:
        hosts.append(str(args[-2] if isinstance(args[0], socket.socket) else args[0]))
        raise OSError("no network in this test")

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return hosts


def elsewhere(content: dict) -> None:
    content["model_cfg"]["vision_cfg"]["timm_model_name"] = "hf-hub:somebody/model"


def text_elsewhere(content: dict) -> None:
    content["model_cfg"]["text_cfg"]["hf_model_name"] = "somebody/model"


def words_elsewhere(content: dict) -> None:
    content["model_cfg"]["text_cfg"] |= {"hf_tokenizer_name": "somebody/words", "tokenizer_kwargs": {}}


@pytest.mark.parametrize("change", [elsewhere, text_elsewhere, words_elsewhere])
def test_a_folder_that_names_the_hub(tmp_path: Path, asked: list[str], change: Callable[[dict], None]) -> None:
    file = family("pe-core", tmp_path / "model") / "open_clip_config.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    entry = clip_entry(file.parent)
    with pytest.raises((EncoderError, WeightsError)):
        open_clip.load(entry).encode_texts(["a"])
    token_counts(entry, ["a"])
    assert asked == []


@pytest.mark.parametrize("name", sorted(set(FAMILIES) - {"coca"}))
def test_a_folder_that_is_whole(tmp_path: Path, asked: list[str], name: str) -> None:
    entry = clip_entry(family(name, tmp_path / "model"))
    encoder = open_clip.load(entry)
    with contextlib.suppress(EncoderError):  # some have images alone
        encoder.encode_texts(["a man"])
    assert asked == []


def test_published_names_that_are_not_here(asked: list[str]) -> None:
    entries = [
        OpenClip(),
        OpenClip(architecture="ViT-B-16-SigLIP2", weights="webli"),
        OpenClip(architecture="xlm-roberta-base-ViT-B-32", weights="laion5b_s13b_b90k"),
        SlowFast(),
    ]
    for entry in entries:
        with pytest.raises(WeightsError, match="not on this machine"):
            (open_clip.load if isinstance(entry, OpenClip) else slowfast.load)(entry)  # type: ignore[operator]
        _ = entry.cost, entry.stream, entry.vocabulary
    config = Config(encoders={"a": entries[1], "b": entries[3]}, features=["a", "b"], text="a")
    assert all(needed.problem for needed in inventory(config))
    assert asked == []
