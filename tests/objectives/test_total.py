"""The whole objective: weights, what a model must provide, precision."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from pipeline.config.models import Msc
from pipeline.config.objectives import Cbva, Nce, Objectives, Tcpl, Triplet
from pipeline.core.errors import TrainingError
from pipeline.models.base import Dims, Retriever, Scores, Videos, Words
from pipeline.models.scores import max_similarity
from pipeline.objectives import cbva, tcpl
from pipeline.objectives.base import Step
from pipeline.objectives.nce import nce
from pipeline.objectives.total import Total, step_of
from pipeline.objectives.triplet import triplet

LABELS = torch.tensor([0, 0, 1, 2, 2, 2])


class Model(Retriever):
    """Gives what it is told, whatever it sees."""

    branches = ("clip", "frame")
    provides = frozenset({"query.pooled", "video.frames", "video.clips", "video.aligned_frames", "video.aligned_clips"})

    def __init__(self) -> None:
        super().__init__(Msc(), Dims(7, 5))


def fields(dtype: torch.dtype = torch.float64) -> Step:
    """A step on random tokens."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    query = {"pooled": noise(6, 8)}
    video = {"frames": noise(3, 16, 8), "clips": noise(3, 4, 8), "aligned_frames": noise(3, 16, 8), "aligned_clips": noise(3, 4, 8)}
    return Step(
        epoch=20,
        model=Model(),
        videos=Videos(
            frames=noise(3, 16, 7),
            clips=noise(3, 4, 7),
            sizes=torch.full((3, 4), 4.0, dtype=dtype),
            frame_to_clip=(torch.arange(16) // 4).expand(3, 16),
            context=torch.tensor([0, 1, 1, 0]).expand(3, 4),
        ),
        words=Words(noise(6, 3, 5), torch.ones(6, 3)),
        labels=LABELS,
        query=query,
        video=video,
        scores=scores(query, video),
        teacher=noise(6, 5),
        generator=torch.Generator().manual_seed(1),
    )


def scores(query: dict[str, torch.Tensor], video: dict[str, torch.Tensor]) -> dict[str, Scores]:
    return {branch: Scores(*max_similarity(query["pooled"], video[f"{branch}s"])) for branch in ("clip", "frame")}


def total(step: Step, **settings: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    return Total(Objectives(**settings))(step)


OFF: dict[str, Any] = {"tcpl": Tcpl(distance=0, angle=0), "cbva": Cbva(weight=0)}


def test_every_term_by_its_weight() -> None:
    step = fields()
    loss, terms = total(step)
    expected = {}
    generator = torch.Generator().manual_seed(1)
    for branch, weight in (("clip", 0.02), ("frame", 0.04)):
        expected[f"nce_{branch}"] = weight * nce(step.scores[branch].dot, LABELS)
        expected[f"triplet_{branch}"] = triplet(step.scores[branch].cosine, LABELS, 0.2, hard=True, pool=20, generator=generator)
    expected["tcpl_distance"] = 15 * tcpl.distance(step.query["pooled"], step.teacher)
    expected["tcpl_angle"] = 30 * tcpl.angle(step.query["pooled"], step.teacher)
    video, videos = step.video, step.videos
    expected["cbva"] = 0.1 * cbva.loss(video["aligned_frames"], video["aligned_clips"], videos.sizes, videos.frame_to_clip, videos.context)
    assert terms.keys() == expected.keys()
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(loss, sum(expected.values()))


def test_terms_of_weight_zero_are_left_out_and_need_nothing() -> None:
    bare = Total(Objectives(**OFF))
    assert bare.needs == frozenset()
    assert set(bare(fields())[1]) == {"nce_clip", "triplet_clip", "nce_frame", "triplet_frame"}
    assert set(total(fields(), **OFF, nce=Nce(clip=0))[1]) == {"triplet_clip", "nce_frame", "triplet_frame"}
    nothing = Total(Objectives(**OFF, nce=Nce(clip=0, frame=0), triplet=Triplet(weight=0)))
    with pytest.raises(TrainingError, match="weight 0"):
        nothing.check(Model(), teacher=True)


@pytest.mark.parametrize(
    ("missing", "objective"), [("query.pooled", "tcpl"), ("video.aligned_frames", "cbva"), ("video.aligned_clips", "cbva")]
)
def test_what_a_model_does_not_provide_is_named_before_the_first_step(missing: str, objective: str) -> None:
    model = Model()
    model.provides = Model.provides - {missing}  # type: ignore[misc]
    with pytest.raises(TrainingError, match=re.escape(f"objectives.{objective} needs {missing}")):
        Total(Objectives()).check(model, teacher=True)
    with pytest.raises(TrainingError, match=r"tcpl needs data\.teacher"):
        Total(Objectives()).check(Model(), teacher=False)
    Total(Objectives()).check(Model(), teacher=True)


def test_infonce_weighs_the_branches_of_the_model() -> None:
    model = Model()
    model.branches = ("whole",)  # type: ignore[misc]
    with pytest.raises(TrainingError, match="the branches of the model are whole"):
        Total(Objectives(**OFF)).check(model, teacher=True)
    with pytest.raises(TrainingError, match="weighs clip, frame, whale"):
        Total(Objectives(**OFF, nce=Nce.model_validate({"whale": 1.0}))).check(model, teacher=True)
    one = Total(Objectives(**OFF, nce=Nce.model_validate({"whole": 0.5})))
    one.check(model, teacher=True)
    step = fields()
    _, terms = one(step._replace(scores={"whole": step.scores["frame"]}))
    torch.testing.assert_close(terms["nce_whole"], 0.5 * nce(step.scores["frame"].dot, LABELS))
    assert set(terms) == {"nce_whole", "triplet_whole"}


def test_naive_cbva_needs_no_contexts() -> None:
    step = fields()
    _, terms = total(step, cbva=Cbva(adaptive=False))
    own = step._replace(videos=step.videos._replace(context=torch.arange(4).expand(3, 4)))
    torch.testing.assert_close(terms["cbva"], total(own)[1]["cbva"])


def test_half_precision_is_computed_in_float32() -> None:
    class Half(Model):
        def encode_videos(self, videos: Videos) -> dict[str, torch.Tensor]:
            return half.video

        def encode_queries(self, words: Words) -> dict[str, torch.Tensor]:
            return half.query

        def score(self, queries: Any, videos: Any, own: Any = None) -> dict[str, Scores]:
            return scores(queries, videos)

    half = fields(torch.bfloat16)
    step = step_of(Half(), half.videos, half.words, LABELS, half.teacher.float(), precision=torch.bfloat16)
    assert {value.dtype for value in (*step.query.values(), *step.video.values(), step.scores["clip"].dot)} == {torch.float32}
    full = {name: value.float() for name, value in half.video.items()}
    expected = total(step._replace(video=full, query={"pooled": half.query["pooled"].float()}, epoch=20))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        loss = total(step._replace(epoch=20))[0]
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    assert expected.dtype == torch.float32


def test_one_video_with_one_caption() -> None:
    step = fields()
    first = {name: value[:1].clone().requires_grad_() for name, value in {**step.query, **step.video}.items()}
    query, video = {"pooled": first.pop("pooled")}, first
    one = step._replace(
        videos=Videos(*(value[:1] for value in step.videos if value is not None)),
        labels=LABELS[:1],
        query=query,
        video=video,
        scores=scores(query, video),
        teacher=step.teacher[:1],
    )
    loss, _ = total(one)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(v.grad is None or torch.isfinite(v.grad).all() for v in (*query.values(), *video.values()))
