"""Where an encoder's pretrained weights are: found on this machine, checked, or named exactly. Never downloaded, never random.

Nothing here imports torch or open_clip: the workflow asks for `identity` while it is being parsed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.config.encoder import Encoder, cache_home, home
from pipeline.config.published import Published
from pipeline.config.schema import Config
from pipeline.core.errors import WeightsError
from pipeline.core.provenance import FileCache, sha256

_TOKENIZER_SUFFIXES = {".json", ".txt", ".gz", ".model"}


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


def checksum(path: Path) -> str:
    """The file's sha256, remembered by path, size and modification time."""
    cache = FileCache(cache_home() / "prvr" / "sha256.json")
    value = cache.get(path.resolve(), sha256)
    cache.save()
    return value


def _locate(encoder: Encoder) -> tuple[Path, Path | None] | None:
    for place in encoder.places if encoder.weights else []:
        if place.is_file():
            return place, None
        if file := next((place / name for name in encoder.weight_files if (place / name).is_file()), None):
            return file, place
    return None


def resolve(encoder: Encoder, name: str = "") -> Weights:
    """The encoder's weights on this machine, checked against the configured and the published checksum.

    Errors: WeightsError when there is no such file (naming the file, the folder, the address, the checksum, the licence and the size)
    or when its checksum is another.
    """
    label, entry = name or encoder.architecture, encoder.published
    place = _locate(encoder)
    if place is None:
        raise WeightsError(
            f"{label}: {encoder.mistyped or f'the weights {encoder.weights!r} of {encoder.architecture} are not on this machine'}",
            where=_where(encoder),
            fix=_fix(encoder),
        )
    file, folder = place
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


def vocabulary(encoder: Encoder, name: str = "") -> Path:
    """The file of a tokenizer that is not the kind's own. Errors: WeightsError when it is not on this machine."""
    file = encoder.vocabulary
    if file is None:
        near = [place if place.is_dir() else place.parent for place in encoder.places if place.exists()] or [home()]
        page = encoder.vocabulary_page
        raise WeightsError(
            f"{name or encoder.architecture}: the tokenizer is not on this machine",
            where=near[0] / "tokenizer.json",
            fix=f"put tokenizer.json and tokenizer_config.json of {page} there, or into {home() / page.rsplit('/', 1)[-1]}/",
        )
    return file


def _where(encoder: Encoder) -> str:
    return "looked for " + ", ".join(str(place) for place in encoder.places)


def _fix(encoder: Encoder) -> str:
    entry = encoder.published
    if entry is None and encoder.hint:
        return encoder.hint
    if entry is None:
        files = " or ".join(encoder.weight_files)
        there = f"put the file there, or a folder with {encoder.config_file} and {files}"
        return f"{there}; a relative path is also looked for in {home()}/ ($PRVR_WEIGHTS)"
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


def identity(encoder: Encoder) -> str:
    """A cheap string that changes when the weights do, for recipes.

    A folder: digest of its configuration, vocabulary and weights. Else the configured sha256, else the published one, else that of
    the local file, else (no file here) the architecture and tag; with the checksum of a vocabulary that lies elsewhere.
    """
    own, vocabulary = _identity(encoder) if encoder.weights else "", encoder.vocabulary
    inside = vocabulary is not None and vocabulary.parent == encoder.folder
    return own if vocabulary is None or inside else f"{own} {sha256(vocabulary)}"


def _identity(encoder: Encoder) -> str:
    place = _locate(encoder)
    folder = place[1] if place else None
    if place and folder is not None:
        file = place[0]
        parts = [(p.name, sha256(p)) for p in sorted(folder.iterdir()) if p.is_file() and p.suffix in _TOKENIZER_SUFFIXES]
        parts.append((file.name, (encoder.sha256 or checksum(file)).lower()))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    if encoder.sha256:
        return encoder.sha256.lower()
    entry = encoder.published
    if entry and len(entry.sha256) == 64:
        return entry.sha256  # whichever container the same published weights are kept in
    return checksum(place[0]) if place else f"{encoder.architecture}:{encoder.weights}"


def inventory(config: Config) -> list[Needed]:
    """What every encoder that some experiment uses needs, and whether it is here and whole (`prvr weights`)."""
    lines, experiments = [], [config.experiment(name) for name in config.models]
    texts = {experiment.text for experiment in experiments} | {experiment.teacher for experiment in experiments}
    used = texts.union(*(experiment.encoders for experiment in experiments))
    for name, encoder in config.encoders.items():
        if not isinstance(encoder, Encoder) or not encoder.weights or name not in used:
            continue
        entry, found, problem, actual = encoder.published, "", "", ""
        try:
            weights = resolve(encoder, name)
            found, actual = str(weights.file), weights.sha256
            if name in texts and encoder.vocabulary_page:
                vocabulary(encoder, name)
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
