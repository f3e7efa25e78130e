"""`prvr --version`: this code, torch and the GPU's driver, read from their files. torch itself takes seconds to import."""

from __future__ import annotations

import platform
import re
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from pipeline.core import install

DRIVER = Path("/proc/driver/nvidia/version")


def lines() -> str:
    """Two lines: prvr, Python and where this code lies; torch, the CUDA it was built for and the NVIDIA driver of this machine."""
    return f"prvr {_of('prvr')}, Python {platform.python_version()}, {install.CODE}\n{_torch()}, {_driver()}"


def _torch() -> str:
    """`torch 2.11.0+cu130 (CUDA 13.0)`. A wheel's metadata leave the CUDA out; torch/version.py has it."""
    spec = find_spec("torch")
    file = Path(str(spec.submodule_search_locations[0]), "version.py") if spec and spec.submodule_search_locations else None
    said = file.read_text(encoding="utf-8") if file and file.is_file() else ""
    release, cuda = (re.search(rf"^{name}\b[^=\n]*= *'([^']+)'", said, flags=re.M) for name in ("__version__", "cuda"))
    return f"torch {release[1] if release else _of('torch')} ({f'CUDA {cuda[1]}' if cuda else 'without CUDA'})"


def _driver() -> str:
    """What the kernel says; not whether torch can use it, which `prvr doctor` tries."""
    found = re.search(r"Kernel Module.*?(\d+\.[\d.]+)", DRIVER.read_text(encoding="utf-8")) if DRIVER.is_file() else None
    return f"NVIDIA driver {found[1]}" if found else "no NVIDIA driver"


def _of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
