"""A numbered preflight: everything a run needs from this machine, each tried for real."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml

from pipeline.config.schema import Config
from pipeline.core import install
from pipeline.core.errors import PrvrError
from pipeline.core.layout import Layout
from pipeline.jobs.estimates import spell_bytes

LIBRARIES = ("torch", "torchvision", "open_clip_torch", "pytorchvideo", "decord", "av", "h5py", "snakemake")


@dataclass(frozen=True)
class Check:
    """One line of the preflight. `ok` is False when a run would fail, None when it would only be slower or smaller."""

    name: str
    ok: bool | None
    detail: str


def preflight(config: Config, layout: Layout) -> Iterator[Check]:
    """Every check in order; a check that raises is a failed check, never the end of the list."""
    checks: list[Callable[[Config, Layout], Iterator[Check]]] = [
        _python,
        _libraries,
        _device,
        _decoders,
        _weights,
        _folder,
        _disk,
        _workflow,
    ]
    for check in checks:
        try:
            yield from check(config, layout)
        except PrvrError as error:
            yield Check(check.__name__.strip("_"), False, str(error))
        except Exception as error:  # a broken library may raise anything, and the other checks still matter
            yield Check(check.__name__.strip("_"), False, f"{type(error).__name__}: {error}")


def _python(config: Config, layout: Layout) -> Iterator[Check]:
    yield Check("Python", (3, 11) <= sys.version_info[:2] <= (3, 13), f"{platform.python_version()} on {platform.platform()}")


def _libraries(config: Config, layout: Layout) -> Iterator[Check]:
    of_encoders = [name for encoder in config.encoders.values() for name in getattr(encoder, "libraries", ())]
    for name in dict.fromkeys([*LIBRARIES, *of_encoders]):
        try:
            yield Check(name, True, version(name))
        except PackageNotFoundError:
            fix = "pip install 'prvr[transformers]'" if name == "transformers" else "run `make env`"
            yield Check(name, False, f"not installed: {fix}")


def _device(config: Config, layout: Layout) -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        yield Check("GPU", True, "; ".join(f"{p.name}, {p.total_memory / 2**30:.0f} GiB" for p in names))
    else:
        asked = config.runtime.device == "cuda"
        yield Check(
            "GPU",
            False if asked else None,
            "none" + (", but runtime.device is cuda" if asked else f": {os.cpu_count()} CPU cores are used"),
        )


def _decoders(config: Config, layout: Layout) -> Iterator[Check]:
    import av

    from pipeline.video.selftest import self_test

    libraries = {name: ".".join(map(str, numbers)) for name, numbers in av.library_versions.items()}
    yield Check("FFmpeg libraries", True, ", ".join(f"{name} {number}" for name, number in sorted(libraries.items())))
    for name, ok, detail in self_test(config.video.decoder):
        yield Check(f"frames of {name}", ok, detail)


def _weights(config: Config, layout: Layout) -> Iterator[Check]:
    from pipeline.encoders import golden
    from pipeline.encoders.weights import inventory

    for needed in inventory(config):
        yield Check(f"weights of {needed.encoder}", not needed.problem, needed.problem or needed.found)
        if not needed.problem:
            try:
                ok, detail = golden.verify(config.network(needed.encoder), needed.encoder)
            except PrvrError as error:
                ok, detail = False, str(error)
            yield Check(f"golden vector of {needed.encoder}", ok, detail)


def _folder(config: Config, layout: Layout) -> Iterator[Check]:
    from filelock import FileLock

    from pipeline.core.store import create, open_store

    layout.root.mkdir(parents=True, exist_ok=True)
    path = layout.root / ".doctor.h5"
    try:
        with FileLock(layout.root / ".doctor.lock", timeout=5), create(path, stage="doctor") as writer:
            writer.attrs(tried=1)
        with open_store(path, stage="doctor") as store:
            ok = store.attrs["tried"] == 1
    finally:
        path.unlink(missing_ok=True)
        (layout.root / ".doctor.lock").unlink(missing_ok=True)
    yield Check("write, rename and lock", ok, str(layout.root.resolve()))


def _disk(config: Config, layout: Layout) -> Iterator[Check]:
    from pipeline.jobs.dag import Dag, gpus_per_job
    from pipeline.jobs.estimates import Costs, Machine
    from pipeline.jobs.headers import sampled
    from pipeline.jobs.lengths import Lengths
    from pipeline.jobs.resources import disk

    dag, cores = Dag.of(config), os.cpu_count() or 1
    guess, pixels, _ = sampled([source for members in dag.shards.values() for source in members])
    costs = Costs(dag, Machine(config.runtime.threads, bool(gpus_per_job(config))), pixels)
    needed = disk(costs, Lengths(dag, guess), at_once=max(1, cores // config.runtime.threads))
    free = shutil.disk_usage(layout.root).free
    yield Check("free disk", free > needed, f"{spell_bytes(free)} free, about {spell_bytes(needed)} needed at most at once")


def _workflow(config: Config, layout: Layout) -> Iterator[Check]:
    yield Check("Snakefile", install.SNAKEFILE.is_file(), f"{install.SNAKEFILE}; run it with `{install.run_command(config.source)}`")
    path = install.here_or_shipped("profiles/default") / "config.yaml"
    profile = yaml.safe_load(path.read_text()) if path.exists() else {}
    # Without these triggers Snakemake goes by file times, and jobs are repeated or left out.
    triggers = profile.get("rerun-triggers")
    right = isinstance(triggers, list) and set(triggers) == {"params", "code"}
    yield Check("profile", right, str(path) if right else f"{path} must set rerun-triggers: [params, code]; it says {triggers}")


def render(checks: list[Check]) -> str:
    """The numbered list with ticks."""
    marks = {True: "✓", False: "✗", None: "–"}
    lines = (f"{i:2}. {marks[check.ok]} {check.name}: {check.detail}" for i, check in enumerate(checks, 1))
    return "\n".join(line.replace("\n", "\n      ") for line in lines)


def as_json(checks: list[Check]) -> list[dict[str, Any]]:
    """For machines."""
    return [asdict(check) for check in checks]
