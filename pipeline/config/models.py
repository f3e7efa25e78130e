"""The settings of the retrieval models, one class a kind. No torch here: every job of a cluster reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator

from pipeline.config.base import Share, of_kind
from pipeline.config.methods import AmdNet, BgmNet, DlDkd, GmmFormer, GmmFormerV2, HlFormer, MsSl
from pipeline.config.model import ModelSettings
from pipeline.config.variants import BASE


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


def _base_kind(value: Any) -> str:
    return str(value.get("kind", BASE) if isinstance(value, dict) else getattr(value, "kind", ""))


# What RAL's wiring knows: a clip branch of tokens, frame tokens, a query encoder with positions.
_Base = Annotated[
    Annotated[GmmFormerV2, Tag("gmmformer_v2")]
    | Annotated[GmmFormer, Tag("gmmformer")]
    | Annotated[MsSl, Tag("ms_sl")]
    | Annotated[Msc, Tag("msc")],
    Discriminator(_base_kind),
]


class Ral(ModelSettings):
    """RAL, a plug-in on the model `base`, whose sizes and dropout it shares (docs/methods.md)."""

    kind: Literal["ral"] = "ral"

    base: _Base = Field(
        GmmFormerV2(),
        description="The model that RAL is put on, of the kind gmmformer_v2, gmmformer, ms_sl or msc. Its clip branch stays, the score of "
        "its frame branch is replaced.",
    )

    @model_validator(mode="after")
    def _one_size(self) -> Ral:
        """`hidden` and `max_words` may stand here or in `base`; what is left out is not marked as given, so that overrides may give it."""
        for size in ("hidden", "max_words"):
            here, there = size in self.model_fields_set, size in self.base.model_fields_set
            own, of_base = getattr(self, size), getattr(self.base, size)
            if here and there and own != of_base:
                raise ValueError(f"{size} is {own} here and {of_base} in base, and RAL shares it with its base: give it once")
            if here and not there:
                self.__dict__["base"] = self.base.model_copy()
                self.base.__dict__[size] = own
            elif there or not here:
                self.__dict__[size] = of_base
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """RAL and its base."""
        return (self.kind, *self.base.kinds)

    @property
    def reads_words(self) -> bool:
        """True: each word meets the frames."""
        return True

    @property
    def reads_mask(self) -> bool:
        """As its base."""
        return self.base.reads_mask


if TYPE_CHECKING:
    Model = ModelSettings
else:
    Model = of_kind("models", ModelSettings, Msc, MsSl, GmmFormer, GmmFormerV2, HlFormer, DlDkd, AmdNet, BgmNet, Ral, default="msc")
