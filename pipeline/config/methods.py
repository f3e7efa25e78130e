"""The settings of the retrieval models beside MSC's, one class a kind. No torch here: every job of a cluster reads them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from pipeline.config.base import Share
from pipeline.config.model import ModelSettings


class MaskedModel(ModelSettings):
    """A model that heeds `Videos.mask`, so that short videos may be padded."""

    @property
    def reads_mask(self) -> bool:
        """True."""
        return True


class MsSl(MaskedModel):
    """Multi-scale similarity learning, MS-SL (docs/methods.md)."""

    kind: Literal["ms_sl"] = "ms_sl"

    heads: PositiveInt = Field(4, description="Attention heads.")
    dropout: Share = Field(0.1, description="Dropout in the encoder layers.")
    input_dropout: Share = Field(0.1, description="Dropout of the input projections and positions.")
