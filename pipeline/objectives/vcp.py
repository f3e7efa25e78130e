"""Video correlation preservation: TCPL's two terms on video rows, the alternative to CBVA in the paper's Table 2.

The paper names the two ways of choosing rows and no more; how a row is found and weighted is our reading (docs/method.md 6.8).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize


def retrieved(query: Tensor, frames: Tensor, labels: Tensor) -> Tensor:
    """For each query the row of its own video that it retrieves: the one of largest cosine. Shapes: [Q, H], [B, F, H], [Q] -> [Q] int64."""
    with torch.no_grad():
        cosine = torch.einsum("qh,qfh->qf", normalize(query, dim=-1), normalize(frames, dim=-1)[labels])
        return cosine.argmax(dim=1)


def spread(labels: Tensor, rows: int) -> Tensor:
    """As many evenly spaced rows of a video as it has queries: the k-th of m is floor((k + 1/2) rows / m). Shapes: [Q] -> [Q] int64."""
    same = labels[:, None] == labels
    before, queries = same.tril(diagonal=-1).sum(dim=1), same.sum(dim=1)
    return (2 * before + 1) * rows // (2 * queries)
