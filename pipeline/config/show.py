"""The whole configuration as it is used, every default written out, and where each value comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from pipeline.config import presets, variants
from pipeline.config.method import Experiment
from pipeline.config.reading import read
from pipeline.config.schema import Config

_APART = ("experiments", "ablations", "sweeps", "ablation_seeds", "compare", "preset")  # beside what is an experiment's
_COLUMN = 56
_ABSENT = object()
Layers = list[tuple[str, dict[str, Any]]]  # where from -> values as they are nested there; an earlier one wins


def show(config: Config, only: str = "") -> str:
    """YAML that loads as the same experiments; a comment says of every value which file, preset or variant gave it.

    `only`: one named model, of whichever target. Errors: ConfigError when there is none of that name.
    """
    given = _given(config)
    lines: list[str] = []
    if not only:
        whole = config.model_dump(mode="json", exclude={*_APART, *Experiment.model_fields} - {"features", "text"})
        if config.dataset.kind != "demo":
            whole.pop("demo")
        lines += _lines(whole, [(config.source, given)])
    lines.append("experiments:")
    for name in [only] if only else config.experiments:
        lines += [f"  {name}:", *_lines(config.experiment(name).model_dump(mode="json"), _layers(config, given, name), 4)]
    return "\n".join(lines)


def _given(config: Config) -> dict[str, Any]:
    """What the file says. Of several on top of one another no single one is it: all they gave counts as theirs."""
    return config.model_dump(mode="json", exclude_unset=True) if " + " in config.source else read(config.source)


def _layers(config: Config, given: dict[str, Any], name: str) -> Layers:
    over, dataset = config.models[name], config.dataset.model_dump(include={"kind", "name"})
    layers: Layers = [(f"{config.source}, {name}", over), (config.source, given)]
    variant = config.experiment(name).variant
    for place, values in ((1, over), (3, given)):
        if values.get("preset"):
            brought = presets.values(values["preset"], dataset, where="preset", variant=variant)
            layers.insert(place, (f"preset {values['preset']}", brought))
    kind = variants.kind(config.experiment(name).model_dump())
    return [*layers, (f"variant {variant}", variants.defaults(variant, kind))]


def _lines(values: dict[str, Any], layers: Layers, indent: int = 0, path: tuple[str, ...] = ()) -> Iterator[str]:
    for key, value in values.items():
        here, place = (*path, key), f"{' ' * indent}{_plain(key)}:"
        if isinstance(value, dict) and value:
            yield place
            yield from _lines(value, layers, indent + 2, here)
        else:
            yield f"{f'{place} {_plain(value)}':<{_COLUMN}} # {_origin(here, value, layers)}"


def _origin(path: tuple[str, ...], value: Any, layers: Layers) -> str:
    """The first layer that has this value there; a layer that another one has replaced has another value."""
    for name, values in layers:
        there: Any = values
        for key in path:
            there = there.get(key, _ABSENT) if isinstance(there, dict) else _ABSENT
        if there is not _ABSENT and _same(there, value):
            return name
    return "default"


def _same(there: Any, value: Any) -> bool:
    return bool(there == value or (isinstance(there, list | tuple) and isinstance(value, list) and list(there) == value))


def _plain(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("...\n").strip()
