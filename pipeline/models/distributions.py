"""A set of tokens as a Gaussian: what RAL describes a video, and all its queries together, by in training (docs/methods.md, RAL)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NONE = float("-inf")
LIMIT = 10.0  # of log sigma, whose exponentials are multiplied by each other; at the start it is about 0


class Gaussian(NamedTuple):
    """Distributions with a spread of their own in every dimension. Shapes: `mean`, `log_sigma` [V, H]."""

    mean: Tensor
    log_sigma: Tensor

    def proxies(self, noise: Tensor) -> Tensor:
        """Samples mean + sigma * noise. Shapes: `noise` [V, K, H] -> same. Source: docs/methods.md, RAL 3."""
        return self.mean[:, None] + self.log_sigma.exp()[:, None] * noise


class Tokens(NamedTuple):
    """The tokens of V sets, each a set of rows of one or several sequences.

    Shapes: `rows` [N, L, H]; `mask` [N, L], 1 = token; `owner` [N] int64 the set of a sequence; `sets` their number; `empty` [V] zero rows
    that take part beside them (the rest of a buffer of fixed size), or None.
    """

    rows: Tensor
    mask: Tensor
    owner: Tensor
    sets: int
    empty: Tensor | None = None


class SetAttention(nn.Module):
    """One vector a set: softmax(w2 tanh(W1 x)) over all its rows, padding and empty rows included, as the released code has it.

    Shapes: `Tokens` -> [V, H]. Source: docs/methods.md, RAL 3.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(hidden, hidden // 2, bias=False)
        self.contract = nn.Linear(hidden // 2, 1, bias=False)

    def forward(self, tokens: Tokens, masked: bool) -> Tensor:
        """`masked`: only tokens take part."""
        rows, owner = tokens.rows, tokens.owner
        logits = self.contract(self.expand(rows).tanh()).squeeze(-1)
        if masked:
            logits = logits.masked_fill(tokens.mask == 0, NONE)
        # An empty row has the logit 0 and adds nothing to the sum but its share of the denominator.
        peak = logits.new_zeros(tokens.sets).scatter_reduce(0, owner, logits.detach().amax(1), "amax", include_self=not masked)
        weights = (logits - peak[owner, None]).exp()
        total = peak.new_zeros(tokens.sets).index_add(0, owner, weights.sum(1))
        if tokens.empty is not None and not masked:
            total = total + tokens.empty * (-peak).exp()
        summed = rows.new_zeros(tokens.sets, rows.shape[-1]).index_add(0, owner, torch.einsum("nl,nlh->nh", weights, rows))
        return summed / total.clamp_min(torch.finfo(total.dtype).tiny)[:, None]


class GaussianHead(nn.Module):
    """A mean of unit length and a log standard deviation, each from a vector of the whole set and one that is attended to.

    mean = L2(LayerNorm(whole + sigmoid(Linear(attended)))); log sigma = Linear(attended') + Linear(whole).

    Shapes: `whole` [V, H], `Tokens` of V sets -> `Gaussian` [V, H]. Source: docs/methods.md, RAL 3 (golden ral/head_*).
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.mean_attention = SetAttention(hidden)
        self.mean = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.spread_attention = SetAttention(hidden)
        self.spread_attended = nn.Linear(hidden, hidden)
        self.spread_whole = nn.Linear(hidden, hidden)

    def forward(self, whole: Tensor, tokens: Tokens, masked: bool) -> Gaussian:
        mean = self.norm(whole + self.mean(self.mean_attention(tokens, masked)).sigmoid())
        spread = self.spread_attended(self.spread_attention(tokens, masked)) + self.spread_whole(whole)
        spread = spread - (spread - spread.clamp(-LIMIT, LIMIT)).detach()  # with a gradient that still leads back
        return Gaussian(F.normalize(mean, dim=-1), spread)


def of_frames(frames: Tensor, real: Tensor) -> tuple[Tensor, Tokens]:
    """A video's whole vector, the unit mean of its unit frames, and its tokens. Shapes: [V, F, H], [V, F] -> [V, H] and `Tokens`."""
    unit = F.normalize(frames, dim=-1)
    mean = (unit * real[..., None]).sum(1) / real.sum(1, keepdim=True).clamp_min(1)
    return F.normalize(mean, dim=-1), Tokens(frames, real, torch.arange(len(frames), device=frames.device), len(frames))


def of_queries(words: Tensor, mask: Tensor, labels: Tensor, videos: int, buffer: int) -> tuple[Tensor, Tokens]:
    """What all queries of a video say together: the mean of their words, and these words.

    The released code copies them into a buffer of `buffer` queries; what is left of it are zero rows. A video of more queries has none.

    Shapes: `words` [Q, L, H], `mask` [Q, L], `labels` [Q] -> [V, H] and `Tokens`. Source: docs/methods.md, RAL 3 (golden ral/d_support).
    """
    total = words.new_zeros(videos, words.shape[-1]).index_add(0, labels, torch.einsum("ql,qlh->qh", mask, words))
    count = mask.new_zeros(videos).index_add(0, labels, mask.sum(1))
    queries = torch.bincount(labels, minlength=videos)
    empty = ((buffer - queries).clamp_min(0) * words.shape[1]).to(words.dtype)
    return total / count.clamp_min(1)[:, None], Tokens(words, mask, labels, videos, empty)
