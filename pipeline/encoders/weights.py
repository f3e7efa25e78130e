"""Where an encoder's pretrained weights are: found on this machine, checked, or named exactly. Never downloaded, never random.

Nothing here imports torch or open_clip: the workflow asks for `identity` while it is being parsed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config.inputs import Imported, OpenClip, SlowFast
from pipeline.config.schema import Config
from pipeline.core.errors import WeightsError
from pipeline.core.provenance import FileCache, sha256
from pipeline.encoders import published
from pipeline.encoders.published import Published

CONFIG_FILE = {"open_clip": "open_clip_config.json", "slowfast": "slowfast_config.json"}
FOLDER_FILES = {"open_clip": published.HUB_FILES, "slowfast": ("slowfast_model.safetensors", "slowfast_model.pyth")}
_TOKENIZER_SUFFIXES = {".json", ".txt", ".gz", ".model"}
_PROJECT = Path(__file__).parents[2]  # a relative path also means: beside the installed package (the demo's own encoders)


@dataclass(frozen=True)
class Weights:
    """Weights found on this machine: the file, the folder with its own configuration (or None), and what is published about them."""

    file: Path
    folder: Path | None
    published: Published | None
    sha256: str


@dataclass(frozen=True)
class Needed:
    """One line of `prvr weights`; `found` is empty when the file is missing, `problem` when all is well. Size in MB, None if unknown."""

    encoder: str
    architecture: str
    weights: str
    file: str
    folder: str
    address: str
    sha256: str
    licence: str
    megabytes: int | None
    found: str
    problem: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def home() -> Path:
    """The folder weights are put into: `$PRVR_WEIGHTS`, else `weights/`."""
    return Path(os.environ.get("PRVR_WEIGHTS") or "weights")


def checksum(path: Path) -> str:
    """The file's sha256, remembered by path, size and modification time."""
    cache = FileCache(_cache_home() / "prvr" / "sha256.json")
    value = cache.get(path.resolve(), sha256)
    with contextlib.suppress(OSError):  # only a cache: a read-only home costs time, not correctness
        cache.save()
    return value


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def _published(encoder: OpenClip | SlowFast) -> Published | None:
    """What the configured tag or file name stands for, when it is a published one."""
    if isinstance(encoder, SlowFast):
        entry = published.SLOWFAST.get(encoder.architecture)
        return entry if entry and Path(encoder.weights).name == entry.file else None
    by_tag = published.table().get(encoder.architecture, {}).get(published.clean(encoder.weights))
    return by_tag or published.by_file().get(Path(encoder.weights).name)


def _is_tag(encoder: OpenClip | SlowFast) -> bool:
    return isinstance(encoder, OpenClip) and published.clean(encoder.weights) in published.table().get(encoder.architecture, {})


def candidates(encoder: OpenClip | SlowFast) -> list[Path]:
    """Every place the weights may be in, best first; the hub's and the libraries' own caches come last."""
    if not _is_tag(encoder):
        value = Path(encoder.weights).expanduser()
        places = [value] if value.is_absolute() else [value, home() / value, _PROJECT / value]
        if isinstance(encoder, SlowFast):
            hub = Path(os.environ.get("TORCH_HOME") or _cache_home() / "torch") / "hub" / "checkpoints"
            places.append(hub / value.name)
        return places
    entry = published.table()[encoder.architecture][published.clean(encoder.weights)]
    places = [home() / entry.file] if entry.url else []
    places += [home() / entry.hub_id.split("/")[-1] / name for name in entry.hub_files if entry.hub]
    places += [Path.home() / ".cache" / "clip" / entry.file] if entry.url else []
    if entry.hub:
        from huggingface_hub import try_to_load_from_cache

        cached = [try_to_load_from_cache(entry.hub_id, name) for name in entry.hub_files]
        places += [Path(path) for path in cached if isinstance(path, str)]
    return places


def _weights_in(folder: Path, encoder: OpenClip | SlowFast) -> Path | None:
    names = list(FOLDER_FILES[encoder.kind])
    if isinstance(encoder, SlowFast) and encoder.architecture in published.SLOWFAST:
        names.append(published.SLOWFAST[encoder.architecture].file)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _locate(encoder: OpenClip | SlowFast) -> tuple[Path, Path | None] | None:
    for place in candidates(encoder):
        if place.is_file():
            return place, None
        if place.is_dir() and (file := _weights_in(place, encoder)):
            return file, place
    return None


def resolve(encoder: OpenClip | SlowFast, name: str = "") -> Weights:
    """The encoder's weights on this machine, checked against the configured and the published checksum.

    Errors: WeightsError when there is no such file (naming the file, the folder, the address, the checksum, the licence and the size)
    or when its checksum is another.
    """
    label, entry = name or encoder.architecture, _published(encoder)
    found = _locate(encoder)
    if found is None:
        raise WeightsError(
            f"{label}: the weights {encoder.weights!r} of {encoder.architecture} are not on this machine",
            where=_where(encoder),
            fix=_fix(encoder),
        )
    file, folder = found
    actual = checksum(file)
    expected = encoder.sha256.lower() if encoder.sha256 else (entry.sha256 if entry and file.name == entry.file else "")
    if expected and not actual.startswith(expected):
        raise WeightsError(
            f"{label}: the weights file has sha256 {actual}, expected {expected}",
            where=file,
            fix="the file is damaged or another one: fetch it again"
            + (f" from {entry.address}" if entry else "")
            + ", or correct `sha256:`",
        )
    return Weights(file, folder, entry, actual)


def _where(encoder: OpenClip | SlowFast) -> str:
    return "looked for " + ", ".join(str(place) for place in candidates(encoder))


def _fix(encoder: OpenClip | SlowFast) -> str:
    entry = _published(encoder)
    if entry is None and isinstance(encoder, OpenClip) and not Path(encoder.weights).suffix and "/" not in encoder.weights:
        return _unknown_tag(encoder)
    if entry is None:
        files, config = " or ".join(FOLDER_FILES[encoder.kind]), CONFIG_FILE[encoder.kind]
        return f"put the file there, or a folder with {config} and {files}; a relative path is also looked for in {home()}/ ($PRVR_WEIGHTS)"
    file = entry.file or f"{entry.hub_id.split('/')[-1]}/{entry.hub_files[0]}"
    details = [
        f"sha256 {entry.sha256}" if entry.sha256 else "",
        f"{entry.megabytes} MB" if entry.megabytes else "",
        f"licence {entry.licence}",
    ]
    text = f"put {file} ({', '.join(d for d in details if d)}) into {home()}/ (or set PRVR_WEIGHTS); published at {entry.address}"
    if entry.hub:
        text += f"; from the hub: hf download {entry.hub_id} {entry.hub_files[0]} --local-dir {home() / entry.hub_id.split('/')[-1]}"
    return text


def _unknown_tag(encoder: OpenClip) -> str:
    tags, tag = published.table().get(encoder.architecture, {}), published.clean(encoder.weights)
    others = [arch for arch, found in published.table().items() if tag in found]
    known = (
        f"{encoder.architecture} is published as {', '.join(tags)}"
        if tags
        else f"nothing is published for the architecture {encoder.architecture}"
    )
    elsewhere = f"; {tag!r} is published for {', '.join(others[:6])}" if others else ""
    return f"no such tag, file or folder; {known}{elsewhere}"


def identity(encoder: OpenClip | SlowFast) -> str:
    """A cheap string that changes when the weights do, for recipes.

    A folder: digest of its configuration, vocabulary and weights. Else the configured sha256, else the published one, else that of
    the local file, else (no file here) the architecture and tag.
    """
    found = _locate(encoder)
    folder = found[1] if found else None
    if found and folder is not None:
        file = found[0]
        parts = [(p.name, sha256(p)) for p in sorted(folder.iterdir()) if p.is_file() and p.suffix in _TOKENIZER_SUFFIXES]
        parts.append((file.name, (encoder.sha256 or checksum(file)).lower()))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    if encoder.sha256:
        return encoder.sha256.lower()
    entry = _published(encoder)
    if entry and len(entry.sha256) == 64:
        return entry.sha256  # whichever container the same published weights are kept in
    return checksum(found[0]) if found else f"{encoder.architecture}:{encoder.weights}"


def inventory(config: Config) -> list[Needed]:
    """What every configured encoder needs and whether it is here and whole (`prvr weights`)."""
    lines = []
    for name, encoder in config.encoders.items():
        if isinstance(encoder, Imported):
            continue
        entry, found, problem, actual = _published(encoder), "", "", ""
        try:
            weights = resolve(encoder, name)
            found, actual = str(weights.file), weights.sha256
        except WeightsError as error:
            problem = str(error)
        file = entry.file or f"{entry.hub_id.split('/')[-1]}/{entry.hub_files[0]}" if entry else encoder.weights
        lines.append(
            Needed(
                encoder=name,
                architecture=encoder.architecture,
                weights=encoder.weights,
                file=file,
                folder=str(home()),
                address=entry.address if entry else "",
                sha256=encoder.sha256 or (entry.sha256 if entry else "") or actual,
                licence=entry.licence if entry else "",
                megabytes=round(Path(found).stat().st_size / 1e6) if found else entry.megabytes if entry else None,
                found=found,
                problem=problem,
            )
        )
    return lines
