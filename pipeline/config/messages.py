"""What is wrong with a configuration, in words that say what to type instead."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from pipeline.config.encoder import Encoder
from pipeline.config.inputs import Dataset
from pipeline.config.models import ModelSettings
from pipeline.config.objectives import ObjectiveSettings
from pipeline.core import plugins

# The keys under which a user's own kind may stand: the room its module belongs to, and what its settings derive from.
_ROOMS: dict[str, tuple[str, type[BaseModel]]] = {
    "dataset": ("datasets", Dataset),
    "encoders": ("encoders", Encoder),
    "model": ("models", ModelSettings),
    "objectives": ("objectives", ObjectiveSettings),
}


def explain(error: ValidationError, model: type[BaseModel], values: dict[str, Any], prefix: str = "") -> str:
    """Every wrong key, type and value of a `model` that was made of `values`, a line each; `prefix` comes before each key."""
    lines = []
    for item in error.errors():
        loc = [str(part) for part in item["loc"]]
        (section, key), place = _walk(*_begin(model, loc, values)), ".".join(_written(loc, values))
        if item["type"] == "extra_forbidden" and section is not None:
            near = difflib.get_close_matches(key, section.model_fields, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`? " if near else ""
            lines.append(f"{prefix}{place}: unknown key; {hint}allowed here: {', '.join(section.model_fields)}")
        elif item["type"] == "literal_error":
            near = difflib.get_close_matches(str(item["input"]), [str(v) for v in _choices(section, key)], n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{prefix}{place}: {item['input']!r} is not one of {item['ctx']['expected']}{hint}")
        elif not loc:
            lines.append(prefix + item["msg"].removeprefix("Value error, "))
        else:
            given = "" if item["type"] == "missing" else f" (given: {item['input']!r})"
            lines.append(f"{prefix}{place}: {item['msg'].removeprefix('Value error, ')}{given}")
    return "\n  ".join(["the configuration is wrong:", *lines])


def _written(loc: list[str], values: Any) -> list[str]:
    """The keys as they stand in the file: between them `loc` names the members of unions, such as `open_clip` or `own`."""
    keys = []
    for part in loc[:-1]:
        if not isinstance(values, dict | list) or (isinstance(values, dict) and part in values):
            keys.append(part)
            values = values[part] if isinstance(values, dict) else values
        elif isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            keys.append(part)
            values = values[int(part)]
    return [*keys, *loc[-1:]]


def _begin(model: type[BaseModel], loc: list[str], values: Any) -> tuple[type[BaseModel], list[str]]:
    """Where to walk from: the innermost section of a user's own kind around the key, else `model`; and the rest of the way."""
    begin, room = (model, loc), _ROOMS.get(loc[0]) if loc else None
    for i, part in enumerate(loc[:-1], 1):
        values = values.get(part, values) if isinstance(values, dict) else values
        kind = values.get("kind") if isinstance(values, dict) else None
        if room and isinstance(kind, str) and "." in kind:
            begin = (plugins.settings(room[0], kind, room[1]), loc[i:])
    return begin


def _walk(model: type[BaseModel], loc: list[str]) -> tuple[type[BaseModel] | None, str]:
    """The section that holds the last key of `loc` (union tags and dictionary keys are stepped over)."""
    section: type[BaseModel] | None = model
    for part in loc[:-1]:
        field = section.model_fields.get(part) if section is not None else None
        models = models_in(field.annotation) if field is not None else []
        if len(models) == 1:
            section = models[0]
        elif models:
            section = next((m for m in models if str(m.model_fields["kind"].default) in loc), None)
    return section, loc[-1] if loc else ""


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections a type annotation mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def _choices(section: type[BaseModel] | None, key: str) -> list[Any]:
    field = section.model_fields.get(key) if section is not None else None
    return _flatten(field.annotation) if field is not None else []


def _flatten(annotation: Any) -> list[Any]:
    arguments = get_args(annotation)
    return [leaf for argument in arguments for leaf in _flatten(argument)] if arguments else [annotation]
