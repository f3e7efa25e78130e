"""The settings of the objectives, ours and one's own. No torch here: every job of a cluster reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PositiveInt
from pydantic_core import PydanticCustomError

from pipeline.config.base import Section, Weight, Weighted, plugged
from pipeline.config.method_objectives import Distillation, Entailment, OptimalMatching, QueryDiversity, Ral, Relations, SoftNce, Spans


class Nce(Section):
    """Symmetric multi-positive InfoNCE on dot products (docs/method.md 6.2); for a model with other branches, `<branch>: weight`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Weight] = Field(init=False)

    clip: Weight = Field(0.02, description="Weight on the clip branch (.05 TVR, .02 others). By the variant: released .02, paper 1.")
    frame: Weight = Field(0.04, description="Weight on the frame branch. By the variant: released .04, paper 1.")

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each branch."""
        return {"clip": self.clip, "frame": self.frame, **(self.__pydantic_extra__ or {})}

    @property
    def total(self) -> float:
        """The sum of its weights; 0: switched off."""
        return sum(self.weights.values())


class Triplet(Weighted):
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

    @property
    def total(self) -> float:
        """The sum of its weights; 0: switched off."""
        return self.distance + self.angle


class Cbva(Weighted):
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


class Vcp(Weighted):
    """Video correlation preservation, the paper's Table 2 alternative to CBVA (docs/method.md 6.8)."""

    weight: Weight = Field(0.0, description="Multiplies `tcpl.distance` and `tcpl.angle`, here between video rows; 0 switches it off.")
    rows: Literal["retrieved", "uniform"] = Field(
        "retrieved", description="The rows compared: of each query the best one of its video, or as many evenly spaced ones."
    )


class ObjectiveSettings(Weighted):
    """An objective of one's own; its settings derive from this (docs/extending.md)."""

    kind: str = Field(description="The dotted name of a module of your own, e.g. `my_package.my_objective`.")


def _own(value: Any) -> Any:
    """Keys of `objectives` that are not ours are objectives of one's own, and those have a kind with a dot in it."""
    if not isinstance(value, ObjectiveSettings) and not (isinstance(value, dict) and "." in str(value.get("kind"))):
        raise PydanticCustomError("extra_forbidden", "Extra inputs are not permitted")
    return value


if TYPE_CHECKING:
    OwnObjective = ObjectiveSettings
else:
    OwnObjective = Annotated[plugged("objectives", ObjectiveSettings), BeforeValidator(_own)]


class Objectives(Section):
    """What is minimised; a weight of 0 switches a term off. Further keys are objectives of your own: `<name>: {kind: package.module}`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, OwnObjective] = Field(init=False)

    nce: Nce = Nce()
    triplet: Triplet = Triplet()
    tcpl: Tcpl = Tcpl()
    vcp: Vcp = Vcp()
    cbva: Cbva = Cbva()
    query_diversity: QueryDiversity = QueryDiversity()
    optimal_matching: OptimalMatching = OptimalMatching()
    entailment: Entailment = Entailment()
    ral: Ral = Ral()
    distillation: Distillation = Distillation()
    soft_nce: SoftNce = SoftNce()
    spans: Spans = Spans()
    relations: Relations = Relations()

    @property
    def own(self) -> dict[str, ObjectiveSettings]:
        """The user's objectives by name."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def active(self) -> dict[str, str]:
        """The objectives that are switched on, in the order they are computed: name -> kind."""
        ours = {name: name for name in type(self).model_fields if getattr(self, name).total}
        return {**ours, **{name: settings.kind for name, settings in self.own.items() if settings.total}}

    @property
    def hard_from(self) -> int | None:
        """The first epoch, counted from 1, whose triplets have hard negatives; None without triplets."""
        return self.triplet.hard_start_epoch + 1 if self.triplet.total else None

    @property
    def reads_teacher_frames(self) -> bool:
        """Whether one that is switched on needs an encoder of images and sentences beside the features."""
        return any(getattr(self.own.get(name) or getattr(self, name), "reads_teacher_frames", False) for name in self.active)
