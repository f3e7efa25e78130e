"""The Gaussian mixture block: eight attention layers of different widths, weighed position by position (METHODS 4b, 6.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.model import kernels
from pipeline.model.layers import Attention, FeedForward, gaussian_window


class EncoderLayer(nn.Module):
    """Gaussian attention, then a feed-forward part, each with dropout, residual and LayerNorm after it.

    Shapes: `tokens` [B, L, H]; `window` [L, L] or None; `bias` [B, L] or None, added to every key's logit; returns [B, L, H].
    Source: METHODS 1.2 (EncoderLayer-B).
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.norm1 = nn.LayerNorm(hidden)
        self.feed_forward = FeedForward(hidden, 4 * hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.dropout = dropout

    def forward(self, tokens: Tensor, window: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        attended = self.attention(tokens, window, bias, self.dropout)
        tokens = self.norm1(tokens + kernels.dropout(attended, self.dropout, self.training))
        changed = self.feed_forward(tokens, self.dropout)
        return self.norm2(tokens + kernels.dropout(changed, self.dropout, self.training))


class TemporalConsolidation(nn.Module):
    """Weighs the branches at every position by what one learned token reads from each of them.

    The token attends to each branch's whole output; a small network turns what it read into one logit per position, and a softmax over the
    branches gives the weights. The token is the same for every video, so its query is folded into the key projection and the value projection
    is applied after the sum: per branch a product of [L, H] with [H, heads] replaces two of [L, H] with [H, H]. The key bias shifts
    all logits of a head alike and has no effect; it stays a parameter because released checkpoints hold it.

    Shapes: `branches` K tensors [B, L, H], `token` [1, 1, H]; returns [B, L, H]. Source: METHODS 4b, 6.9.
    """

    def __init__(self, hidden: int, heads: int, length: int, temperature: float, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.norm1 = nn.LayerNorm(hidden)
        self.feed_forward = FeedForward(hidden, hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.hidden = nn.Linear(hidden, hidden)
        self.logits = nn.Linear(hidden, length)
        self.temperature, self.dropout = temperature, dropout

    def read(self, branches: Sequence[Tensor], token: Tensor) -> Tensor:
        """What the token reads from each branch. Shapes: K tensors [B, L, H], token [1, 1, H] -> [B, K, H]."""
        attention, heads = self.attention, self.attention.heads
        query = F.linear(token.flatten(), attention.query.weight, attention.query.bias).view(heads, -1)
        folded = torch.einsum("nd,ndh->nh", query, attention.key.weight.unflatten(0, (heads, -1))) / math.sqrt(query.shape[1])
        shift = (query * attention.key.bias.view(heads, -1)).sum(1) / math.sqrt(query.shape[1])
        means, shares = [], []
        for branch in branches:
            logits = (F.linear(branch, folded) + shift).transpose(1, 2)
            weights = kernels.dropout(logits.float().softmax(-1), self.dropout, self.training).to(branch.dtype)
            means.append(weights @ branch)
            shares.append(weights.sum(-1))
        mean, share = torch.stack(means, 1), torch.stack(shares, 1)  # [B, K, heads, H], [B, K, heads]
        value = torch.einsum("bknh,ndh->bknd", mean, attention.value.weight.unflatten(0, (heads, -1)))
        value = value + share[..., None] * attention.value.bias.view(heads, -1)
        read = self.norm1(token + kernels.dropout(value.flatten(2), self.dropout, self.training))
        return self.norm2(read + kernels.dropout(self.feed_forward(read, self.dropout), self.dropout, self.training))

    def forward(self, branches: Sequence[Tensor], token: Tensor) -> Tensor:
        inner = kernels.dropout(F.relu(self.hidden(self.read(branches, token))), self.dropout, self.training)
        weights = (self.logits(inner).float() / self.temperature).softmax(1).to(branches[0].dtype)  # [B, K, L]
        return sum_weighted(branches, weights)


def sum_weighted(branches: Sequence[Tensor], weights: Tensor) -> Tensor:
    """sum_k weights[:, k, :, None] * branches[k]. Shapes: K tensors [B, L, H], [B, K, L] -> [B, L, H]."""
    total = branches[0] * weights[:, 0, :, None]
    for k in range(1, len(branches)):
        total = total + branches[k] * weights[:, k, :, None]
    return total


class GaussianMixtureBlock(nn.Module):
    """One encoder layer per Gaussian width on the same tokens, brought together by temporal consolidation.

    Shapes: `tokens` [B, L, H] with L = `length`, `token` [1, 1, H], `sizes` [B, L] or None; returns [B, L, H].
    With `sizes`, every branch adds log size to the logits of its keys (proportional attention). Source: METHODS 4b, 6.3.
    """

    def __init__(self, hidden: int, heads: int, widths: Sequence[float | None], length: int, temperature: float, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(hidden, heads, dropout) for _ in widths)
        self.consolidation = TemporalConsolidation(hidden, heads, length, temperature, dropout)
        self.plain = [width is None for width in widths]
        self.register_buffer("windows", torch.stack([gaussian_window(length, width) for width in widths]), persistent=False)

    def forward(self, tokens: Tensor, token: Tensor, sizes: Tensor | None = None) -> Tensor:
        bias = None if sizes is None else sizes.float().log()
        windows = [None if plain else window for plain, window in zip(self.plain, self.windows, strict=True)]
        return self.consolidation([layer(tokens, window, bias) for layer, window in zip(self.layers, windows, strict=True)], token)
