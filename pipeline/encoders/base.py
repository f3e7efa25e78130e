"""What an encoder is: a module with `load(settings, device, name)`, found by its kind, that gives an object with these methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from pipeline.config.encoder import Encoder
from pipeline.core import plugins
from pipeline.core.errors import EncoderError
from pipeline.encoders.weights import Weights

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class VideoEncoder(Protocol):
    """Rows of a video to vectors.

    `dim`: D of a vector; `device`: where it computes; `weights`: what was loaded, None where there is nothing to load; `preprocessing`:
    what it does to the pixels it is given, for the attributes of the features.
    """

    dim: int
    device: torch.device
    weights: Weights | None
    preprocessing: dict[str, Any]

    def encode(self, rows: Tensor | np.ndarray) -> Tensor:
        """Shapes: stills uint8 [N, S, S, 3] or windows uint8 [N, k, S, S, 3], RGB as the settings' stream says -> float32 [N, D].

        A row's vector does not depend on the rows beside it. Not normalised.
        """
        ...


class Caption(NamedTuple):
    """What a text encoder makes of one caption.

    Shapes: `states` float32 [L, Dt], one row a token, from the first to the last; `sentence` float32 [E], in the space of the images where
    there is one; neither normalised; on the CPU. `truncated`: whether words were cut off.
    """

    states: Tensor
    sentence: Tensor
    truncated: bool


@runtime_checkable
class TextEncoder(Protocol):
    """Captions to token states and sentence vectors.

    `text_dim`: Dt of a token state. `sentence_is_last`: whether the sentence vector comes from the last token state alone, as in CLIP; a
    teacher of relations between sentences is then that state, otherwise the sentence vector (docs/method.md 6.4).
    """

    text_dim: int
    sentence_is_last: bool

    def encode_texts(self, texts: Sequence[str]) -> list[Caption]: ...


def load(settings: Encoder, device: torch.device | str = "cpu", name: str = "") -> VideoEncoder:
    """The encoder of these settings, its weights loaded, on `device`. Errors: ConfigError (no such kind); WeightsError, EncoderError."""
    encoder: VideoEncoder = plugins.load("encoders", settings.kind).load(settings, device, name)
    return encoder


def load_text(settings: Any, device: torch.device | str = "cpu", name: str = "", *, at_once: int = 0) -> TextEncoder:
    """The same, to read captions with. Errors: also EncoderError when it cannot.

    `at_once`: captions computed together by an encoder that always takes as many (`text_batch`). 1 answers a query many times sooner.
    """
    encoder = load(settings, device, name) if isinstance(settings, Encoder) and settings.reads_text else None
    if not isinstance(encoder, TextEncoder):
        raise no_text(settings, name)
    if at_once and hasattr(encoder, "text_batch"):
        encoder.text_batch = at_once
    return encoder


def no_text(settings: Any, name: str) -> EncoderError:
    """What to say of an encoder that reads no text."""
    return EncoderError(
        f"{name or settings.kind} is of kind {settings.kind}, which has no text tower: it cannot encode a typed query",
        fix="give the encoder of the training queries as an entry of that name of a kind that reads text, such as `open_clip`",
    )
