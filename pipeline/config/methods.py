"""The settings of the retrieval models beside MSC's, one class a kind. No torch here: every job of a cluster reads them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

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


class BgmNet(MsSl):
    """BGM-Net: MS-SL with proposals shared out among a video's queries in training (docs/methods.md)."""

    kind: Literal["bgm_net"] = "bgm_net"  # type: ignore[assignment]

    start_epoch: int = Field(0, ge=0, description="First epoch with matched proposals, counted from 0 (0 TVR, 20 ActivityNet, 5 Charades).")


class GmmFormer(MaskedModel):
    """GMMFormer (docs/methods.md)."""

    kind: Literal["gmmformer"] = "gmmformer"

    heads: PositiveInt = Field(4, description="Attention heads.")
    widths: list[float | None] = Field(
        [None, 0.5, 1.0, 5.0], min_length=1, description="Gaussian widths, one layer each in both blocks; null: plain attention."
    )
    dropout: Share = Field(0.2, description="Dropout in the blocks (.15 Charades).")
    input_dropout: Share = Field(0.2, description="Dropout of the input projections and positions (.15 Charades).")
    padding: Literal["full", "longest"] = Field(
        "full",
        description="How far the frames of a short video are padded, which its vector depends on: `full`, to `clips.frames`, the same "
        "wherever the video stands; `longest`, as in the released code, to the longest video of its batch.",
    )
    second_pass: bool = Field(
        True,
        description="In training encode queries twice; query diversity sees the second dropout. "
        "By the variant: released true, paper false.",
    )


class GmmFormerV2(MaskedModel):
    """GMMFormer v2 (docs/methods.md)."""

    kind: Literal["gmmformer_v2"] = "gmmformer_v2"

    heads: PositiveInt = Field(4, description="Attention heads.")
    widths: list[float | None] = Field(
        [None, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0], min_length=1, description="Gaussian widths, one branch each; null: plain attention."
    )
    dropout: Share = Field(0.2, description="Dropout in the blocks (.2 TVR, .31 ActivityNet, .25 Charades).")
    input_dropout: Share = Field(0.2, description="Dropout of the input projections and positions (as `dropout`).")
    consolidation_temperature: PositiveFloat = Field(0.6, description="Temperature of temporal consolidation (.09 TVR, .6 others).")
    second_pass: bool = Field(
        True,
        description="In training encode queries twice; query diversity and optimal matching see the second dropout. "
        "By the variant: released true, paper false.",
    )


class HlFormer(MaskedModel):
    """HLFormer (docs/methods.md)."""

    kind: Literal["hlformer"] = "hlformer"

    heads: PositiveInt = Field(4, description="Attention heads.")
    widths: list[float | None] = Field(
        [None, 2.0, 4.0, 8.0],
        min_length=1,
        description="Gaussian widths, an encoder layer and a Lorentz layer each; null: plain attention.",
    )
    lorentz_width: int = Field(128, ge=2, description="Coordinates of a point of the Lorentz layers, the time included; split into heads.")
    dropout: Share = Field(0.2, description="Dropout in the blocks (.2 TVR, .31 ActivityNet, .25 Charades).")
    input_dropout: Share = Field(0.2, description="Dropout of the input projections and positions (as `dropout`).")
    consolidation_temperature: PositiveFloat = Field(0.6, description="Temperature of temporal consolidation (.09 TVR, .6 others).")
    second_pass: bool = Field(True, description="In training encode queries twice; query diversity and entailment see the second dropout.")

    @model_validator(mode="after")
    def _heads(self) -> HlFormer:
        if self.lorentz_width % self.heads or self.lorentz_width < 2 * self.heads:
            raise ValueError(
                f"lorentz_width {self.lorentz_width} does not give each of {self.heads} heads a time and a space coordinate: "
                f"take a multiple of {self.heads}, {2 * self.heads} or more"
            )
        return self


class DlDkd(MaskedModel):
    """Dual learning with dynamic knowledge distillation, DL-DKD and DL-DKD++ (docs/methods.md)."""

    kind: Literal["dl_dkd"] = "dl_dkd"

    plus_plus: bool = Field(True, description="DL-DKD++: each student projects the words by itself. false: DL-DKD, where they share that.")
    heads: PositiveInt = Field(4, description="Attention heads.")
    dropout: Share = Field(0.2, description="Dropout in the encoder layers (++: .2 TVR, .25 ANet, .15 Charades; DL-DKD: .1).")
    input_dropout: Share = Field(0.2, description="Dropout of the input projections and positions; as `dropout`.")


class AmdNet(MaskedModel):
    """Active moment discovery, AMDNet (docs/methods.md). It reads one sentence vector a query, and rows as they are."""

    kind: Literal["amdnet"] = "amdnet"

    hidden: PositiveInt = Field(384, description="Hidden size (384 TVR, 256 others).")
    heads: PositiveInt = Field(4, description="Attention heads; each has a window of its own, so there are as many moments.")
    dropout: Share = Field(0.2, description="Dropout in the encoder layers (.2 TVR and ANet, .15 Charades).")
    input_dropout: Share = Field(0.2, description="Dropout of the input projections and positions.")

    @property
    def reads_sentence(self) -> bool:
        """True."""
        return True

    @property
    def reads_raw_rows(self) -> bool:
        """True."""
        return True
