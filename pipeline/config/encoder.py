"""What the settings of every encoder have in common, a user's own among them.

What the workflow must know of an encoder it asks its settings: the frames it wants, whether it reads text, which libraries' versions count,
what a row costs, where its weights are looked for. None of that imports torch.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.config.base import Section
from pipeline.config.published import Published
from pipeline.config.streams import Stream
from pipeline.core import install

Precision = Literal["fp32", "bf16", "fp16"]
UNKNOWN = (2e9, 256)  # operations and values of a row nothing is known of


class Sampling(Section):
    """When a video is looked at: row i covers seconds [i*every, (i+1)*every)."""

    every: PositiveFloat = Field(2.0, description="Seconds per row (2: QVHighlights, 1: ActivityNet and Charades, 0.3333: TVR).")
    at: Literal["middle", "start"] = Field("middle", description="Which instant of the row a still is taken at.")


class Encoder(Section):
    """What every encoder has in common; the `Settings` of a user's own derives from it (docs/extending.md)."""

    kind: str
    architecture: str = Field("", description="Name of the network, where the kind has several.")
    weights: str = Field("", description="Its weights: a file or a folder; empty for an encoder that has none.")
    sha256: str | None = Field(None, description="Expected sha256 of the weights file; checked when given.")
    size: PositiveInt = Field(224, description="Side of the square input, pixels.")
    sampling: Sampling = Sampling()
    precision: Precision = Field("fp32", description="Arithmetic of the encoder.")

    reads_text: ClassVar[bool] = False  # whether it can be `text` or `teacher`
    shaped_by: ClassVar[tuple[str, ...]] = ("size",)  # keys that change the shape of its input
    of_pictures: ClassVar[tuple[str, ...]] = ("size", "sampling")  # keys that leave its texts alone
    config_file: ClassVar[str] = "config.json"  # which a folder of weights holds beside them

    @property
    def weight_files(self) -> tuple[str, ...]:
        """Names of the weights in such a folder, best first."""
        return ("model.safetensors",)

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions whose version is part of the recipe, the one it is made with first."""
        return ()

    @property
    def stream(self) -> Stream:
        """The frames it wants; stills unless a kind says otherwise."""
        return Stream(self.sampling.every, self.sampling.at, self.size)

    @property
    def published(self) -> Published | None:
        """What the configured tag or file name stands for, when it is a published one."""
        return None

    @property
    def mistyped(self) -> str:
        """What is wrong with the names of the architecture and the weights, where these can be no file; else empty."""
        return ""

    @property
    def hint(self) -> str:
        """What to do when the weights are not here, where that is not to put a file or a folder there."""
        return ""

    @property
    def places(self) -> list[Path]:
        """Every place the weights may be in, best first."""
        value = Path(self.weights).expanduser()
        return [value] if value.is_absolute() else [value, home() / value, install.CODE / value]

    @property
    def folder(self) -> Path | None:
        """The folder of weights with its own configuration, if that is what is configured and here."""
        return next((place for place in self.places if (place / self.config_file).is_file()), None) if self.weights else None

    @property
    def vocabulary(self) -> Path | None:
        """The tokenizer's file where it does not lie in the folder of the weights: it is part of what a query is made from."""
        return None

    @property
    def vocabulary_page(self) -> str:
        """Where such a file is published; empty for an encoder that needs none."""
        return ""

    @property
    def cost(self) -> tuple[float, int]:
        """(floating-point operations, values) of one row; a guess where the layers cannot be read."""
        return UNKNOWN

    @property
    def text_cost(self) -> tuple[float, int]:
        """(floating-point operations of one query, values of one of its tokens)."""
        return UNKNOWN


def home() -> Path:
    """The folder weights are put into: `$PRVR_WEIGHTS`, else `weights/`."""
    return Path(os.environ.get("PRVR_WEIGHTS") or "weights")


def cache_home() -> Path:
    """Where this user's caches are."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def json_object(path: Path) -> dict[str, Any]:
    """A JSON object, or nothing when it cannot be read: loading the encoder says what is wrong with it."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
