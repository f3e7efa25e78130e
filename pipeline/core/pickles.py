"""Torch archives read without running what is pickled in them, and written with nothing in them that could run.

A pickle names classes and functions to call. Here every name but those of tensors becomes an inert stand-in that only remembers how it was
called; tensors are built from the archive's bytes. Nothing of the file is imported or executed. What is written is plain values and
tensors, which `torch.load` takes in its safe default mode.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.core.atomic import replacing

STORAGES = {
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
CONTAINERS = ("easydict.EasyDict", "argparse.Namespace", "types.SimpleNamespace", "collections.defaultdict", "collections.Counter")
_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")


class Inert(dict):
    """Stands for an object of a class that is not imported: a dictionary of its items, with its name, arguments and state."""

    name = ""
    arguments: tuple = ()
    state: Any = None

    def __new__(cls, *arguments: Any, **_: Any) -> Inert:
        self = super().__new__(cls)
        self.arguments = arguments
        return self

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def append(self, item: Any) -> None:
        """Items of a list's class are dropped: nothing that is read has one."""

    def extend(self, items: Any) -> None:
        """As `append`."""


class _Reader(pickle.Unpickler):
    """Unpickles `data.pkl` of a torch archive; see the module."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{root}data.pkl")))
        self._archive, self._root = archive, root
        # Made anew for each file: a pickle may set attributes on what it is given.
        self._known: dict[tuple[str, str], Any] = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: _tensor(*arguments),
            ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
            ("_codecs", "encode"): lambda text, *_: str(text).encode("latin-1"),  # how protocol 2 spells bytes
            ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
            ("torch", "Size"): lambda sizes=(): tuple(sizes),
            **{("torch", name): dtype for name, dtype in STORAGES.items()},
        }

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in self._known:
            self._known[module, name] = type("Inert", (Inert,), {"name": f"{module}.{name}"})
        return self._known[module, name]

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        data = self._archive.read(f"{self._root}data/{key}")
        return torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.zeros(0, dtype=dtype)


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    count = math.prod(size)
    if count == 0:
        return torch.zeros(tuple(size), dtype=storage.dtype)
    if count > len(storage):
        raise pickle.UnpicklingError(f"a tensor of {count} values in a storage of {len(storage)}")
    view = storage.as_strided(tuple(size), tuple(stride), int(offset))
    return view if count == len(storage) else view.clone()


def read_archive(path: str | Path) -> Any:
    """The contents of a `torch.save` file or a TorchScript archive: tensors and plain values as they are, everything else `Inert`.

    Errors: UnpicklingError saying what the file is not; a malformed pickle can raise anything, so callers catch every Exception.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        inner = next((name for name in names if name.endswith("data.pkl")), None)
        if inner is None:
            raise pickle.UnpicklingError("a zip file, but not one of torch.save")
        root = inner.removesuffix("data.pkl")
        data = [entry for entry in archive.infolist() if entry.filename == inner or entry.filename.startswith(f"{root}data/")]
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in data):
            raise pickle.UnpicklingError("compressed, which torch.save's tensors are not; save it again")
        if f"{root}byteorder" in names and archive.read(f"{root}byteorder") != b"little":
            raise pickle.UnpicklingError("written on a big-endian machine; save it again on a little-endian one")
        return _Reader(archive, root).load()


def plain(value: Any, place: str = "") -> tuple[Any, list[str]]:
    """A value as plain containers, numbers, text and tensors, and `place: class` of everything that was left out because it is none.

    Configuration containers (EasyDict, Namespace, Counter, defaultdict) become dictionaries, numpy's arrays and numbers lists and numbers.
    """
    if value is None or isinstance(value, bool | int | float | str | bytes | Tensor | torch.dtype):
        return value, []
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist(), []
    if isinstance(value, Inert) and value.name not in CONTAINERS:
        array = _array(value)
        return (None, [f"{place}: {value.name}"]) if array is None else (array.tolist(), [])
    if isinstance(value, list | tuple):
        parts = [plain(item, f"{place}[{i}]") for i, item in enumerate(value)]  # what is left out of a list is None there
        return type(value)(item for item, _ in parts), [line for _, out in parts for line in out]
    if not isinstance(value, Mapping):
        return None, [f"{place}: {type(value).__module__}.{type(value).__qualname__}"]
    result: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
    left_out: list[str] = []
    for key, item in _items(value).items():
        if not isinstance(key, str | int | float | bool | None):
            left_out.append(f"{place}: a key that is a {type(key).__name__}")
            continue
        kept, out = plain(item, f"{place}.{key}" if place else str(key))
        left_out += out
        if kept is not None or item is None:
            result[key] = kept
    return result, left_out


def _items(value: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A mapping's items; of an inert container its items, else its arguments' or its state's."""
    if not isinstance(value, Inert) or value:
        return value
    return next((part for part in (*value.arguments, value.state) if isinstance(part, Mapping)), {})


def _array(value: Inert) -> np.ndarray | None:
    """A numpy array or number from how it was pickled; None for anything else, arrays of objects included."""
    module, _, name = value.name.rpartition(".")
    if module not in _ARRAYS:
        return None
    if name == "scalar" and len(value.arguments) == 2:
        dtype, data = value.arguments
        shape: Any = ()
    elif name == "_reconstruct" and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, fortran, data = value.state
        if fortran:
            shape = tuple(reversed(shape))
    else:
        return None
    code = dtype.arguments[0] if isinstance(dtype, Inert) and dtype.name == "numpy.dtype" and dtype.arguments else ""
    if not isinstance(code, str) or code[:1] not in "fiub" or not isinstance(data, bytes):
        return None
    values = np.frombuffer(data, dtype=np.dtype(code)).reshape(shape)
    return values.T if name == "_reconstruct" and value.state[3] else values


def write_archive(path: str | Path, value: Any) -> None:
    """`torch.save` of plain values and tensors, whole or not at all. Errors: TypeError naming what is neither."""
    _, left_out = plain(value)
    if left_out:
        raise TypeError(f"not plain values and tensors: {', '.join(left_out)}")
    with replacing(path) as temporary:
        torch.save(value, temporary)
