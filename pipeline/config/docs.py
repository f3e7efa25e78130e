"""What is generated from the configuration's model: the JSON schema and the reference page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipeline.config.messages import models_in
from pipeline.config.schema import Config

SCHEMA_FILE = Path("workflow/schemas/config.schema.json")
REFERENCE_FILE = Path("docs/configuration.md")

LONGEST = 80  # characters of a default in a cell
HEAD = """# Configuration reference

Generated from `pipeline/config/` by `prvr config docs`; do not edit. `config.yaml` is the demo's configuration and explains itself.
The keys from `variant` to `evaluation` describe one trained model; each entry of `experiments` may override any of them.
"""


def schema() -> str:
    """The JSON schema of the configuration."""
    generated = Config.model_json_schema()
    return json.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **generated}, indent=1, sort_keys=True) + "\n"


def reference() -> str:
    """The configuration reference: one table per section, nested sections after the one that holds them."""
    return "\n".join([HEAD, *_section(Config, "Top level", "", set())])


def _section(model: type[BaseModel], title: str, path: str, told: set[type[BaseModel]]) -> list[str]:
    """One table and those below it; a kind that was described before (`told`) is not described again."""
    lines = [
        f"## {title}",
        "",
        " ".join((model.__doc__ or "").split()),
        "",
        "| key | type | default | meaning |",
        "| --- | --- | --- | --- |",
    ]
    below: list[str] = []
    for name, field in model.model_fields.items():
        sections, named = models_in(field.annotation), "dict" in str(field.annotation)
        place = f"{path}{name}" + (".<name>" if named else "")
        for child in sections:
            which = f", {_kind(child)}" if "kind" in child.model_fields and len(sections) > 1 else ""
            if which and child in told:
                continue
            told.add(child)
            below += _section(child, f"`{place}`{which}", f"{place}.", told)
        kind = ("sections by name" if named else "section") if sections else _type(field.annotation)
        lines.append(
            f"| `{name}` | {kind} | {'' if sections else _default(field)} | {field.description or ('see below' if sections else '')} |"
        )
    return [*lines, "", *below]


def _kind(section: type[BaseModel]) -> str:
    """Which of several kinds a section describes; the base of a user's own settings has none of its own."""
    kind = section.model_fields["kind"]
    return "a kind of your own" if kind.is_required() else f"kind `{kind.default}`"


def _type(annotation: Any) -> str:
    """A reader's word for a type: `one of a, b`, `list of number`, `text or null`."""
    if str(annotation).startswith("typing.Literal"):
        return "one of " + ", ".join(f"`{choice}`" for choice in get_args(annotation))
    if len(kinds := get_args(annotation)) == 2 and kinds[1] is type(None) and str(kinds[0]).startswith("typing.Literal"):
        return f"{_type(kinds[0])}, or null"
    words = {"str": "text", "int": "integer", "float": "number", "bool": "true or false", "NoneType": "null", "dict": "mapping"}
    names = re.findall(r"NoneType|None|str|int|float|bool|dict|list", re.sub(r"\(.*?\)", "", str(annotation)))
    if "list" in names:
        inner = [words.get(f, f) for f in names if f not in ("list", "None")]
        return f"list of {inner[0] if inner else 'values'}" + (" or null" if "None" in names or "NoneType" in names else "")
    if "dict" in names:
        return "mapping"
    unique = dict.fromkeys(words.get("NoneType" if f == "None" else f, f) for f in names)
    return " or ".join(unique)


def _default(field: FieldInfo) -> str:
    """The value as JSON; of a mapping too long for a cell, its names (the schema holds the whole)."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    text = json.dumps(value)
    return ", ".join(f"`{name}`" for name in value) if isinstance(value, dict) and len(text) > LONGEST else f"`{text}`"
