"""Reading a torch checkpoint without running what is pickled in it, and writing one back.

A pickle names classes and functions to call. Here every name becomes an inert stand-in that only remembers how it was called; tensors are
rebuilt from the archive's bytes by this module. Nothing of the file is imported or executed.
"""

from __future__ import annotations

import copyreg
import io
import math
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from pipeline.core.atomic import replacing
from pipeline.core.errors import BundleError

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class Inert(dict):
    """Stands for an object of a class that is not imported: a dictionary of its items, with its arguments and state."""

    arguments: tuple
    called: bool
    state: Any
    extra: list

    def __new__(cls, *arguments: Any, **_: Any) -> Inert:
        self = super().__new__(cls)
        self.arguments, self.called, self.state, self.extra = arguments, False, None, []
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        # Unpickling by NEWOBJ skips this; a call does not. Writing back needs to know which it was.
        super().__init__()
        self.called = True

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        self.extra.append(item)

    def extend(self, items: Any) -> None:
        self.extra.extend(items)

    def __reduce_ex__(self, _: Any) -> tuple:
        make = (type(self), self.arguments) if self.called else (copyreg.__newobj__, (type(self), *self.arguments))  # type: ignore[attr-defined]
        return (*make, self.state, iter(self.extra), iter(self.items()))


def stand_in(module: str, name: str) -> type[Inert]:
    """An inert class that is written back under the name it was read by."""
    return type(name.rpartition(".")[2], (Inert,), {"__module__": module, "__qualname__": name})


class _Reader(pickle.Unpickler):
    """Unpickles `data.pkl` of a torch archive; see the module."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root
        self._stand_ins: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
            ("torch", "Size"): lambda sizes=(): tuple(sizes),
            **{("torch", name): dtype for name, dtype in _STORAGES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in self._stand_ins:
            self._stand_ins[module, name] = stand_in(module, name)
        return self._stand_ins[module, name]

    def persistent_load(self, pid: Any) -> torch.Tensor:
        _, dtype, key, *_ = pid
        data = self._archive.read(f"{self._root}data/{key}")
        return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.zeros(0, dtype=dtype)


def _tensor(storage: torch.Tensor, offset: int, size: Any, stride: Any, *_: Any) -> torch.Tensor:
    if math.prod(size) == 0:
        return torch.zeros(tuple(size), dtype=storage.dtype)
    return storage.as_strided(tuple(size), tuple(stride), int(offset)).clone()


def read_pickle(path: str | Path) -> Any:
    """The contents of a `torch.save` file: tensors and plain values as they are, everything else inert.

    Errors: BundleError when the file is not a torch archive (the format of torch 1.6 and later), or is damaged.
    """
    path = Path(path)
    if not path.exists():
        raise BundleError("no such checkpoint", where=path, fix="check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            inner = next((name for name in archive.namelist() if name.endswith("data.pkl")), None)
            if inner is None:
                raise BundleError("a zip file, but not one of torch.save", where=path, fix="give the `best.ckpt` of a run")
            root = inner.removesuffix("data.pkl")
            if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
                raise BundleError("written on a big-endian machine", where=path, fix="save it again on a little-endian one")
            return _Reader(archive, root).load()
    except BundleError:
        raise
    except Exception as error:  # a malformed pickle can fail in any way
        raise BundleError(
            f"not a readable torch checkpoint ({type(error).__name__}: {error})",
            where=path,
            fix="give the `best.ckpt` of a run; files of torch before 1.6 must be saved again with a newer one",
        ) from error


@contextmanager
def _named(value: Any) -> Iterator[None]:
    """Lets pickle find the stand-ins under their own names while writing; nothing real is shadowed after the block."""
    modules: dict[str, Any] = {}

    def visit(node: Any) -> None:
        if isinstance(node, Inert):
            module = modules.setdefault(type(node).__module__, types.ModuleType(type(node).__module__))
            setattr(module, type(node).__qualname__, type(node))
            visit([node.arguments, node.state, node.extra])
        if isinstance(node, dict):
            visit(list(node.values()))
        elif isinstance(node, list | tuple):
            for item in node:
                visit(item)

    visit(value)
    with mock.patch.dict(sys.modules, modules):
        yield


def write_pickle(path: str | Path, value: Any) -> None:
    """`torch.save`, with inert objects written back as what they stand for."""
    with replacing(path) as temporary, _named(value):
        torch.save(value, temporary)
