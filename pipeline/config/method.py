"""What makes one trained model: clips, network, objectives, training, evaluation."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Name, Section, Share, Weight


class Clips(Section):
    """From feature rows to 128 frames, 32 clips and their contexts, per video (docs/method.md 2-4; paper Eq. 7-9, Algorithms 1-3)."""

    frames: PositiveInt = Field(128, description="Pooled frame rows per video.")
    clips: int = Field(32, ge=1, le=256, description="Clips per video.")
    method: Literal["op_tome", "uniform"] = Field("op_tome", description="Order-preserving token merging, or equal parts (ablation).")
    similarity: Literal["dot", "cosine"] = Field(
        "dot", description="Pair similarity of the merging. By the variant: released `dot`, paper `cosine`."
    )
    last_row: Literal["drop", "keep"] = Field(
        "drop",
        description="`drop` loses the last feature row where there are over 1.5 rows a frame. "
        "By the variant: released `drop`, paper `keep`.",
    )
    size_unit: Literal["slots", "rows"] = Field(
        "slots",
        description="What a clip's size counts: pooled frames, or the feature rows in them. "
        "By the variant: released `slots`, paper `rows`.",
    )
    schedule: list[PositiveInt] | None = Field(
        None, description="Lengths after each merge step. null: released 80, 52, 32; paper Eq. 9 (80, 50, 32)."
    )
    levels: list[PositiveInt] | None = Field(
        None,
        description="Context counts, from no merging to most. null: released 32, 20, 12, 8, 5; paper Eq. 9 (32, 20, 12, 8, 6, 5).",
    )
    merge_rate: Share = Field(0.75, description="Share of the pairs merged per step (Eq. 9), where `schedule` or `levels` is null.")
    context_ratio: Literal["closure", "pairs"] = Field(
        "closure",
        description="Share of clip pairs above tau, counted transitively or directly. By the variant: released `closure`, paper `pairs`.",
    )
    context_choice: Literal["at_least", "above"] = Field(
        "at_least", description="Whether a ratio on a level's threshold reaches it. By the variant: released `at_least`, paper `above`."
    )
    context_merge: Literal["greedy", "tome"] = Field(
        "greedy", description="Greedy one-to-one matching, or ToMe's many-to-one. By the variant: released `greedy`, paper `tome`."
    )
    tau: float = Field(
        0.8, ge=-1, le=1, description="Similarity above which two clips belong to one context (.80 TVR, ANet; .85 Charades; .70 QVH)."
    )
    join: Literal["as_stored", "unit"] = Field(
        "as_stored", description="How several encoders' rows are joined: as they are, or each scaled to unit length first."
    )
    dtype: Literal["float16", "float32"] = Field("float16", description="Stored precision of the pooled rows.")

    @model_validator(mode="after")
    def _lengths(self) -> Clips:
        if self.clips > self.frames:
            raise ValueError(f"clips ({self.clips}) cannot be more than frames ({self.frames})")
        if self.schedule is not None:
            chain = [self.frames, *self.schedule]
            if chain[-1] != self.clips:
                raise ValueError(f"schedule must end with clips ({self.clips}), given {self.schedule}")
            _check_merges("schedule", chain)
        if self.levels is not None:
            if self.levels[:1] != [self.clips]:
                raise ValueError(f"levels must begin with clips ({self.clips}), given {self.levels}")
            _check_merges("levels", self.levels)
        if "merge_rate" in self.model_fields_set and self.schedule is not None and self.levels is not None:
            raise ValueError("merge_rate has no effect when both schedule and levels are given; leave one of them null")
        return self


def _check_merges(key: str, lengths: list[int]) -> None:
    for before, after in pairwise(lengths):
        least = -(-before // 2)
        if not least <= after < before:
            raise ValueError(f"{key}: one step merges pairs, so {before} can become {least} to {before - 1}, not {after}")


class Model(Section):
    """The dual-branch encoder (docs/method.md 5)."""

    hidden: PositiveInt = Field(384, description="Hidden size.")
    heads: PositiveInt = Field(4, description="Attention heads.")
    widths: list[float | None] = Field(
        [None, 0.5, 1.0, 5.0, 10.0, 3.0, 0.1, 8.0], description="Gaussian widths, one branch each; null: plain attention."
    )
    dropout: Share = Field(0.2, description="Dropout in the blocks.")
    input_dropout: Share = Field(0.2, description="Dropout of the input projections and positions.")
    consolidation_temperature: PositiveFloat = Field(
        0.6, description="Temperature of temporal consolidation (sft_factor: .09 TVR, .6 others)."
    )
    max_words: PositiveInt = Field(77, description="Query tokens kept.")
    proportional_attention: bool = Field(True, description="Add log clip size to the clip branch's attention logits.")


class Nce(Section):
    """Symmetric multi-positive InfoNCE on dot products (docs/method.md 6.2)."""

    clip: Weight = Field(0.02, description="Weight on the clip branch (.05 TVR, .02 others). By the variant: released .02, paper 1.")
    frame: Weight = Field(0.04, description="Weight on the frame branch. By the variant: released .04, paper 1.")


class Triplet(Section):
    """Triplet ranking loss on cosines (docs/method.md 6.3)."""

    weight: Weight = Field(1.0, description="Weight of both branches' triplets.")
    margin: float = Field(0.2, ge=0, description="Margin (.1 TVR, .2 others).")
    hard_start_epoch: int = Field(20, ge=0, description="First epoch with hard negatives.")
    hard_pool: PositiveInt = Field(20, description="Text-to-video negatives are drawn from this many hardest ones.")


class Tcpl(Section):
    """Text correlation preservation (docs/method.md 6.4-6.5; paper Eq. 1-4)."""

    distance: Weight = Field(15.0, description="Weight of the distance term; 0 switches it off.")
    angle: Weight = Field(30.0, description="Weight of the angle term; 0 switches it off.")
    normaliser: Literal["all", "off_diagonal"] = Field(
        "all", description="Mean over Nq^2 or over Nq(Nq-1) entries. By the variant: released `all`, paper `off_diagonal`."
    )
    chunk: int = Field(0, ge=0, description="Anchors at once in the angle term; 0: 1 on a CPU, 64 on a GPU. Changes no value.")


class Cbva(Section):
    """Cross-branch video alignment (docs/method.md 6.6; paper Eq. 5-10)."""

    weight: Weight = Field(0.1, description="Weight; 0 switches it off.")
    adaptive: bool = Field(True, description="Adaptive context count; false: one context per clip (naive CBVA).")
    projection: bool = Field(True, description="An extra linear layer for frames and clips. By the variant: released true, paper false.")
    similarity: Literal["dot", "cosine"] = Field("dot", description="By the variant: released `dot`, paper `cosine`.")
    normaliser: Literal["mean", "sum"] = Field(
        "mean", description="Means of exponentials over positives and negatives, or sums. By the variant: released `mean`, paper `sum`."
    )
    stop_gradient: bool = Field(True, description="Each direction trains one branch only. By the variant: released true, paper false.")
    epsilon: float = Field(1e-8, ge=0, description="Added to the frame-to-clip denominator. By the variant: released 1e-8, paper 0.")


class Vcp(Section):
    """Video correlation preservation, the paper's Table 2 alternative to CBVA (docs/method.md 6.8)."""

    weight: Weight = Field(0.0, description="Multiplies `tcpl.distance` and `tcpl.angle`, here between video rows; 0 switches it off.")
    rows: Literal["retrieved", "uniform"] = Field(
        "retrieved", description="The rows compared: of each query the best one of its video, or as many evenly spaced ones."
    )


class Objectives(Section):
    """What is minimised; a weight of 0 switches a term off."""

    nce: Nce = Nce()
    triplet: Triplet = Triplet()
    tcpl: Tcpl = Tcpl()
    cbva: Cbva = Cbva()
    vcp: Vcp = Vcp()


class Training(Section):
    """Optimiser, schedule, stopping (docs/method.md 7)."""

    epochs: PositiveInt = Field(100, description="Epochs at most.")
    batch_videos: PositiveInt = Field(128, description="Videos per batch, each with all its queries.")
    learning_rate: PositiveFloat = Field(2.5e-4, description="Peak learning rate.")
    weight_decay: Weight = Field(0.01, description="Decoupled weight decay; biases and input layer norms excepted.")
    warmup: Share = Field(0.01, description="Share of all steps spent warming up.")
    clip_norm: PositiveFloat = Field(1.0, description="Gradient norm limit of each parameter tensor.")
    patience: PositiveInt = Field(10, description="Epochs without a better SumR that are forgiven.")
    selection_split: Literal["train", "val", "test"] = Field(
        "val", description="Split whose SumR chooses the epoch. The field selects on the split it reports."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 uses autocast.")
    recompute: bool = Field(
        False, description="Compute the encoder's activations again in the backward pass: less memory, a third more work."
    )
    compile: bool = Field(False, description="torch.compile the model; worth it on a GPU, slower than the hand-written form on a CPU.")


class Evaluation(Section):
    """Ranking (docs/method.md 8)."""

    split: Literal["train", "val", "test"] = Field("test", description="Split that is reported.")
    clip_weight: Share = Field(0.4, description="Weight of the clip branch in the fused score.")
    frame_weight: Share = Field(0.6, description="Weight of the frame branch in the fused score.")

    @property
    def fusion(self) -> dict[str, float]:
        """The weights of the branches in the fused score."""
        return {"clip_weight": self.clip_weight, "frame_weight": self.frame_weight}


class Experiment(Section):
    """Everything that makes one trained model; `experiments` entries override parts of it."""

    variant: Literal["released", "paper"] = Field(
        "released", description="Which fills the values left out: the released code or the paper (docs/method.md 11)."
    )
    features: list[Name] = Field(..., min_length=1, description="Encoders whose rows are concatenated.")
    text: Name = Field(..., description="Encoder of the queries.")
    teacher: Name | None = Field(
        None, description="Text encoder whose sentence similarities TCPL preserves; by default `text`'s last token."
    )
    clips: Clips = Clips()
    model: Model = Model()
    objectives: Objectives = Objectives()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
