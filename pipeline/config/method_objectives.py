"""The settings of the objectives that methods beside MSC bring. No torch here: every job of a cluster reads them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from pipeline.config.base import Weight, Weighted


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
