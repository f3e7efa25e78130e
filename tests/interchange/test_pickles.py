"""Checkpoints are read without running them, and written back so that torch.load sees the same objects."""

import argparse
import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.errors import BundleError
from pipeline.interchange.pickles import Inert, read_pickle, write_pickle


class Settings(dict):
    """A dictionary with attributes, as the released configuration is."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        for key, value in values.items():
            self[key] = Settings(value) if isinstance(value, dict) else value
        self.__dict__.update(self)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> type:
    """`Settings` as a class of a module that is only importable inside the test."""
    module = types.ModuleType("elsewhere")
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    monkeypatch.setattr(Settings, "__module__", "elsewhere")
    module.Settings = Settings  # type: ignore[attr-defined]
    return Settings


@pytest.fixture
def saved(foreign: type, tmp_path: Path) -> Path:
    base = torch.arange(24, dtype=torch.float32)
    content = {
        "state_dict": OrderedDict(
            a=base.view(4, 6).t(), b=base[5:9], c=torch.tensor(7), d=torch.zeros(0, 3), e=torch.nn.Parameter(base.half())
        ),
        "config": foreign({"hidden": 32, "inner": {"x": (1, 2)}, "n": np.float64(0.5), "p": Path("/x"), "ns": argparse.Namespace(a=1)}),
        "optimizer": {"state": {0: {"next_m": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "dtype": torch.float16}]},
        "epoch": 3,
    }
    torch.save(content, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def test_tensors_and_values_are_read_and_classes_stay_inert(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "elsewhere")
    found = read_pickle(saved)
    base = torch.arange(24, dtype=torch.float32)
    expected = {"a": base.view(4, 6).t(), "b": base[5:9], "c": torch.tensor(7), "d": torch.zeros(0, 3), "e": base.half()}
    for name, tensor in expected.items():
        assert torch.equal(found["state_dict"][name], tensor)
        assert found["state_dict"][name].dtype == tensor.dtype
    assert isinstance(found["config"], Inert)
    assert found["config"]["hidden"] == 32
    assert found["config"]["inner"]["x"] == (1, 2)
    assert found["optimizer"]["param_groups"] == [{"lr": 0.1, "dtype": torch.float16}]


def test_written_back_it_is_the_same_for_torch(saved: Path) -> None:
    found = read_pickle(saved)
    write_pickle(saved.with_name("again.ckpt"), found)
    again, first = (torch.load(path, weights_only=False) for path in (saved.with_name("again.ckpt"), saved))
    assert type(again["config"]) is Settings
    assert again["config"] == first["config"]
    assert again["config"].__dict__ == first["config"].__dict__
    torch.testing.assert_close(dict(again["state_dict"]), {k: v.detach() for k, v in first["state_dict"].items()}, rtol=0, atol=0)


class Hostile:
    """Runs a command when unpickled the ordinary way."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


def test_hostile_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "config": Hostile(tmp_path / "run")}, tmp_path / "best.ckpt")
    assert torch.equal(read_pickle(tmp_path / "best.ckpt")["state_dict"]["w"], torch.ones(2))
    assert not (tmp_path / "run").exists()


def _archive(path: Path, data: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data.pkl", data)
        for name, content in entries.items():
            archive.writestr(f"best/{name}", content)
    return path


def test_what_is_no_checkpoint_is_refused_by_name(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such checkpoint"):
        read_pickle(tmp_path / "none")
    (tmp_path / "text").write_text("weights")
    with pytest.raises(BundleError, match="not a readable torch checkpoint"):
        read_pickle(tmp_path / "text")
    (tmp_path / "cut").write_bytes(saved.read_bytes()[:-200])
    with pytest.raises(BundleError, match="not a readable torch checkpoint"):
        read_pickle(tmp_path / "cut")
    with pytest.raises(BundleError, match="not a readable torch checkpoint"):
        read_pickle(_archive(tmp_path / "odd.zip", b"\x80\x02."))
    with pytest.raises(BundleError, match="big-endian"):
        read_pickle(_archive(tmp_path / "big.zip", pickle.dumps({}, 2), byteorder=b"big"))
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("x", b"")
    with pytest.raises(BundleError, match=r"not one of torch\.save"):
        read_pickle(tmp_path / "other.zip")


def test_a_tensor_cannot_read_past_its_storage(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(4)}, buffer)
    with zipfile.ZipFile(buffer) as archive:
        names = {name: archive.read(name) for name in archive.namelist()}
    root = next(name for name in names if name.endswith("data.pkl")).removesuffix("data.pkl")
    with zipfile.ZipFile(tmp_path / "short.ckpt", "w") as archive:
        for name, data in names.items():
            archive.writestr(name, data[:8] if name == f"{root}data/0" else data)
    with pytest.raises(BundleError, match="not a readable torch checkpoint"):
        read_pickle(tmp_path / "short.ckpt")
