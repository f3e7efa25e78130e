"""The elementary layers of the dual-branch encoder (docs/method.md 5): projections, positions, Gaussian attention, pooling."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.cpu import kernels

MASKED = -1e4  # added to the logit of a padded key
MASKED_POOLING = -1e10


def gaussian_window(length: int, width: float | None) -> Tensor:
    """The Gaussian that multiplies the attention logits of one branch; ones for `width` None (plain attention).

    The centre of row i is i/length while positions are j/(length - 1), so the peak drifts off the diagonal; each row's maximum is 1.

    Shapes: returns [length, length] float32, query position first. Errors: ValueError when `length` < 2 and a width is given.
    Source: docs/method.md 5.2 (golden `gauss32_*`, `gauss128_*`).
    """
    if width is None:
        return torch.ones(length, length)
    if length < 2:
        raise ValueError(f"a Gaussian window needs at least 2 positions, got {length}")
    index = torch.arange(length, dtype=torch.float64)
    offset = index[None, :] / (length - 1) - index[:, None] / length
    spread = max(width, 0.01) / 9
    window = torch.exp(-offset.square() / (2 * spread**2))
    return (window / window.amax(1, keepdim=True)).float()


def padding_bias(mask: Tensor) -> Tensor:
    """What is added to the attention logit of every key: 0, and -10,000 for padding. Shapes: `mask` [B, L], 1 = no padding -> float32."""
    return (1 - mask.float()) * MASKED


class InputProjection(nn.Module):
    """LayerNorm, dropout, linear, ReLU: from feature rows to tokens. Shapes: [..., dim] -> [..., hidden]. Source: docs/method.md 5.1."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.linear = nn.Linear(dim, hidden)
        self.dropout = dropout

    def forward(self, rows: Tensor) -> Tensor:
        rows = kernels.dropout(self.norm(rows), self.dropout, self.training)
        return F.relu(kernels.linear(rows, self.linear.weight, self.linear.bias))


class LearnedPositionalEncoding(nn.Module):
    """Adds a learned vector per position, then LayerNorm and dropout.

    Shapes: [B, L, hidden] -> same, L <= `length`. Source: docs/method.md 5.1.
    """

    def __init__(self, length: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(length, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = dropout

    def forward(self, tokens: Tensor) -> Tensor:
        return kernels.dropout(self.norm(tokens + self.table.weight[: tokens.shape[1]]), self.dropout, self.training)


class Attention(nn.Module):
    """The query, key and value projections of an attention without output projection (docs/method.md 5.3)."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        if hidden % heads:
            raise ValueError(f"hidden size {hidden} is not divisible by {heads} heads")
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)

    def forward(self, tokens: Tensor, window: Tensor | None, bias: Tensor | None, dropout: float) -> Tensor:
        """Attend within each sequence: softmax(QK/sqrt(d) * window + bias) V.

        Shapes: `tokens` [B, L, H]; `window` [L, L] or None; `bias` [B, L] or None, added to each key's logit; returns [B, L, H].
        """
        attention = kernels.dropout(self.weights(tokens, window, bias), dropout, self.training)
        value = self._heads(self.value, tokens)
        return (attention.to(value.dtype) @ value).transpose(1, 2).flatten(2)

    def weights(self, tokens: Tensor, window: Tensor | None, bias: Tensor | None) -> Tensor:
        """What each position reads of every other, by head. Shapes: as `forward`'s; returns [B, heads, L, L], rows adding up to 1."""
        query, key = self._heads(self.query, tokens), self._heads(self.key, tokens)
        logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        if window is not None:
            logits = logits * window.to(logits.dtype)
        if bias is not None:
            logits = logits + bias[:, None, None, :]
        return logits.softmax(-1)

    def _heads(self, part: nn.Linear, tokens: Tensor) -> Tensor:
        return kernels.linear(tokens, part.weight, part.bias).unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, ReLU, dropout, linear. Shapes: [..., hidden] -> same."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.expand = nn.Linear(hidden, inner)
        self.contract = nn.Linear(inner, hidden)

    def forward(self, tokens: Tensor, dropout: float) -> Tensor:
        inner = F.relu(kernels.linear(tokens, self.expand.weight, self.expand.bias))
        return kernels.linear(kernels.dropout(inner, dropout, self.training), self.contract.weight, self.contract.bias)


class AttentionPooling(nn.Module):
    """One vector per query: a learned softmax-weighted mean over its words.

    Shapes: [Q, L, H], mask [Q, L] -> [Q, H]. Source: docs/method.md 5.7.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.linear = nn.Linear(hidden, 1, bias=False)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        return torch.einsum("ql,qlh->qh", self.weights(words, mask).to(words.dtype), words)

    def weights(self, words: Tensor, mask: Tensor) -> Tensor:
        """The weight of each word. Shapes: as `forward`'s; returns [Q, L] in float32 or better, rows adding up to 1."""
        logits = self.linear(words).squeeze(-1)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return (logits + (1 - mask.to(logits.dtype)) * MASKED_POOLING).softmax(-1)
