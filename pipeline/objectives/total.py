"""The whole objective: every term by its weight."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.method import Objectives, Tcpl
from pipeline.objectives import cbva, retrieval, tcpl, vcp
from pipeline.objectives.scores import max_similarity


def total(
    settings: Objectives,
    *,
    query: Tensor,
    frames: Tensor,
    clips: Tensor,
    labels: Tensor,
    teacher: Tensor | None = None,
    aligned_frames: Tensor | None = None,
    aligned_clips: Tensor | None = None,
    sizes: Tensor | None = None,
    frame_to_clip: Tensor | None = None,
    context: Tensor | None = None,
    frozen_frames: Tensor | None = None,
    hard: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch and its weighted, detached terms (they sum to it); a term of weight 0 is not computed and not listed.

    Shapes: `query` [Q, H]; `frames` [B, F, H], `clips` [B, C, H] encoded tokens; `labels` [Q] the query's video; `teacher` [Q, T] frozen
    sentence vectors (TCPL); `aligned_frames`, `aligned_clips` what CBVA compares: the tokens, after the shared layer where
    `objectives.cbva.projection`; `sizes` [B, C], `frame_to_clip` [B, F], `context` [B, C] of the clips stage;
    `frozen_frames` [B, F, D] what `frames` were encoded from (VCP). `hard`: hard negatives.
    ValueError names a field that a switched-on term needs and did not get. Source: docs/method.md 6.7.
    """
    terms: dict[str, Tensor] = {}
    # Sums of exponentials and differences of distances need float32, whatever the encoder computed in.
    with torch.autocast(query.device.type, enabled=False):
        query = _full(query)
        nce, triplet = settings.nce, settings.triplet
        for branch, tokens, weight in (("clip", clips, nce.clip), ("frame", frames, nce.frame)):
            if not weight and not triplet.weight:
                continue
            cosine, dot = max_similarity(query, _full(tokens))
            if weight:
                terms[f"nce_{branch}"] = weight * retrieval.nce(dot, labels)
            if triplet.weight:
                value = retrieval.triplet(cosine, labels, triplet.margin, hard=hard, pool=triplet.hard_pool, generator=generator)
                terms[f"triplet_{branch}"] = triplet.weight * value
        if settings.tcpl.distance or settings.tcpl.angle:
            terms |= _relations("tcpl", settings.tcpl, 1.0, query, _full(_given(teacher=teacher)))
        if settings.vcp.weight:
            if not (settings.tcpl.distance or settings.tcpl.angle):
                raise ValueError("vcp.weight multiplies tcpl.distance and tcpl.angle, which are both 0")
            chosen = (
                vcp.retrieved(query, _full(frames), labels) if settings.vcp.rows == "retrieved" else vcp.spread(labels, frames.shape[1])
            )
            taught = _full(_given(frozen_frames=frozen_frames))[labels, chosen]
            terms |= _relations("vcp", settings.tcpl, settings.vcp.weight, _full(frames[labels, chosen]), taught)
        if settings.cbva.weight:
            terms["cbva"] = settings.cbva.weight * cbva.loss(
                _full(_given(aligned_frames=aligned_frames)),
                _full(_given(aligned_clips=aligned_clips)),
                _given(sizes=sizes),
                _given(frame_to_clip=frame_to_clip),
                _given(context=context) if settings.cbva.adaptive else None,
                similarity=settings.cbva.similarity,
                normaliser=settings.cbva.normaliser,
                stop_gradient=settings.cbva.stop_gradient,
                epsilon=settings.cbva.epsilon,
            )
    if not terms:
        raise ValueError("every objective has weight 0: there is nothing to train")
    return torch.stack(list(terms.values())).sum(), {name: value.detach() for name, value in terms.items()}


def _relations(name: str, settings: Tcpl, factor: float, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """The weighted distance and angle terms that are switched on."""
    terms = {}
    if settings.distance:
        terms[f"{name}_distance"] = factor * settings.distance * tcpl.distance(student, teacher, settings.normaliser)
    if settings.angle:
        terms[f"{name}_angle"] = factor * settings.angle * tcpl.angle(student, teacher, settings.chunk)
    return terms


def _full(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _given(**field: Tensor | None) -> Tensor:
    ((name, value),) = field.items()
    if value is None:
        raise ValueError(f"an objective that is switched on needs `{name}`")
    return value
