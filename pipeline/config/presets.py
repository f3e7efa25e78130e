"""Published hyper-parameters of the methods, per dataset: what `preset: <method>` stands for. The values lie in `presets/<method>.yaml`.

A preset is laid just beneath the keys it stands among, so what is written beside it wins. In an experiment it makes a method of its own: of
the keys above the experiment those of `model` and `objectives` do not reach it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from pipeline.config import variants
from pipeline.config.base import merge
from pipeline.core.errors import ConfigError
from pipeline.core.names import choice

FOLDER = Path(__file__).with_name("presets")
SMALL = "small"  # for videos of one's own and the demo: nothing is published for them
BENCHMARKS = ("tvr", "activitynet", "charades", "qvhighlights")
REPLACED = ("model", "objectives")  # what an experiment's preset brings whole


def names() -> list[str]:
    """The methods that have a preset."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def _file(method: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / f"{method}.yaml").read_text(encoding="utf-8"))
    return content


def datasets(method: str) -> list[str]:
    """The datasets a method has values for, `small` among them."""
    return [name for name in _file(method) if name in (*BENCHMARKS, SMALL)]


def values(preset: Any, dataset: Mapping[str, Any], *, where: str, variant: Any = "released") -> dict[str, Any]:
    """The keys a preset stands for, nested as in a configuration.

    `preset`: `<method>`, or `<method>/<dataset>` for another dataset's values; `dataset`: the `kind` and `name` of the configuration's.
    What the paper's variant fills in, a preset leaves to it: its values are the released code's.
    Errors: ConfigError with the nearest spelling, or with the datasets the method has values for.
    """
    method, _, named = str(preset).partition("/")
    _known(method, names(), "there is no preset", where)
    chosen = named or _of(dataset, method, where)
    _known(chosen, datasets(method), f"the preset {method} has no values for", where)
    found = merge(_file(method).get("all", {}), _file(method)[chosen])
    return found if variant == "released" else _without(found, variants.of(variants.kind(found)))


def _of(dataset: Mapping[str, Any], method: str, where: str) -> str:
    """Which of a preset's values a dataset takes: its kind's, and of an imported bundle those of its name."""
    kind, name = dataset.get("kind", "own"), dataset.get("name", "demo")
    if kind == "bundle" and name not in BENCHMARKS:
        raise ConfigError(
            f"an imported bundle does not say which dataset's values of {method} it takes",
            where=where,
            fix=f"name them: {' or '.join(f'{method}/{known}' for known in datasets(method))}"
            f"; in `compare`, `methods: {{{method}: {{preset: {method}/{datasets(method)[0]}}}}}`",
        )
    wanted = name if kind == "bundle" else kind
    return str(wanted) if wanted in BENCHMARKS else SMALL


def _known(name: str, known: list[str], what: str, where: str) -> None:
    if name not in known:
        raise ConfigError(f"{what} {name!r}", where=where, fix=choice(name, known))


def _without(nested: dict[str, Any], switches: Mapping[str, Any]) -> dict[str, Any]:
    """The values but for those of some switches, given by their dotted names."""
    kept = copy.deepcopy(nested)
    for switch in switches:
        *sections, key = switch.split(".")
        place: Any = kept
        for section in sections:
            place = place.get(section, {})
        place.pop(key, None)
    return kept
