"""Reading configurations with messages that say what to type, and writing what is generated from the model."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from pipeline.config import Config, Experiment, merge
from pipeline.errors import ConfigError

SCHEMA_FILE = Path("workflow/schemas/config.schema.json")
REFERENCE_FILE = Path("docs/configuration.md")


def read(path: str | Path) -> dict[str, Any]:
    """One YAML or JSON file as a dictionary; ConfigError when it cannot be read."""
    path = Path(path)
    if not path.exists():
        raise ConfigError("no such configuration file", where=path, fix="give an existing file, or write one with `prvr init`")
    try:
        values = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", where=path, fix="correct the syntax at the line named") from error
    if not isinstance(values, dict):
        raise ConfigError("the file holds no keys", where=path, fix="see config.yaml for an example")
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
        raise ConfigError(_explain(error, Config), where=source, fix="correct the keys above; docs/configuration.md lists them all") from error
    for name in config.experiments:
        try:
            config.experiment(name)
        except ValidationError as error:
            text = _explain(error, Experiment, prefix=f"experiments.{name}.")
            raise ConfigError(text, where=source, fix="correct the keys above; docs/configuration.md lists them all") from error
    return config


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
        models = _models(field.annotation) if field is not None else []
        if len(models) == 1:
            section = models[0]
        elif models:
            section = next((m for m in models if str(m.model_fields["kind"].default) in loc), models[0])
    return section, loc[-1] if loc else ""


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]


def _choices(section: type[BaseModel] | None, key: str) -> list[Any]:
    field = section.model_fields.get(key) if section is not None else None
    return [value for value in _flatten(field.annotation)] if field is not None else []


def _flatten(annotation: Any) -> list[Any]:
    arguments = get_args(annotation)
    return [leaf for argument in arguments for leaf in _flatten(argument)] if arguments else [annotation]


def schema() -> str:
    """The JSON schema of the configuration (workflow/schemas/config.schema.json)."""
    generated = Config.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **generated}, indent=1, sort_keys=True) + "\n"


def reference() -> str:
    """The configuration reference (docs/configuration.md)."""
    lines = [
        "# Configuration reference",
        "",
        "Generated from `pipeline/config.py` by `prvr config docs`; do not edit. `config.yaml` is the demo's configuration and explains itself.",
        "The keys from `variant` to `evaluation` describe one trained model; each entry of `experiments` may override any of them.",
        "",
    ]
    seen: set[type[BaseModel]] = set()

    def section(model: type[BaseModel], path: str) -> None:
        lines.extend([f"## {path or 'Top level'}", "", " ".join((model.__doc__ or "").split()), "", "| key | type | default | meaning |", "| --- | --- | --- | --- |"])
        below: list[tuple[type[BaseModel], str]] = []
        for name, field in model.model_fields.items():
            nested = _models(field.annotation)
            if nested:
                # a dictionary of named sections, or one section
                named = "dict" in str(field.annotation)
                below += [(m, f"{path}{name}.{'<name>' if named else ''}".rstrip(".") + "." * bool(0)) for m in nested]
                what = field.description or "see below"
                lines.append(f"| `{name}` | section{'s by name' if named else ''} | {_default(field, nested=True)} | {what} |")
            else:
                lines.append(f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {field.description or ''} |")
        lines.append("")
        for child, child_path in below:
            if child not in seen:
                seen.add(child)
                kind = child.model_fields.get("kind")
                section(child, child_path + (f" (kind: {kind.default})" if kind is not None and len(child_path.split(".")) > 1 else "") + "")

    section(Config, "")
    return "\n".join(lines).replace(" .", ".")


def _type(annotation: Any) -> str:
    text = str(annotation) if get_args(annotation) else getattr(annotation, "__name__", str(annotation))
    for old, new in (("typing.", ""), ("Literal[", "one of ["), ("NoneType", "null"), ("None", "null"), (" | ", " or ")):
        text = text.replace(old, new)
    if "Annotated[" in text:
        text = "list" if text.startswith("list") else "str" if "str" in text else "float" if "float" in text else "int"
    return text.replace("|", "\\|")


def _default(field: FieldInfo, nested: bool = False) -> str:
    if field.is_required():
        return "required"
    if nested:
        return ""
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value)}`"
