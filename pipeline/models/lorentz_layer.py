"""The encoder layer of HLFormer whose attention lies on the hyperboloid."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pipeline.models.cpu import kernels
from pipeline.models.cpu.chunked import videos_per_chunk
from pipeline.models.layers import FeedForward, InputProjection
from pipeline.models.lorentz import FARTHEST, centroid, exponential, lift, logarithm, onto

MASKED = -1e18


class LorentzLinear(nn.Module):
    """Points to the points of every head: a linear map without bias, each head's part put onto the hyperboloid.

    Shapes: [B, L, D] -> [B, heads, L, D/heads]. Source: docs/methods.md, HLFormer, step 3.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(2.3))
        self.heads = heads

    def forward(self, points: Tensor) -> Tensor:
        rows = kernels.linear(points, self.linear.weight).unflatten(-1, (self.heads, -1))
        return onto(rows, self.log_scale).transpose(1, 2)


class LorentzAttention(nn.Module):
    """Tokens to the hyperboloid, attention by Lorentzian products, back.

    A window multiplies logits that are never above 0, so it *raises* what lies outside it: attention goes to the far positions. That is how
    the released code works, and it is kept. Probabilities are not dropped.

    Shapes: `tokens` [B, L, H]; `window` [L, L] or None; `mask` [B, L] or None, 0 = padding; `width` D, time included -> [B, L, H].
    Source: docs/methods.md, HLFormer, steps 1-7.
    """

    def __init__(self, hidden: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads or width < 2 * heads:
            raise ValueError(f"width {width} does not give each of {heads} heads a time and a space coordinate")
        self.inwards = InputProjection(hidden, width - 1, dropout)
        self.query, self.key, self.value = (LorentzLinear(width, heads) for _ in range(3))
        self.outwards = InputProjection(width - 1, hidden, dropout)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(width - 1) / 2))
        self.logit_scale = nn.Parameter(torch.tensor(math.sqrt(width)))
        self.logit_bias = nn.Parameter(torch.zeros(()))
        self.dropout = dropout

    def forward(self, tokens: Tensor, window: Tensor | None, mask: Tensor | None) -> Tensor:
        scale = self.log_scale.exp()
        points = lift(exponential(self.inwards(tokens) * scale, farthest=FARTHEST))
        query, key, value = (m(kernels.dropout(points, self.dropout, self.training)) for m in (self.query, self.key, self.value))
        turned = torch.cat([-query[..., :1], query[..., 1:]], -1) * (2 / self.logit_scale)
        logits = turned @ key.mT + (2 / self.logit_scale + self.logit_bias)
        if window is not None:
            logits = logits * window
        if mask is not None:
            logits = logits.masked_fill(mask[:, None, None, :] == 0, MASKED)
        heads = centroid(logits.softmax(-1), value).transpose(1, 2).flatten(2)
        # The first coordinate of the first head stands for the time of all heads; the other heads' times count as space.
        return self.outwards(logarithm(heads[..., :1], heads[..., 1:]) / scale)

    def bound(self) -> None:
        """The scale of the tangent vectors is at most 1."""
        self.log_scale.data.clamp_(max=0)


class LorentzLayer(nn.Module):
    """Lorentz attention, then a feed-forward part, each with dropout, residual and LayerNorm after it; in float32 under autocast too.

    Shapes: `tokens` [B, L, H]; `window` [L, L] or None; `mask` [B, L] or None -> [B, L, H]. Source: docs/methods.md, HLFormer, step 7.
    """

    def __init__(self, hidden: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = LorentzAttention(hidden, width, heads, dropout)
        self.norm1 = nn.LayerNorm(hidden)
        self.feed_forward = FeedForward(hidden, 4 * hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.dropout, self.heads = dropout, heads
        self.recompute = False

    def forward(self, tokens: Tensor, window: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """A few videos at a time on a CPU, computed again in the backward pass: temporaries stay small, and none is kept."""
        with torch.autocast(tokens.device.type, enabled=False):  # arccosh near 1 and sinh of 10 need float32
            self.attention.bound()
            tokens = tokens if tokens.dtype == torch.float64 else tokens.float()
            if not kernels.fast(tokens):
                return self.kept(tokens, window, mask) if self.recompute else self.plain(tokens, window, mask)
            step = videos_per_chunk(tokens.shape[1], max(4 * tokens.shape[2], self.heads * tokens.shape[1]))
            masks: Any = [None] * -(-len(tokens) // step) if mask is None else mask.split(step)
            parts = zip(tokens.split(step), masks, strict=True)
            return torch.cat([self.kept(part, window, own) for part, own in parts])

    def kept(self, tokens: Tensor, window: Tensor | None, mask: Tensor | None) -> Tensor:
        """`plain`, keeping only its input."""
        if not torch.is_grad_enabled():
            return self.plain(tokens, window, mask)
        output: Tensor = checkpoint(self.plain, tokens, window, mask, use_reentrant=False)
        return output

    def plain(self, tokens: Tensor, window: Tensor | None, mask: Tensor | None) -> Tensor:
        """All at once, in torch's own operations."""
        attended = self.attention(tokens, window, mask)
        tokens = self.norm1(tokens + kernels.dropout(attended, self.dropout, self.training))
        return self.norm2(tokens + kernels.dropout(self.feed_forward(tokens, self.dropout), self.dropout, self.training))
