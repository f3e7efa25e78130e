"""The settings of the objectives that methods beside MSC bring. No torch here: every job of a cluster reads them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from pipeline.config.base import Section, Weight, Weighted


class QueryDiversity(Weighted):
    """The queries of one video keep apart (docs/methods.md, GMMFormer and GMMFormer v2)."""

    weight: Weight = Field(
        0.0, description="Weight; 0: off (GMMFormer .001 TVR, .015 ActivityNet, .005 Charades; v2 .00008 TVR, .003 others)."
    )
    form: Literal["query", "pair"] = Field(
        "query", description="`query`: one logarithm a query, as GMMFormer; `pair`: one a pair, weighed by its cosine, as GMMFormer v2."
    )
    delta: float = Field(0.2, description="Added to every cosine (.15 TVR, .2 ActivityNet).")
    alpha: float = Field(32.0, gt=0, description="Scale of the exponent.")
    focus: Weight = Field(1.0, description="Power of 1 + cosine that weighs a pair, in the form `pair`.")


class OptimalMatching(Weighted):
    """A video's queries and clips, paired one to one, draw near (docs/methods.md, GMMFormer v2)."""

    weight: Weight = Field(0.0, description="Weight; 0: off (.09 TVR, .11 ActivityNet, .1 Charades).")


class Entailment(Weighted):
    """A query lies in the hyperbolic cone of its video (docs/methods.md, HLFormer)."""

    weight: Weight = Field(0.0, description="Weight; 0: off (.001 in HLFormer).")


class Ral(Section):
    """Samples of a video and of its queries find each other, and their distributions draw near (docs/methods.md, RAL)."""

    proxy_matching: Weight = Field(0.0, description="Weight of the matching of samples; 0: off. With `model: {kind: ral}` .004.")
    distribution_alignment: Weight = Field(
        0.0, description="Weight of the alignment; 0: off. With `model: {kind: ral}` by the variant: released .00025, paper .001."
    )
    proxies: PositiveInt = Field(6, description="Samples of each distribution.")
    support: Literal["buffer", "words"] = Field(
        "buffer",
        description="What a video's queries are read from: a buffer of fixed size with its padding, or their words alone; of a video, all "
        "frame rows or the real ones. By the variant: released `buffer`, paper `words`.",
    )
    buffer: PositiveInt = Field(26, description="Queries the buffer holds; a video of more has a buffer of its own size.")
    divergence: Literal["mixed", "exact"] = Field(
        "mixed",
        description="`mixed`: means of the samples, and the spread is a log variance against the standard normal but a log standard "
        "deviation between the two; `exact`: own means, a log standard deviation throughout. "
        "By the variant: released `mixed`, paper `exact`.",
    )

    @property
    def total(self) -> float:
        """The sum of its weights; 0: switched off."""
        return self.proxy_matching + self.distribution_alignment
