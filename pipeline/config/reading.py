"""Reading configurations, with messages that say what to type instead."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.config.base import merge
from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError
from pipeline.core.store import recipe_hash

PUBLISHED = ".config"  # the folder in which the workflow leaves the configuration its jobs read, each named by its hash


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in seen and name != "<<":
                raise yaml.YAMLError(f"line {line}: the key `{name}` is given twice (first on line {seen[name]})")
            seen[name] = line
        return super().construct_mapping(node, deep)


def read(path: str | Path) -> dict[str, Any]:
    """One YAML or JSON file as a dictionary; ConfigError when it cannot be read."""
    path = Path(path)
    if not path.exists():
        raise ConfigError("no such configuration file", where=path, fix="give an existing file, or write one with `prvr init`")
    try:
        values = yaml.load(path.read_text(), _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where=path, fix="correct the syntax at the line named") from error
    if not isinstance(values, dict):
        raise ConfigError("the file holds no keys", where=path, fix="see config.yaml for an example")
    if path.parent.name == PUBLISHED and recipe_hash(values) != path.stem:
        raise ConfigError(
            "the configuration of the running workflow was changed", where=path, fix="run the workflow again: it is written anew"
        )
    return values


def load(*paths: str | Path, overrides: dict[str, Any] | None = None) -> Config:
    """The configuration of one file, or of several laid on top of one another."""
    values: dict[str, Any] = {}
    for path in paths:
        values = merge(values, read(path))
    return validate(merge(values, overrides or {}), source=" + ".join(str(p) for p in paths))


def validate(values: dict[str, Any], *, source: str) -> Config:
    """A checked Config; ConfigError listing every wrong key, type and value with the nearest right spelling."""
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(
            _explain(error, Config), where=source, fix="correct the keys above; docs/configuration.md lists them all"
        ) from error
    config._source = source
    for name in config.models:
        try:
            config.experiment(name)
        except ValidationError as error:
            text = _explain(error, Experiment, prefix=f"{_place(config, name)}.{name}.")
            raise ConfigError(text, where=source, fix="correct the keys above; docs/configuration.md lists them all") from error
    return config


def _place(config: Config, name: str) -> str:
    return next((key for key in ("experiments", "ablations", "sweeps") if name in getattr(config, key)), "compare.methods")


def _explain(error: ValidationError, model: type[BaseModel], prefix: str = "") -> str:
    lines = []
    for item in error.errors():
        loc = [str(part) for part in item["loc"]]
        section, key = _walk(model, loc)
        if item["type"] == "extra_forbidden" and section is not None:
            near = difflib.get_close_matches(key, section.model_fields, n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`? " if near else ""
            lines.append(f"{prefix}{'.'.join(loc)}: unknown key; {hint}allowed here: {', '.join(section.model_fields)}")
        elif item["type"] == "literal_error":
            near = difflib.get_close_matches(str(item["input"]), [str(v) for v in _choices(section, key)], n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]}?" if near else ""
            lines.append(f"{prefix}{'.'.join(loc)}: {item['input']!r} is not one of {item['ctx']['expected']}{hint}")
        elif not loc:
            lines.append(prefix + item["msg"].removeprefix("Value error, "))
        else:
            given = "" if item["type"] == "missing" else f" (given: {item['input']!r})"
            lines.append(f"{prefix}{'.'.join(loc)}: {item['msg'].removeprefix('Value error, ')}{given}")
    return "\n  ".join(["the configuration is wrong:", *lines])


def _walk(model: type[BaseModel], loc: list[str]) -> tuple[type[BaseModel] | None, str]:
    """The section that holds the last key of `loc` (union tags and dictionary keys are stepped over)."""
    section: type[BaseModel] | None = model
    for part in loc[:-1]:
        field = section.model_fields.get(part) if section is not None else None
        models = models_in(field.annotation) if field is not None else []
        if len(models) == 1:
            section = models[0]
        elif models:
            section = next((m for m in models if str(m.model_fields["kind"].default) in loc), None)  # None: a user's own kind
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
