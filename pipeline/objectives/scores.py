"""Query-to-video scores: the best token of a video, as a dot product (for InfoNCE) and as a cosine (for the triplet and the ranking)."""

from __future__ import annotations

from torch import Tensor

TINY = 1e-12  # smallest norm divided by: a zero row scores 0


def max_similarity(query: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The largest cosine and the largest dot product of every query with every video's tokens (not always of the same token).

    Shapes: `query` [Q, H], `tokens` [B, L, H] -> cosine [Q, B], dot [Q, B]. Source: docs/method.md 6.1.
    """
    videos, length, width = tokens.shape
    # One product serves both scores; dividing it by the norms is Q*B*L divisions instead of a second product over H.
    products = (query @ tokens.reshape(videos * length, width).T).view(-1, videos, length)
    cosines = products / tokens.norm(dim=-1).clamp_min(TINY)
    cosine = cosines.max(dim=-1).values / query.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return cosine, products.max(dim=-1).values
