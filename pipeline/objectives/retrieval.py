"""The retrieval losses: InfoNCE with several positives per video, and the triplet ranking loss."""

from __future__ import annotations

import torch
from torch import Tensor


def nce(dot: Tensor, labels: Tensor) -> Tensor:
    """Symmetric InfoNCE: each query against all videos, each video against all queries with its own ones as joint positives.

    mean_q[lse_v S_qv - S_q,y(q)] + mean_v[lse_q S_qv - lse_{q of v} S_qv]; videos no query belongs to are only negatives.

    Shapes: `dot` [Q, B] un-normalised scores S, `labels` [Q] index of each query's video -> scalar. Source: docs/method.md 6.2.
    """
    own = _own(labels, dot.shape[1])
    asked = own.any(dim=0)
    text_to_video = dot.logsumexp(dim=1) - dot.gather(1, labels[:, None]).squeeze(1)
    # The fill is finite, so a video without a query yields a finite value, which is then left out.
    positives = dot.masked_fill(~own, torch.finfo(dot.dtype).min / 2).logsumexp(dim=0)
    video_to_text = torch.where(asked, dot.logsumexp(dim=0) - positives, 0.0)
    return text_to_video.mean() + video_to_text.sum() / asked.sum()


def triplet(
    cosine: Tensor, labels: Tensor, margin: float = 0.2, *, hard: bool = False, pool: int = 20, generator: torch.Generator | None = None
) -> Tensor:
    """Triplet ranking loss in both directions.

    A video's positive is the mean of its queries; its negative a random other query, or the hardest one with `hard`. A query's
    negative is a random other video, or a random one of the `pool` hardest with `hard`. Zero when there is no other video.

    Shapes: `cosine` [Q, B], `labels` [Q] -> scalar. `generator` draws the negatives (on its own device). Source: docs/method.md 6.3.
    """
    videos = cosine.shape[1]
    if videos == 1:
        return cosine.sum() * 0.0
    own = _own(labels, videos)
    asked = own.any(dim=0)
    positive = (cosine * own).sum(dim=0) / own.sum(dim=0).clamp_min(1)
    others = cosine.masked_fill(own, float("-inf"))
    if hard:
        query_negative = others.max(dim=0).values
        nearest = others.topk(min(pool, videos - 1), dim=1).values
        video_negative = nearest.gather(1, _draw(nearest.shape[1], cosine, generator)[:, None]).squeeze(1)
    else:
        lottery = _uniform(cosine.shape, cosine.device, generator).masked_fill(own, -1.0)
        query_negative = others.gather(0, lottery.argmax(dim=0)[None]).squeeze(0)
        draw = _draw(videos - 1, cosine, generator)
        video_negative = cosine.gather(1, (draw + (draw >= labels))[:, None]).squeeze(1)
    video_to_text = torch.where(asked, (margin + query_negative - positive).clamp_min(0), 0.0)
    text_to_video = (margin + video_negative - cosine.gather(1, labels[:, None]).squeeze(1)).clamp_min(0)
    return video_to_text.sum() / asked.sum() + text_to_video.mean()


def _own(labels: Tensor, videos: int) -> Tensor:
    """Which query belongs to which video. Shapes: [Q] -> bool [Q, B]."""
    return labels[:, None] == torch.arange(videos, device=labels.device)


def _uniform(shape: torch.Size, device: torch.device, generator: torch.Generator | None) -> Tensor:
    return torch.rand(shape, generator=generator, device=generator.device if generator is not None else device).to(device)


def _draw(count: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """One random index below `count` for every row of `like`."""
    return (_uniform(like.shape[:1], like.device, generator) * count).long().clamp_max(count - 1)
