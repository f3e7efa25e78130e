"""Scores between queries and tokens: the best token of a video, as a dot product and as a cosine; every token of one video."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-12  # smallest norm divided by: a zero row scores 0
NEVER = -1e10  # product with padding; finite, because its gradient of 0 is multiplied with it


def max_similarity(query: Tensor, tokens: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The largest cosine and the largest dot product of every query with every video's tokens (not always of the same token).

    Shapes: `query` [Q, H], `tokens` [B, L, H], `mask` [B, L], 0 = never the best (None: all may be) -> cosine [Q, B], dot [Q, B].
    Source: docs/method.md 6.1.
    """
    videos, length, width = tokens.shape
    # One product serves both scores; dividing it by the norms is Q*B*L divisions instead of a second product over H.
    products = (query @ tokens.reshape(videos * length, width).T).view(-1, videos, length)
    if mask is not None:
        products = products.masked_fill(mask == 0, NEVER)
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


def max_dot(queries: Tensor, tokens: Tensor, mask: Tensor | None = None, *, query_chunk: int = 2048, video_chunk: int = 32) -> Tensor:
    """The best dot product of each query over each video's tokens, for ranking: in chunks.

    Shapes: `queries` [Q, H], `tokens` [V, L, H], `mask` [V, L], 0 = never the best (None: all may be); returns [Q, V].
    Memory: query_chunk x video_chunk x L floats.
    """
    videos, length, hidden = tokens.shape
    best = torch.empty(len(queries), videos, dtype=queries.dtype, device=queries.device)
    for first in range(0, videos, video_chunk):
        chosen = slice(first, first + video_chunk)
        flat = tokens[chosen].reshape(-1, hidden).T
        for start in range(0, len(queries), query_chunk):
            products = (queries[start : start + query_chunk] @ flat).unflatten(1, (-1, length))
            if mask is not None:
                products.masked_fill_(mask[chosen] == 0, NEVER)
            best[start : start + query_chunk, chosen] = products.amax(-1)
    return best


def max_cosine(queries: Tensor, tokens: Tensor, mask: Tensor | None = None, *, query_chunk: int = 2048, video_chunk: int = 32) -> Tensor:
    """The best cosine of each query over each video's tokens, for ranking: in chunks.

    Shapes: `queries` [Q, H] (any length), `tokens` [V, L, H] of unit length, `mask` [V, L] as in `max_dot`; returns [Q, V].
    Source: docs/method.md 8.1.
    """
    return max_dot(F.normalize(queries, dim=-1), tokens, mask, query_chunk=query_chunk, video_chunk=video_chunk)


def token_cosines(queries: Tensor, tokens: Tensor) -> Tensor:
    """The cosine of each query with every token of the video paired with it.

    Shapes: `queries` [n, H], `tokens` [n, L, H] of unit length; returns [n, L].
    """
    return torch.einsum("qh,qlh->ql", F.normalize(queries, dim=-1), tokens)
