"""The Gaussian mixture block: eight attention layers of different widths, weighed position by position (docs/method.md 5.4-5.6)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.cpu import attention_layer, chunked, encoder_layer, kernels
from pipeline.models.cpu.branches import mix, read
from pipeline.models.layers import Attention, FeedForward, gaussian_window, padding_bias


class EncoderLayer(nn.Module):
    """Gaussian attention, then a feed-forward part, each with dropout, residual and LayerNorm after it.

    Shapes: `tokens` [B, L, H]; `window` [L, L] or None; `bias` [B, L] or None, added to every key's logit; returns [B, L, H].
    Source: docs/method.md 5.3.
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.norm1 = nn.LayerNorm(hidden)
        self.feed_forward = FeedForward(hidden, 4 * hidden)
        self.norm2 = nn.LayerNorm(hidden)
        self.dropout = dropout
        self.recompute = False

    def forward(self, tokens: Tensor, window: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        if kernels.fast(tokens):
            return chunked.apply(
                encoder_layer.LAYER,
                tokens,
                window,
                bias,
                self.weights(),
                heads=self.attention.heads,
                dropout=self.dropout,
                training=self.training,
                dtype=kernels.compute_dtype(tokens),
                recompute=self.recompute,
            )
        return self.plain(tokens, window, bias)

    def plain(self, tokens: Tensor, window: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """The same in torch's own operations: on a GPU, under torch.compile, and what the hand-written form is tested against."""
        attended = self.attention(tokens, window, bias, self.dropout)
        tokens = self.norm1(tokens + kernels.dropout(attended, self.dropout, self.training))
        changed = self.feed_forward(tokens, self.dropout)
        return self.norm2(tokens + kernels.dropout(changed, self.dropout, self.training))

    def weights(self) -> encoder_layer.Weights:
        """The parameters in the hand-written form's order."""
        attention, inner = self.attention, self.feed_forward
        modules = (attention.query, attention.key, attention.value, self.norm1, inner.expand, inner.contract, self.norm2)
        return encoder_layer.Weights(*(parameter for module in modules for parameter in (module.weight, module.bias)))


class AttentionLayer(nn.Module):
    """Gaussian attention with an output projection, then dropout, residual and LayerNorm: the layer of MS-SL and GMMFormer.

    Shapes: `tokens` [B, L, H]; `window` [L, L] or None; `bias` [B, L] or None, added to every key's logit; returns [B, L, H].
    Source: docs/methods.md.
    """

    def __init__(self, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(hidden, heads)
        self.output = nn.Linear(hidden, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.dropout = dropout
        self.recompute = False

    def forward(self, tokens: Tensor, window: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        if kernels.fast(tokens):
            return chunked.apply(
                attention_layer.LAYER,
                tokens,
                window,
                bias,
                self.weights(),
                heads=self.attention.heads,
                dropout=self.dropout,
                training=self.training,
                dtype=kernels.compute_dtype(tokens),
                recompute=self.recompute,
            )
        return self.plain(tokens, window, bias)

    def plain(self, tokens: Tensor, window: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """The same in torch's own operations: on a GPU, under torch.compile, and what the hand-written form is tested against."""
        attended = self.attention(tokens, window, bias, self.dropout)
        attended = kernels.linear(attended, self.output.weight, self.output.bias)
        return self.norm(tokens + kernels.dropout(attended, self.dropout, self.training))

    def weights(self) -> attention_layer.Weights:
        """The parameters in the hand-written form's order."""
        modules = (self.attention.query, self.attention.key, self.attention.value, self.output, self.norm)
        return attention_layer.Weights(*(parameter for module in modules for parameter in (module.weight, module.bias)))


class TemporalConsolidation(nn.Module):
    """Weighs the branches at every position by what one learned token reads from each of them.

    The token attends to each branch's whole output; a small network turns what it read into one logit per position, and a softmax over the
    branches gives the weights. The token is the same for every video, so its query is folded into the key projection, and the value
    projection is applied after the sum: per branch a product of [L, H] with [H, heads] replaces two of [L, H] with [H, H]. The key bias
    shifts all logits of a head alike, so it is left out; it stays a parameter because released checkpoints hold it.

    Shapes: `branches` K tensors [B, L, H], `token` [1, 1, H] or one of each video's own [B, 1, H], `bias` [B, L] or None, added to the
    logit of every position that is read; returns [B, L, H]. Source: docs/method.md 5.5.
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

    def forward(self, branches: list[Tensor], token: Tensor, bias: Tensor | None = None) -> Tensor:
        _, _, weights, branches = self._weigh(branches, token, bias)
        if kernels.fast(token):
            return mix(branches, weights)
        with torch.autocast(token.device.type, enabled=False):  # the tokens keep the precision of the LayerNorms they come from
            return torch.einsum("bkl,bklh->blh", weights, torch.stack(branches, 1))

    def weigh(self, branches: list[Tensor], token: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What the token has read of each branch, the logits, and the weights of the branches at every position.

        Shapes: as `forward`'s -> [B, K, H], [B, K, L], [B, K, L] adding up to 1 over K.
        """
        return self._weigh(branches, token, bias)[:3]

    def _weigh(self, branches: list[Tensor], token: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
        """`weigh`, and the branches for use from here on (`cpu.branches.read`)."""
        attention, heads = self.attention, self.attention.heads
        query = F.linear(token.squeeze(1), attention.query.weight, attention.query.bias).unflatten(-1, (heads, -1))
        folded = torch.einsum("tnd,ndh->tnh", query, attention.key.weight.unflatten(0, (heads, -1))) / math.sqrt(query.shape[-1])
        if kernels.fast(token):
            mean, share, branches = read(folded.to(branches[0].dtype), branches, bias, self.dropout, self.training)
        else:
            mean, share = self.plain_read(folded, branches, bias)
        value = torch.einsum("bknh,ndh->bknd", mean, attention.value.weight.unflatten(0, (heads, -1)))
        value = value + share[..., None] * attention.value.bias.view(heads, -1)
        read_token = self.norm1(token + kernels.dropout(value.flatten(2), self.dropout, self.training))
        read_token = self.norm2(read_token + kernels.dropout(self.feed_forward(read_token, self.dropout), self.dropout, self.training))
        inner = kernels.dropout(F.relu(self.hidden(read_token)), self.dropout, self.training)
        logits = self.logits(inner)
        return read_token, logits, (logits / self.temperature).softmax(1).to(branches[0].dtype), branches

    def plain_read(self, folded: Tensor, branches: list[Tensor], bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """`branches.read` in torch's own operations: on a GPU, and under torch.compile."""
        stacked = torch.stack(branches, 1)  # [B, K, L, H]
        logits = folded[:, None] @ stacked.mT
        if bias is not None:
            logits = logits + bias[:, None, None]
        weights = kernels.dropout(logits.softmax(-1), self.dropout, self.training).to(stacked.dtype)
        return weights @ stacked, weights.sum(-1)


class GaussianMixtureBlock(nn.Module):
    """One encoder layer per Gaussian width on the same tokens, brought together by temporal consolidation.

    Shapes: `tokens` [B, L, H] with L = `length`, `token` [1, 1, H], `sizes` [B, L] or None, `mask` [B, L] or None; returns [B, L, H].
    With `sizes`, every branch adds log size to the logits of its keys (proportional attention). With `mask`, 0 is padding: nothing reads
    it, and its output is 0. Source: docs/method.md 5.4, 5.6.
    """

    def __init__(self, hidden: int, heads: int, widths: Sequence[float | None], length: int, temperature: float, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(hidden, heads, dropout) for _ in widths)
        self.consolidation = TemporalConsolidation(hidden, heads, length, temperature, dropout)
        self.widths = list(widths)
        self.windows: Tensor
        self.register_buffer("windows", torch.stack([gaussian_window(length, width) for width in widths]), persistent=False)

    def forward(self, tokens: Tensor, token: Tensor, sizes: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        padding = None if mask is None else padding_bias(mask)
        bias = padding if sizes is None else sizes.float().log() + (0 if padding is None else padding)
        output = self.consolidation(self.branches(tokens, bias), token, padding)
        return output if mask is None else output * mask[..., None].to(output.dtype)

    def branches(self, tokens: Tensor, bias: Tensor | None) -> list[Tensor]:
        """Every branch's output. Shapes: `tokens` [B, L, H], `bias` [B, L] or None -> K tensors [B, L, H]."""
        windows = [None if width is None else window for width, window in zip(self.widths, self.windows.unbind(), strict=True)]
        return [layer(tokens, window, bias) for layer, window in zip(self.layers, windows, strict=True)]
