"""State dictionaries from files of every published kind, without running any code a file may carry, loaded strictly."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pipeline.core.errors import WeightsError
from pipeline.core.pickles import Inert, read_archive

_WRAPPERS = ("state_dict", "model_state", "model")  # keys under which training scripts keep the parameters


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by name: safetensors, a PyTorch file (weights only), or a TorchScript archive such as OpenAI's.

    Errors: WeightsError when the file is damaged, or holds objects other than tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        if is_torchscript(path):
            return _torchscript(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # every reader has its own exceptions for "not such a file"
        raise WeightsError(
            f"cannot read the weights ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})",
            where=path,
            fix="fetch the file again; a file that needs its pickled objects must be converted to safetensors first",
        ) from error
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise WeightsError("the file holds no named tensors", where=path, fix="give the checkpoint of the model")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def is_torchscript(path: Path) -> bool:
    """Whether the file is a TorchScript archive (it carries code beside its tensors)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _torchscript(path: Path) -> dict[str, Tensor]:
    """The tensors of a TorchScript archive by the names its modules have; nothing of its code is read."""
    tensors: dict[str, Tensor] = {}

    def visit(node: Any, prefix: str) -> None:
        for key, value in (node.state if isinstance(node.state, Mapping) else {}).items():
            if isinstance(value, Tensor):
                tensors[prefix + key] = value
            elif isinstance(value, Inert):
                visit(value, f"{prefix}{key}.")

    tree = read_archive(path)
    if not isinstance(tree, Inert):
        raise ValueError("no module in the archive")
    visit(tree, "")
    return tensors


class SkipInit(TorchFunctionMode):
    """Inside this block new parameters keep whatever is in memory: `load_strict` replaces all of them (ViT-L/14 in 1 s instead of 9)."""

    _RANDOM = (Tensor.normal_, Tensor.uniform_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", "") == "torch.nn.init" or func in self._RANDOM:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def load_strict(model: nn.Module, state: Mapping[str, Tensor], *, where: Path) -> None:
    """Load `state` so that every parameter and buffer of `model` comes from it, in its own shape, all finite.

    Errors: WeightsError listing what is missing, left over, of another shape or not finite.
    """
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [
        f"{k} {tuple(state[k].shape)} for {tuple(wanted[k].shape)}"
        for k in wanted.keys() & state.keys()
        if state[k].shape != wanted[k].shape
    ]
    broken = [k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}"
        for what, names in (
            ("missing", missing),
            ("not of this architecture", extra),
            ("of another shape", sorted(shapes)),
            ("not finite", broken),
        )
        if names
    ]
    if problems:
        raise WeightsError(
            f"the weights do not fit the architecture; parameters {'; '.join(problems)}",
            where=where,
            fix="name the architecture these weights were made for, or fetch the weights of this one",
        )
    model.load_state_dict(dict(state), strict=True)
