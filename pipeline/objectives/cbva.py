"""Cross-branch video alignment: a video's frame tokens and its contexts (merged clip tokens) find each other (paper Eq. 5-10).

Which clips make a context was decided once per video from frozen features (pipeline/clips/context.py), so the whole batch is a few
matrix products. Everything is in log space: no logit is too large.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.config.objectives import Cbva as Settings
from pipeline.config.objectives import Objectives
from pipeline.objectives.base import Objective, Step

NONE = float("-inf")


class Alignment(Objective):
    """The weighted contrast of frames and contexts; with `projection` both pass the model's shared linear layer first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.frames, self.clips = ("aligned_frames", "aligned_clips") if settings.projection else ("frames", "clips")
        self.needs = frozenset({f"video.{self.frames}", f"video.{self.clips}"})

    def __call__(self, step: Step) -> dict[str, Tensor]:
        settings, videos = self.settings, step.videos
        value = loss(
            step.video[self.frames],
            step.video[self.clips],
            videos.sizes,
            videos.frame_to_clip,
            videos.context if settings.adaptive else None,
            similarity=settings.similarity,
            normaliser=settings.normaliser,
            stop_gradient=settings.stop_gradient,
            epsilon=settings.epsilon,
        )
        return {"cbva": settings.weight * value}


def build(settings: Settings, among: Objectives) -> Alignment:
    """The objective of `objectives.cbva`."""
    return Alignment(settings)


def loss(
    frames: Tensor,
    clips: Tensor,
    sizes: Tensor,
    frame_to_clip: Tensor,
    context: Tensor | None = None,
    *,
    similarity: str = "dot",
    normaliser: str = "mean",
    stop_gradient: bool = True,
    epsilon: float = 1e-8,
) -> Tensor:
    """Mean over videos of the frame-to-context and the context-to-frame contrast.

    With p and n the means (`normaliser` "mean") or sums ("sum") of exp(similarity) over positives and negatives:
    -mean_frames log p/(p+n+epsilon) - mean_contexts log p/(p+n). With `stop_gradient` the first trains the frames only, the second
    the clips only. `epsilon` is relative to a frame's largest term.

    Shapes: `frames` [B, F, H] and `clips` [B, C, H] tokens, `sizes` [B, C] frames per clip, `frame_to_clip` [B, F], `context` [B, C]
    context of each clip (None: each clip its own, the naive form) -> scalar. Source: paper Eq. 5-6, docs/method.md 6.6.
    """
    contexts, exists = merge(clips, sizes, context)
    owner = frame_to_clip.long() if context is None else context.long().gather(1, frame_to_clip.long())
    if similarity == "cosine":
        frames, contexts = normalize(frames, dim=-1), normalize(contexts, dim=-1)
    # Both directions see the same numbers; only what is trained differs.
    for_frames = frames @ (contexts.detach() if stop_gradient else contexts).mT
    for_contexts = frames.detach() @ contexts.mT if stop_gradient else for_frames
    own = owner[:, :, None] == torch.arange(contexts.shape[1], device=owner.device)
    return (
        _frames_to_contexts(for_frames, own, exists, normaliser, epsilon) + _contexts_to_frames(for_contexts, own, exists, normaliser)
    ).mean()


def merge(clips: Tensor, sizes: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """Size-weighted means of the clips of each context, and which contexts exist.

    Contexts are numbered from 0 and padded to the number of clips, so that no size has to be read back from the device.

    Shapes: `clips` [B, C, H], `sizes` [B, C], `context` [B, C] -> [B, C, H] (zero rows where none), bool [B, C] (docs/method.md 4.3).
    """
    if context is None:
        return clips, torch.ones(clips.shape[:2], dtype=torch.bool, device=clips.device)
    member = context.long()[:, None, :] == torch.arange(clips.shape[1], device=clips.device)[:, None]  # [B, context, clip]
    weights = member * sizes.to(clips.dtype)[:, None, :]
    return (weights / weights.sum(dim=2, keepdim=True).clamp_min(torch.finfo(clips.dtype).tiny)) @ clips, member.any(dim=2)


def _frames_to_contexts(logits: Tensor, own: Tensor, exists: Tensor, normaliser: str, epsilon: float) -> Tensor:
    """Each frame picks its context. Shapes: `logits`, `own` [B, F, C], `exists` [B, C] -> [B]."""
    positive = logits.masked_fill(~own, 0.0).sum(dim=2)
    negative = logits.masked_fill(own | ~exists[:, None], NONE).logsumexp(dim=2)
    if normaliser == "mean":
        negative = negative - (exists.sum(dim=1, keepdim=True) - 1).clamp_min(1).to(logits.dtype).log()
    both = torch.logaddexp(positive, negative)
    if epsilon:
        largest = logits.detach().masked_fill(~exists[:, None], NONE).amax(dim=2)
        both = torch.logaddexp(both, largest + math.log(epsilon))
    return (both - positive).mean(dim=1)


def _contexts_to_frames(logits: Tensor, own: Tensor, exists: Tensor, normaliser: str) -> Tensor:
    """Each context picks its frames. Shapes: `logits`, `own` [B, F, C], `exists` [B, C] -> [B]."""
    positive, negative = logits.masked_fill(~own, NONE).logsumexp(dim=1), logits.masked_fill(own, NONE).logsumexp(dim=1)
    if normaliser == "mean":
        members = own.sum(dim=1)
        positive = positive - members.clamp_min(1).to(logits.dtype).log()
        negative = negative - (own.shape[1] - members).clamp_min(1).to(logits.dtype).log()
    missed = torch.where(exists, torch.logaddexp(positive, negative) - positive, 0.0)
    return missed.sum(dim=1) / exists.sum(dim=1)
