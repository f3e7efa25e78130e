"""Torch archives are read without running them, and what is written holds nothing that could run."""

import argparse
import collections
import io
import os
import pickle
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core.pickles import Inert, plain, read_archive, write_archive

BASE = torch.arange(24, dtype=torch.float32)


class EasyDict(dict):
    """A dictionary with attributes, as the released configuration is."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__()
        for key, value in values.items():
            self[key] = EasyDict(value) if isinstance(value, dict) else value
        self.__dict__.update(self)


@pytest.fixture
def easydict(monkeypatch: pytest.MonkeyPatch) -> type:
    """`EasyDict` as the class of a module that is only importable inside the test."""
    module = types.ModuleType("easydict")
    monkeypatch.setitem(sys.modules, "easydict", module)
    monkeypatch.setattr(EasyDict, "__module__", "easydict")
    module.EasyDict = EasyDict  # type: ignore[attr-defined]
    return EasyDict


@pytest.fixture
def saved(easydict: type, tmp_path: Path) -> Path:
    content = {
        "state_dict": OrderedDict(
            a=BASE.view(4, 6).t(), b=BASE[5:9], c=torch.tensor(7), d=torch.zeros(0, 3), e=torch.nn.Parameter(BASE.half())
        ),
        "config": easydict({"hidden": 32, "inner": {"x": (1, 2)}, "n": np.float64(0.5), "p": Path("/x"), "ns": argparse.Namespace(a=1)}),
        "counts": [collections.Counter("aab"), collections.defaultdict(list, {"k": [1]})],
        "arrays": {
            "mean": np.arange(6.0).reshape(2, 3),
            "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
            "odd": np.array([Path("/")]),
        },
        "optimizer": {"state": {0: {"next_m": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "dtype": torch.float16}]},
        "epoch": 3,
    }
    torch.save(content, tmp_path / "best.ckpt")
    return tmp_path / "best.ckpt"


def test_tensors_and_values_are_read_and_classes_stay_inert(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "easydict")
    content = read_archive(saved)
    expected = {"a": BASE.view(4, 6).t(), "b": BASE[5:9], "c": torch.tensor(7), "d": torch.zeros(0, 3), "e": BASE.half()}
    for name, tensor in expected.items():
        assert torch.equal(content["state_dict"][name], tensor)
        assert content["state_dict"][name].dtype == tensor.dtype
    assert content["config"].name == "easydict.EasyDict"
    assert content["config"]["hidden"] == 32
    assert content["config"]["inner"]["x"] == (1, 2)
    assert content["optimizer"]["param_groups"] == [{"lr": 0.1, "dtype": torch.float16}]


def test_plain_keeps_values_and_names_what_it_leaves_out(saved: Path) -> None:
    kept, left_out = plain(read_archive(saved))
    assert kept["config"] == {"hidden": 32, "inner": {"x": (1, 2)}, "n": 0.5, "ns": {"a": 1}}
    assert kept["counts"] == [{"a": 2, "b": 1}, {"k": [1]}]
    assert kept["arrays"] == {"mean": [[0, 1, 2], [3, 4, 5]], "turned": [[0, 1, 2], [3, 4, 5]]}
    assert [line.split(": ")[0] for line in left_out] == ["config.p", "arrays.odd"]
    assert "pathlib" in left_out[0]
    write_archive(saved.with_name("plain.ckpt"), kept)
    again = torch.load(saved.with_name("plain.ckpt"), weights_only=True)  # the mode that refuses to call anything
    assert again["config"] == kept["config"]
    torch.testing.assert_close(dict(again["state_dict"]), dict(kept["state_dict"]), rtol=0, atol=0)


def test_what_could_run_is_never_written(saved: Path) -> None:
    path = saved.with_name("out.ckpt")
    for value in ({"config": read_archive(saved)["config"]["p"]}, {"f": print}, {"a": [{"b": Path("/")}]}):
        with pytest.raises(TypeError, match="not plain values"):
            write_archive(path, value)
    assert not path.exists()


class Hostile:
    """Runs a command when unpickled the ordinary way."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


def test_hostile_code_is_not_run(tmp_path: Path) -> None:
    torch.save({"state_dict": {"w": torch.ones(2)}, "config": Hostile(tmp_path / "run")}, tmp_path / "best.ckpt")
    content = read_archive(tmp_path / "best.ckpt")
    assert torch.equal(content["state_dict"]["w"], torch.ones(2))
    kept, left_out = plain(content)
    assert list(kept) == ["state_dict"]
    assert left_out == ["config: posix.system"]
    assert not (tmp_path / "run").exists()


def test_reading_a_file_changes_nothing_for_the_next(tmp_path: Path) -> None:
    """A pickle may set attributes on what it is handed: `_rebuild_tensor_v2` with other defaults, a class with other methods."""
    attack = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x08\x00\x00\x00__name__X\x04\x00\x00\x00evils\x86b."
    with zipfile.ZipFile(tmp_path / "attack.ckpt", "w") as archive:
        archive.writestr("best/data.pkl", attack)
    changed = read_archive(tmp_path / "attack.ckpt")
    assert changed.__name__ == "evil"
    torch.save({"w": torch.ones(2)}, tmp_path / "good.ckpt")
    assert torch.equal(read_archive(tmp_path / "good.ckpt")["w"], torch.ones(2))
    with zipfile.ZipFile(tmp_path / "name.ckpt", "w") as archive:
        archive.writestr("best/data.pkl", b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n.")
    assert read_archive(tmp_path / "name.ckpt").__name__ != "evil"


def _rewritten(path: Path, source: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(path, "w", compression) as target:
        for name in archive.namelist():
            target.writestr(name, change(name, archive.read(name)))
    return path


@pytest.mark.parametrize("kind", ["short storage", "stretched", "compressed", "big-endian", "no pickle", "not a zip", "cut"])
def test_what_is_no_whole_archive_is_refused(tmp_path: Path, kind: str) -> None:
    source, path = tmp_path / "good.ckpt", tmp_path / "bad.ckpt"
    torch.save({"w": torch.ones(4)}, source)
    if kind == "short storage":
        _rewritten(path, source, lambda name, data: data[:8] if "/data/0" in name else data)
    elif kind == "stretched":
        # A tensor of 10^12 values over four: strides of 0 need no storage, a copy of it needs terabytes.
        buffer = io.BytesIO()
        torch.save({"w": torch.ones(4).as_strided((4,), (0,))}, buffer)
        source.write_bytes(buffer.getvalue())
        _rewritten(path, source, lambda name, data: data.replace(b"K\x04\x85", b"\x8a\x06\x00\x10\xa5\xd4\xe8\x00\x85"))
    elif kind == "compressed":
        _rewritten(path, source, lambda name, data: data, zipfile.ZIP_DEFLATED)
    elif kind == "big-endian":
        _rewritten(path, source, lambda name, data: b"big" if name.endswith("byteorder") else data)
    elif kind == "no pickle":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x", b"")
    else:
        path.write_bytes(b"weights" if kind == "not a zip" else source.read_bytes()[:-200])
    with pytest.raises((pickle.UnpicklingError, zipfile.BadZipFile, RuntimeError, ValueError)):
        read_archive(path)


def test_saving_replaces_no_module_while_it_works(saved: Path) -> None:
    """What else runs in this process keeps its modules: a configuration may name numpy or collections."""
    code = (
        "import sys, torch, collections, numpy\n"
        "from pipeline.core.pickles import plain, read_archive, write_archive\n"
        "before = dict(sys.modules)\n"
        "save, seen = torch.save, []\n"
        "def watched(*given):\n"
        "    seen.extend(name for name, module in before.items() if sys.modules.get(name) is not module)\n"
        "    save(*given)\n"
        "torch.save = watched\n"
        f"write_archive({str(saved.with_name('o.ckpt'))!r}, plain(read_archive({str(saved)!r}))[0])\n"
        "sys.exit(repr(seen) if seen or 'unittest.mock' in sys.modules and 'unittest.mock' not in before else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_of_a_module_archive_the_attributes_are_read(tmp_path: Path) -> None:
    with torch.no_grad():
        torch.jit.save(torch.jit.trace(torch.nn.Linear(3, 2), torch.zeros(1, 3)), tmp_path / "script.pt")
    tree = read_archive(tmp_path / "script.pt")
    assert isinstance(tree, Inert)
    assert tree.state["weight"].shape == (2, 3)
