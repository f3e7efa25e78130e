"""Golden vectors: numbers an encoder must give for a fixed picture and caption, so that an intact file read wrong is noticed.

A checksum says that the weights are the published ones; only their output says that this machine's libraries still read them right.
`golden.json` beside this file holds what is known, by the weights' sha256: published numbers where there are any, and those of the
demo's encoders. `record` adds a machine's own, in `golden.json` of the weights folder, for other machines and later versions to meet.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import reading
from pipeline.config.encoder import Encoder, home
from pipeline.core import install
from pipeline.core.atomic import write_json
from pipeline.core.errors import WeightsError
from pipeline.encoders.base import TextEncoder, load
from pipeline.encoders.weights import resolve

CAPTION = "a photo of a man"
VALUES = 8  # kept of each vector
TOLERANCE = 5e-3  # of the largest value: float32 on another machine differs by 1e-5, a wrong activation or pooling by a tenth and more
_SHIPPED = Path(__file__).with_name("golden.json")


class Verdict(NamedTuple):
    """`ok`: the vectors are the known ones (None: none are known for these weights); `detail`: in words."""

    ok: bool | None
    detail: str


def picture(size: int, shift: int = 0) -> np.ndarray:
    """A picture of slopes and edges made of whole numbers, the same everywhere. Shapes: -> uint8 [size, size, 3]."""
    y, x = np.mgrid[:size, shift : size + shift]
    return np.stack([x * 5 + y * 3 + x * y // 7, 255 - x * 3 - y, (x // 8 + y // 8) % 2 * 150 + y], axis=2).astype(np.uint8)


def vectors(encoder: Encoder, name: str = "") -> dict[str, list[float]]:
    """The first values of what an encoder makes of the fixed inputs, in float32 on the CPU: `image` or `window`, and `sentence`.

    Errors: those of loading it.
    """
    stream, plain = encoder.stream, {"precision": "fp32", "compile": False}
    model = load(encoder.model_copy(update={key: value for key, value in plain.items() if key in type(encoder).model_fields}), "cpu", name)
    if stream.count == 1:
        made = {"image": _first(model.encode(picture(stream.size)[None])[0])}
    else:
        made = {"window": _first(model.encode(np.stack([picture(stream.size, 2 * i) for i in range(stream.count)])[None])[0])}
    if encoder.reads_text and isinstance(model, TextEncoder):
        made["sentence"] = _first(model.encode_texts([CAPTION])[0].sentence)
    return made


def _finite(made: dict[str, list[float]]) -> bool:
    return all(np.isfinite(values).all() for values in made.values())


def _first(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values[:VALUES]]


def known(sha256: str, shape: dict[str, int]) -> dict[str, Any] | None:
    """What these weights must give for inputs of this shape: {"source": in words, vector name: first values}, or None."""
    for file in (_SHIPPED, home() / _SHIPPED.name):
        entries = json.loads(file.read_text()) if file.is_file() else {}
        for key in (_key(sha256, shape), sha256):  # published numbers are of the one shape the architecture has
            if key in entries:
                return dict(entries[key])
    return None


def _key(sha256: str, shape: dict[str, int]) -> str:
    return " ".join([sha256, *(f"{name}={value}" for name, value in sorted(shape.items()))])


def shape_of(encoder: Encoder) -> dict[str, int]:
    """What the configuration may change about the input without changing the weights."""
    return encoder.model_dump(include=set(encoder.shaped_by))


def verify(encoder: Encoder, name: str = "") -> Verdict:
    """Compare an encoder's vectors with the known ones. Errors: those of loading it."""
    expected = known(resolve(encoder, name).sha256, shape_of(encoder))
    made = vectors(encoder, name)
    if not _finite(made):
        return Verdict(False, "gives values that are not finite: damaged weights, or a precision this machine cannot compute in")
    if expected is None:
        return Verdict(None, "none is known for these weights; `prvr weights --record` keeps this machine's")
    compared = [(np.asarray(values), np.asarray(expected[kind])) for kind, values in made.items() if kind in expected]
    if not compared:
        return Verdict(None, f"{expected['source']} is of none of its vectors")
    worst = max(float(np.abs(values[: len(right)] - right).max() / max(np.abs(right).max(), 1e-12)) for values, right in compared)
    source = expected["source"]
    if not worst <= TOLERANCE:
        return Verdict(False, f"differs by {worst:.1%} from {source}: another library version, or the wrong architecture for this file")
    return Verdict(True, f"equals {source}" + (f" to {worst:.0e}" if worst else " exactly"))


def record(encoder: Encoder, name: str = "") -> Path:
    """Keep the vectors this machine gives in the weights folder, unless some are known; returns the file.

    Errors: those of loading it, WeightsError when the vectors are not finite.
    """
    sha256, file = resolve(encoder, name).sha256, home() / _SHIPPED.name
    if known(sha256, shape_of(encoder)) is None:
        entries = json.loads(file.read_text()) if file.is_file() else {}
        write_json(file, {**entries, _key(sha256, shape_of(encoder)): _entry(encoder, name)})
    return file


def _entry(encoder: Encoder, name: str) -> dict[str, Any]:
    made_with = f" with {encoder.libraries[0]} {version(encoder.libraries[0])}" if encoder.libraries else ""
    source = f"the record of {name or encoder.architecture}{made_with}"
    made = vectors(encoder, name)
    if not _finite(made):
        raise WeightsError("gives values that are not finite", where=resolve(encoder, name).file, fix="fetch the weights again")
    return {"source": source, **made}


def ship() -> None:
    """Write the demo's encoders into the table beside this file: `python -m pipeline.encoders.golden`, after they were trained again."""
    demo = reading.load(install.DEMO)
    published = {sha: entry for sha, entry in json.loads(_SHIPPED.read_text()).items() if entry["source"].startswith("the published")}
    for name in demo.encoders:
        encoder = demo.network(name)
        published[_key(resolve(encoder, name).sha256, shape_of(encoder))] = _entry(encoder, name)
    write_json(_SHIPPED, published)


if __name__ == "__main__":
    ship()
