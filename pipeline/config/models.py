"""The settings of the retrieval models, one class a kind. No torch here: every job of a cluster reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from pipeline.config.base import Share, of_kind
from pipeline.config.methods import GmmFormer, GmmFormerV2, HlFormer, MsSl
from pipeline.config.model import ModelSettings


class Msc(ModelSettings):
    """The dual-branch encoder of MSC (docs/method.md 5)."""

    kind: Literal["msc"] = "msc"

    heads: PositiveInt = Field(4, description="Attention heads.")
    widths: list[float | None] = Field(
        [None, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0], description="Gaussian widths, one branch each; null: plain attention."
    )
    dropout: Share = Field(0.2, description="Dropout in the blocks.")
    input_dropout: Share = Field(0.2, description="Dropout of the input projections and positions.")
    consolidation_temperature: PositiveFloat = Field(
        0.6, description="Temperature of temporal consolidation (sft_factor: .09 TVR, .6 others)."
    )
    proportional_attention: bool = Field(True, description="Add log clip size to the clip branch's attention logits.")


if TYPE_CHECKING:
    Model = ModelSettings
else:
    Model = of_kind("models", ModelSettings, Msc, MsSl, GmmFormer, GmmFormerV2, HlFormer, default="msc")
