"""The settings of the objectives that methods beside MSC bring. No torch here: every job of a cluster reads them."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field, PositiveFloat, PositiveInt

from pipeline.config.base import Name, Section, Share, Weight, Weighted


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


class Distillation(Weighted):
    """DL-DKD's inheritance: each query's softmax over its video's frames follows the one a frozen teacher gives it (docs/methods.md)."""

    weight: Weight = Field(0.0, description="Weight at the first epoch (.1); 0 switches it off. Summed over the batch's queries.")
    decay: Share = Field(0.95, description="What the weight is multiplied with after every epoch.")
    temperature: PositiveFloat = Field(0.2, description="Cosines are divided by it before the softmax, on both sides.")
    query: Name = Field("pooled", description="What the model encodes a query to (docs/extending.md) that learns from the teacher.")
    frames: Name = Field("frames", description="The same of a video: a token a frame.")

    @property
    def reads_teacher_frames(self) -> bool:
        """True."""
        return True


class SoftNce(Section):
    """DL-DKD++'s InfoNCE: videos of few captions have softened targets (docs/methods.md). Beside these keys, `<branch>: weight`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Weight] = Field(init=False)

    taught: Name = Field(
        "inheritance", description="The branch whose soft targets a frozen teacher gives; the others' are their own scores."
    )
    start: Share = Field(0.8, description="Share of hard targets, and their weight, at the first epoch.")
    floor: Share = Field(0.5, description="A soft target keeps at least this share of the hard one.")
    midpoint: PositiveFloat = Field(800.0, description="m of s(e) = m / (m + exp(e / pace)), which both shares are multiplied with.")
    pace: PositiveFloat = Field(8.0, description="Epochs in which the exponential of s(e) grows by e.")
    order: Literal["captions", "batch"] = Field(
        "captions", description="Which rows are hard: of the videos of most captions, as released batches are sorted, or a random share."
    )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each branch."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def total(self) -> float:
        """The sum of its weights; 0: switched off."""
        return sum(self.weights.values())

    @property
    def reads_teacher_frames(self) -> bool:
        """Whether the taught branch has a weight."""
        return bool(self.weights.get(self.taught))


class Spans(Section):
    """AMDNet's terms on the windows and moments a video predicts for itself (docs/methods.md)."""

    diversity: Weight = Field(0.0, description="Weight of keeping the windows apart (1); 0 switches it off.")
    overlap: float = Field(0.15, ge=0, description="The squared length every window, divided by its sum, is drawn to.")
    relevance: Weight = Field(0.0, description="Weight of the best moment beating the whole video (25); 0 switches it off.")
    margin: float = Field(0.02, ge=0, description="By how much.")

    @property
    def total(self) -> float:
        """The sum of its weights; 0: switched off."""
        return self.diversity + self.relevance


class Relations(Weighted):
    """Queries are as alike as the clips they were matched with (docs/methods.md, BGM-Net)."""

    weight: Weight = Field(0.0, description="Weight; 0: off (1 in BGM-Net).")
