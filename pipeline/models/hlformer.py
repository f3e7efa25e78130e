"""HLFormer: Euclidean and hyperbolic attention side by side, and a cone of queries behind every video (docs/methods.md).

There are no golden arrays of it; the tests hold it to the equations of docs/methods.md. What the paper says differently from the released
code is not known here, so it has no `paper` switches.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.config.methods import HlFormer as Settings
from pipeline.models.base import Dims, Encoded, Videos, Words
from pipeline.models.blocks import EncoderLayer, TemporalConsolidation
from pipeline.models.dual import BestToken, QueryBranch, encode_twice, initialise
from pipeline.models.layers import AttentionPooling, InputProjection, LearnedPositionalEncoding, gaussian_window, padding_bias
from pipeline.models.lorentz import entailed, exponential
from pipeline.models.lorentz_layer import LorentzLayer


class HybridBlock(nn.Module):
    """An encoder layer and a Lorentz layer per Gaussian width, weighed position by position by what the mean token reads from each.

    The mean is over all layers and all positions, padding included, one for each video.

    Shapes: `tokens` [B, L, H] with L = `length`, `mask` [B, L] or None, 0 = padding, whose output is 0; returns [B, L, H].
    Source: docs/methods.md, HLFormer, step 8.
    """

    def __init__(self, settings: Settings, length: int) -> None:
        super().__init__()
        hidden, heads, widths, dropout = settings.hidden, settings.heads, settings.widths, settings.dropout
        self.euclidean = nn.ModuleList(EncoderLayer(hidden, heads, dropout) for _ in widths)
        self.hyperbolic = nn.ModuleList(LorentzLayer(hidden, settings.lorentz_width, heads, dropout) for _ in widths)
        self.consolidation = TemporalConsolidation(hidden, heads, length, settings.consolidation_temperature, dropout)
        self.widths = list(widths)
        self.windows: Tensor
        self.register_buffer("windows", torch.stack([gaussian_window(length, width) for width in widths]), persistent=False)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        padding = None if mask is None else padding_bias(mask)
        windows = [None if width is None else window for width, window in zip(self.widths, self.windows.unbind(), strict=True)]
        branches = [layer(tokens, window, padding) for layer, window in zip(self.euclidean, windows, strict=True)]
        branches += [layer(tokens, window, mask) for layer, window in zip(self.hyperbolic, windows, strict=True)]
        mean = torch.stack([branch.mean(1, keepdim=True) for branch in branches]).mean(0)
        output = self.consolidation(branches, mean, padding)
        return output if mask is None else output * mask[..., None].to(output.dtype)


class HybridBranch(nn.Module):
    """Projection, positions and one hybrid block. Shapes: rows [B, L, D], `mask` [B, L] or None -> [B, L, H]."""

    def __init__(self, settings: Settings, dim: int, length: int, positions: int) -> None:
        super().__init__()
        self.projection = InputProjection(dim, settings.hidden, settings.input_dropout)
        self.positions = LearnedPositionalEncoding(positions, settings.hidden, settings.input_dropout)
        self.block = HybridBlock(settings, length)

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.block(self.positions(self.projection(rows)), mask)


class Cones(nn.Module):
    """Videos and queries as points of one hyperbolic space, for the objective `entailment` alone.

    A video is the mean of its pooled frames and pooled clips (padding, which is zero, takes part). Both kinds have a learned scale of at
    most 1; the curvature is learned in [.1, 10].

    Shapes: `frames` [B, F, H], `clips` [B, C, H], `query` [Q, H], `labels` [Q] the query's video; returns [Q], how many radians each query
    lies outside its video's cone. Source: docs/methods.md, HLFormer, step 9.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.frames, self.clips = AttentionPooling(hidden), AttentionPooling(hidden)
        self.log_video_scale = nn.Parameter(torch.tensor(-math.log(hidden) / 2))
        self.log_query_scale = nn.Parameter(torch.tensor(-math.log(hidden) / 2))
        self.log_curvature = nn.Parameter(torch.zeros(()))

    def forward(self, frames: Tensor, clips: Tensor, query: Tensor, labels: Tensor) -> Tensor:
        self.bound()
        curvature = self.log_curvature.exp()
        pooled = (self._pool(self.frames, frames) + self._pool(self.clips, clips)) / 2
        video = exponential(self.log_video_scale.exp() * pooled, curvature)
        return entailed(video[labels], exponential(self.log_query_scale.exp() * query, curvature), curvature)

    @staticmethod
    def _pool(pooling: AttentionPooling, tokens: Tensor) -> Tensor:
        return pooling(tokens, torch.ones(tokens.shape[:2], device=tokens.device))

    def bound(self) -> None:
        """Scales of at most 1, a curvature of .1 to 10."""
        for scale in (self.log_video_scale, self.log_query_scale):
            scale.data.clamp_(max=0)
        self.log_curvature.data.clamp_(math.log(0.1), math.log(10))


class HlFormer(BestToken):
    """The skeleton of GMMFormer v2 with hybrid blocks.

    As there, a padded frame is a token of zeros that takes part in the maximum over frames. `cones` serve the objective `entailment` alone.

    Shapes: see the methods. Source: docs/methods.md, HLFormer.
    """

    provides: ClassVar = frozenset({"query.pooled", "video.frames", "video.clips", "video.mask"})
    settings: Settings

    def __init__(self, settings: Settings, dims: Dims) -> None:
        super().__init__(settings, dims)
        video_dim, text_dim, frames, clips = dims
        self.frame = HybridBranch(settings, video_dim, frames, frames)
        self.clip = HybridBranch(settings, video_dim, clips, max(frames, clips))  # as long a position table as the released model's
        self.query = QueryBranch(settings, text_dim, EncoderLayer(settings.hidden, settings.heads, settings.dropout))
        self.cones = Cones(settings.hidden)
        initialise(self)

    def encode_videos(self, videos: Videos) -> Encoded:
        """The tokens of both branches. Shapes: `frames` [B, F, H], 0 where `mask` [B, F] is; `clips` [B, C, H]."""
        return {"frames": self.frame(videos.frames, videos.mask), "clips": self.clip(videos.clips), "mask": videos.real}

    def encode_queries(self, words: Words) -> Encoded:
        """One vector a query, and in training a second one. Shapes: `pooled` and `pooled_again` [Q, H]."""
        return encode_twice(self.query, words, self.settings.second_pass)

    def decays(self, name: str) -> bool:
        """As in GMMFormer v2; the logarithms of scales and curvature decay, the LayerNorms into and out of the hyperboloid do not.

        The last is inferred: they precede a projection, as those of `InputProjection` do, which the released rule leaves out by name.
        """
        return super().decays(name) and not name.endswith(("inwards.norm.weight", "outwards.norm.weight"))

    def recompute(self, wanted: bool) -> None:
        """Whether the layers keep only their input for the backward pass; on a CPU the Lorentz layers always do."""
        super().recompute(wanted)
        for module in self.modules():
            if isinstance(module, LorentzLayer):
                module.recompute = wanted


build = HlFormer
