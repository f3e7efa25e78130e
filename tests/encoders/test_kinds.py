"""Kinds of encoders: each by its own module and settings, ours and a user's; what one is made of says nothing of another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.encoder import Encoder
from pipeline.config.encoders import Imported, OpenClip, SlowFast, Transformers
from pipeline.config.reading import validate
from pipeline.config.schema import Config
from pipeline.core import plugins, provenance
from pipeline.core.errors import ConfigError, EncoderError
from pipeline.encoders.base import load, load_text
from pipeline.jobs import recipes
from pipeline.tools import doctor

MINE = '''
from typing import ClassVar

import torch

from pipeline.config.encoder import Encoder
from pipeline.config.streams import Stream
from pipeline.encoders.base import Caption


class Settings(Encoder):
    """Mean colours of a few frames, and of the letters of a caption."""

    frames: int = 2
    reads_text: ClassVar[bool] = READS

    @property
    def stream(self) -> Stream:
        return Stream(self.sampling.every, "window", self.size, self.frames, 4.0, 1, resize="squash")


class Colours:
    text_dim, sentence_is_last, dim, weights, preprocessing = 3, False, 3, None, {}

    def __init__(self, settings, device, name):
        self.device = torch.device(device)

    def encode(self, rows):
        return torch.as_tensor(rows).float().mean(dim=(1, 2, 3)) / 255

    def encode_texts(self, texts):
        return [Caption(torch.ones(len(text.split()), 3), torch.ones(3), False) for text in texts]


load = Colours
'''


def mine(folder: Path, monkeypatch: pytest.MonkeyPatch, *, reads: bool, name: str) -> dict:
    """A user's package `name` in the working directory, and its entry."""
    (folder / name).mkdir()
    (folder / name / "colours.py").write_text(MINE.replace("READS", str(reads)))
    monkeypatch.chdir(folder)
    return {"kind": f"{name}.colours", "size": 16, "frames": 3}


def config(entry: dict, text: str = "clip") -> Config:
    values = {"encoders": {"clip": {"kind": "open_clip"}, "mine": entry}, "features": ["clip", "mine"], "text": text}
    return validate(values, source="a test")


def test_a_users_kind_from_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = config(mine(tmp_path, monkeypatch, reads=True, name="own_a"), text="mine")
    settings = made.network("mine")
    assert (settings.frames, settings.stream.name) == (3, "window3x1at4-every2s-16px-squash")  # type: ignore[attr-defined]
    assert settings.stream.name in made.streams
    assert load(settings, "cpu", "mine").encode(np.full((2, 3, 16, 16, 3), 255, np.uint8)).tolist() == [[1.0] * 3] * 2
    assert load_text(settings, "cpu", "mine").encode_texts(["a b"])[0].states.shape == (2, 3)
    found = recipes.features(made, "mine")
    assert (found["encoder"]["frames"], found["weights"]) == (3, "")
    before, clip = recipes.features(made, "mine")["code"], recipes.features(made, "clip")["code"]
    file = tmp_path / "own_a" / "colours.py"
    file.write_text(file.read_text().replace("/ 255", "/ 256"))
    provenance._imports.cache_clear()
    assert recipes.features(made, "mine")["code"] != before
    assert recipes.features(made, "clip")["code"] == clip
    assert "torch" in [check.name for check in doctor._libraries(made, made.layout)]


def test_who_does_not_read_text_is_refused_as_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = mine(tmp_path, monkeypatch, reads=False, name="own_b")
    with pytest.raises(ConfigError, match="'mine', which has no text tower"):
        config(entry, text="mine")
    for settings in (config(entry).network("mine"), Imported()):
        with pytest.raises(EncoderError, match="which has no text tower: it cannot encode a typed query"):
            load_text(settings, "cpu", "mine")


def test_a_kind_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"put nowhere/at_all.py there"):
        config({"kind": "nowhere.at_all"})
    with pytest.raises(ConfigError, match=r"one of open_clip, slowfast, transformers, imported"):
        config({"kind": "opneclip"})


def test_keys_of_a_users_kind_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = mine(tmp_path, monkeypatch, reads=False, name="own_c")
    with pytest.raises(ConfigError, match=r"encoders.mine.*frames.*valid integer"):
        config({**entry, "frames": "many"})
    with pytest.raises(ConfigError, match=r"encoders.mine.*bins"):
        config({**entry, "bins": 3})


@pytest.mark.parametrize("settings", [OpenClip(), SlowFast(), Transformers(weights="x")])
def test_the_code_of_a_kind_is_no_other_kinds(settings: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[str] = set()
    imports = provenance._imports
    monkeypatch.setattr(provenance, "_imports", lambda module: (seen.add(module), imports(module))[1])
    made = Config(encoders={"it": settings, "clip": OpenClip()}, features=["it"], text="clip")
    provenance.code_digest(*recipes.encoding(made, "it"))
    kinds = {f"pipeline.encoders.{kind}" for kind in ("open_clip", "slowfast", "transformers")}
    assert seen & kinds == {plugins.module_of("encoders", settings.kind)}
    assert "pipeline.encoders.stage" in seen
    assert "pipeline.encoders.golden" not in seen


def test_a_texts_recipe_knows_nothing_of_pictures() -> None:
    one, other = (
        Config(encoders={"clip": entry}, features=["clip"], text="clip")
        for entry in (OpenClip(), OpenClip(size=336, sampling={"every": 1.0}, resize="squash", interpolation="bilinear", compile=True))
    )
    assert recipes.text(one, "clip") == recipes.text(other, "clip")
    assert recipes.features(one, "clip") != recipes.features(other, "clip")
    low = Config(encoders={"clip": OpenClip(precision="bf16")}, features=["clip"], text="clip")
    assert recipes.text(one, "clip") != recipes.text(low, "clip")
