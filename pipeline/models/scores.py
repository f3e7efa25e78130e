"""Scores between queries and tokens: the best token of a video, as a dot product and as a cosine; every token of one video."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def pooled_similarity(query: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """The cosine and the dot product of every query with every video's one vector.

    Shapes: `query` [Q, H], `vectors` [B, H] -> cosine [Q, B], dot [Q, B].
    """
    products = query @ vectors.T
    norms = query.norm(dim=-1, keepdim=True).clamp_min(TINY) * vectors.norm(dim=-1).clamp_min(TINY)
    return products / norms, products


def max_cosine(queries: Tensor, tokens: Tensor, *, query_chunk: int = 2048, video_chunk: int = 32) -> Tensor:
    """The best cosine of each query over each video's tokens, without gradients.

    Shapes: `queries` [Q, H] (any length), `tokens` [V, L, H] of unit length; returns [Q, V]. Memory: query_chunk x video_chunk x L floats.
    Source: docs/method.md 8.1.
    """
    queries = F.normalize(queries, dim=-1)
    videos, length, hidden = tokens.shape
    best = torch.empty(len(queries), videos, dtype=queries.dtype, device=queries.device)
    for first in range(0, videos, video_chunk):
        flat = tokens[first : first + video_chunk].reshape(-1, hidden).T
        for start in range(0, len(queries), query_chunk):
            similarity = queries[start : start + query_chunk] @ flat
            best[start : start + query_chunk, first : first + video_chunk] = similarity.unflatten(1, (-1, length)).amax(-1)
    return best


def token_cosines(queries: Tensor, tokens: Tensor) -> Tensor:
    """The cosine of each query with every token of the video paired with it.

    Shapes: `queries` [n, H], `tokens` [n, L, H] of unit length; returns [n, L].
    """
    return torch.einsum("qh,qlh->ql", F.normalize(queries, dim=-1), tokens)
