"""What makes one trained model: clips, network, objectives, training, evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from pipeline.config.base import Name, Place, Section, Share, Weight
from pipeline.config.models import Model, Msc
from pipeline.config.objectives import Objectives
from pipeline.core import plugins
from pipeline.core.errors import ConfigError


class Clips(Section):
    """From feature rows to 128 frames, 32 clips and their contexts, per video (docs/method.md 2-4; paper Eq. 7-9, Algorithms 1-3)."""

    frames: PositiveInt = Field(128, description="Pooled frame rows per video.")
    clips: int = Field(32, ge=1, le=256, description="Clips per video.")
    window: float | None = Field(
        None,
        gt=0,
        description="Seconds. Longer videos become windows of this length, half overlapping, each with `frames` and `clips` of its own and "
        "ranked by itself; a video scores as its best window. null: a video is one, however long.",
    )
    frame_rows: Literal["fixed", "capped"] = Field(
        "fixed",
        description="`fixed`: every video has `frames` rows, a short one repeats its own. "
        "`capped`: a short video keeps its rows, and is padded with zeros that a mask tells apart.",
    )
    method: Literal["op_tome", "uniform", "rows"] = Field(
        "op_tome",
        description="Order-preserving token merging; equal parts of the pooled frames (ablation); "
        "or means of the feature rows themselves, as all methods before MSC.",
    )
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
        if self.frame_rows == "capped" and self.method != "rows":
            raise ValueError(f"method {self.method} merges a fixed number of frames: frame_rows: capped goes with method: rows")
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
    threads: PositiveInt = Field(
        1, description="CPU threads that compute one training. Part of the result: each count adds up in another order."
    )
    compile: bool = Field(False, description="torch.compile the model; worth it on a GPU, slower than the hand-written form on a CPU.")


class Evaluation(Section):
    """Ranking (docs/method.md 8)."""

    split: Literal["train", "val", "test"] = Field("test", description="Split that is reported.")
    clip_weight: Share = Field(0.4, description="Weight of the clip branch in the fused score.")
    frame_weight: Share = Field(0.6, description="Weight of the frame branch in the fused score.")

    weights: dict[Name, Share] | None = Field(
        None, description="Weights by branch, for a model whose branches are not clip and frame; null: all branches of such a model alike."
    )

    relevance: Place | None = Field(
        None,
        description="File of the videos that answer each query beside its own: TREC qrels, or JSON lines "
        '`{"query_id", "gt_video_ids"}`; `generated`: the truth of the generated world. Adds measures beside R@K (docs/datasets.md).',
    )

    def fusion(self, branches: Sequence[str]) -> dict[str, float]:
        """The weight of each of a model's branches in the fused score. Errors: ConfigError for a branch the model does not have."""
        known = {"clip": self.clip_weight, "frame": self.frame_weight} if set(branches) == {"clip", "frame"} else {}
        given = self.weights if self.weights is not None else known or dict.fromkeys(branches, 1 / len(branches))
        if set(given) != set(branches):
            raise ConfigError(
                f"evaluation.weights names {', '.join(given)}; the branches of the model are {', '.join(branches)}",
                where="evaluation.weights",
                fix="give each of these a weight",
            )
        return {branch: given[branch] for branch in branches}


class Experiment(Section):
    """Everything that makes one trained model; `experiments` entries override parts of it."""

    variant: Literal["released", "paper"] = Field(
        "released", description="Which fills the values left out: the released code or the paper (docs/method.md 11)."
    )
    features: list[Name] = Field(..., min_length=1, description="Encoders whose rows are concatenated.")
    text: Name = Field(..., description="Encoder of the queries.")
    teacher: Name | None = Field(
        None,
        description="Text encoder whose sentence similarities TCPL preserves, by default `text`'s last token; "
        "for DL-DKD the encoder of images and sentences it learns from, by default `text`.",
    )
    clips: Clips = Clips()
    model: Model = Msc()
    objectives: Objectives = Objectives()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _padding(self) -> Experiment:
        if self.clips.frame_rows == "capped" and not self.model.reads_mask:
            raise ValueError(f"clips.frame_rows: capped pads short videos, which a model of kind {self.model.kind} takes for frames")
        return self

    @property
    def frame_teacher(self) -> str | None:
        """The encoder whose rows and sentences an objective learns from; None where none does."""
        return (self.teacher or self.text) if self.objectives.reads_teacher_frames else None

    @property
    def encoders(self) -> list[str]:
        """The encoders whose rows it needs: its features', and those of its teacher of frames."""
        return list(dict.fromkeys([*self.features, *([self.frame_teacher] if self.frame_teacher else [])]))

    @property
    def teaching(self) -> Experiment | None:
        """Itself with the rows of its teacher of frames for features, which are pooled as its own are; None without such a teacher."""
        return self.model_copy(update={"features": [self.frame_teacher]}) if self.frame_teacher else None

    @property
    def model_code(self) -> tuple[str, ...]:
        """The modules of the model, which are loaded by name."""
        return tuple(plugins.module_of("models", kind) for kind in self.model.kinds)

    @property
    def code(self) -> list[str]:
        """Every module a training of this experiment loads by name: its model's, and those of the objectives that are switched on."""
        return [*self.model_code, *(plugins.module_of("objectives", kind) for kind in self.objectives.active.values())]
