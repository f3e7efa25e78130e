"""What every part of the configuration has in common."""

from __future__ import annotations

import os
from typing import Annotated, Any, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SerializeAsAny,
    Tag,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from pipeline.core import plugins

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]

_USERS_OWN = {"type": "object", "properties": {"kind": {"type": "string", "pattern": r"\."}}, "required": ["kind"]}


def _place(path: str) -> str:
    """A path with `~` spelled out. ValueError for a line break or another control character."""
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError("the path holds a line break or another control character")
    return os.path.expanduser(path)


def _output(path: str) -> str:
    if set("{}") & set(path):
        raise ValueError("braces mean wildcards to Snakemake: choose a folder without them")
    return path


Place = Annotated[str, AfterValidator(_place)]
Output = Annotated[Place, AfterValidator(_output)]


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values cannot be changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Weighted(Section):
    """The settings of an objective. One whose weights have other names says their sum."""

    weight: Weight = Field(1.0, description="Weight; 0 switches it off.")

    @property
    def total(self) -> float:
        """The sum of its weights; 0: switched off."""
        return self.weight

    @property
    def reads_teacher_frames(self) -> bool:
        """Whether it needs the rows and sentences of an encoder of both: `data.teacher_frames` (docs/extending.md)."""
        return False


def plugged(room: str, base: type[Section], kinds: tuple[str, ...] = ()) -> Any:
    """The type of settings whose `kind` is the dotted name of a user's module: its class `Settings`, which derives from `base`.

    `kinds`: our own, for the message about a name that is neither.
    """

    def validated(value: Any) -> Any:
        if isinstance(value, base):
            return value
        kind = value.get("kind") if isinstance(value, dict) else None
        if not isinstance(kind, str) or "." not in kind:
            choices = ", ".join([*kinds, "the dotted name of a module of your own"])
            values = {"given": repr(kind), "expected": choices}
            raise PydanticCustomError("literal_error", "kind {given}: one of {expected} is expected", values)
        return plugins.settings(room, kind, base).model_validate(value)

    return Annotated[SerializeAsAny[base], BeforeValidator(validated), WithJsonSchema(_USERS_OWN)]  # type: ignore[valid-type, misc]


class _OrUsersOwn:
    """In the JSON schema a user's own kind stands beside the type it is attached to."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:
        return {"anyOf": [handler(core), _USERS_OWN]}


def or_plugged(room: str, base: type[Section], ours: type[Section]) -> Any:
    """The type of settings of one class for all our own kinds, or of a user's module (`plugged`)."""

    def validated(value: Any, ours_only: Any) -> Any:
        kind = value.get("kind") if isinstance(value, dict) else None
        if isinstance(kind, str) and "." in kind:
            return plugins.settings(room, kind, base).model_validate(value)
        return value if isinstance(value, base) else ours_only(value)

    return Annotated[SerializeAsAny[ours], WrapValidator(validated), _OrUsersOwn()]  # type: ignore[valid-type, misc]


class _AnyOf:
    """In the JSON schema a section without `kind`, whose default it is, may look like several kinds."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> Any:
        made = handler(core)
        place = handler.resolve_ref_schema(made)
        if "oneOf" in place:
            place["anyOf"] = place.pop("oneOf")
        return made


def of_kind(room: str, base: type[Section], *own: type[Section], default: str | None = None) -> Any:
    """The type of a field that holds the settings of one of several kinds: `own` by their `kind`, or a user's module (`plugged`).

    `default` is the kind where none is given.
    """
    by_kind = {str(section.model_fields["kind"].default): section for section in own}

    def tag(value: Any) -> str:
        kind = value.get("kind", default) if isinstance(value, dict) else getattr(value, "kind", None)
        return kind if kind in by_kind else "own"

    choices = [Annotated[section, Tag(kind)] for kind, section in by_kind.items()]
    choices.append(Annotated[plugged(room, base, tuple(by_kind)), Tag("own")])
    return Annotated[Union[tuple(choices)], Discriminator(tag), _AnyOf()]  # noqa: UP007 - made of a list


def merge(base: dict, over: dict) -> dict:
    """`base` with `over` laid on top, dictionaries merged key by key."""
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(merged[key], value) if isinstance(value, dict) and isinstance(merged.get(key), dict) else value
    return merged
