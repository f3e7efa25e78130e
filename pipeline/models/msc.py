"""The dual-branch encoder: frames and clips of a video, and the queries, into one space (docs/method.md 5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.config.method import Model
from pipeline.models.blocks import EncoderLayer, GaussianMixtureBlock
from pipeline.models.cpu import kernels
from pipeline.models.layers import MASKED, AttentionPooling, InputProjection, LearnedPositionalEncoding


class VideoTokens(NamedTuple):
    """Encoded videos. Shapes: `frames` [B, Lf, H], `clips` [B, Lc, H]."""

    frames: Tensor
    clips: Tensor


class VideoBranch(nn.Module):
    """Projection, positions and one Gaussian mixture block. Shapes: rows [B, L, D], sizes [B, L] or None -> [B, L, H]."""

    def __init__(self, settings: Model, dim: int, length: int, positions: int) -> None:
        super().__init__()
        self.projection = InputProjection(dim, settings.hidden, settings.input_dropout)
        self.positions = LearnedPositionalEncoding(positions, settings.hidden, settings.input_dropout)
        self.block = GaussianMixtureBlock(
            settings.hidden, settings.heads, settings.widths, length, settings.consolidation_temperature, settings.dropout
        )

    def forward(self, rows: Tensor, token: Tensor, sizes: Tensor | None = None) -> Tensor:
        return self.block(self.positions(self.projection(rows)), token, sizes)


class QueryBranch(nn.Module):
    """Projection, positions, one encoder layer and attention pooling over the words."""

    def __init__(self, settings: Model, dim: int) -> None:
        super().__init__()
        self.projection = InputProjection(dim, settings.hidden, settings.input_dropout)
        self.positions = LearnedPositionalEncoding(settings.max_words, settings.hidden, settings.input_dropout)
        self.layer = EncoderLayer(settings.hidden, settings.heads, settings.dropout)
        self.pooling = AttentionPooling(settings.hidden)

    def words(self, words: Tensor, mask: Tensor) -> Tensor:
        """Encoded words, padding rows included. Shapes: [Q, L, Dt], mask [Q, L] -> [Q, L, H]."""
        return self.layer(self.positions(self.projection(words)), bias=(1 - mask.float()) * MASKED)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        return self.pooling(self.words(words, mask), mask)


class DualBranch(nn.Module):
    """The trained model: a frame branch, a clip branch and a query encoder that share one space.

    Both branches' consolidations read with the same learned `token`; `alignment` is the linear layer CBVA compares the branches through
    (training only). Args: `settings` of the configuration, width of the video rows and of the words, tokens per branch.

    Shapes: see the methods. Source: docs/method.md 5 (GMMFormer v2 with proportional attention and the extra linear layer).
    """

    def __init__(self, settings: Model, video_dim: int, text_dim: int, *, frames: int = 128, clips: int = 32) -> None:
        super().__init__()
        self.settings, self.video_dim, self.text_dim = settings, video_dim, text_dim
        self.frame = VideoBranch(settings, video_dim, frames, frames)
        # The clip branch's position table is as long as the frame branch's in the released model; the rows past `clips` are never read.
        self.clip = VideoBranch(settings, video_dim, clips, max(frames, clips))
        self.query = QueryBranch(settings, text_dim)
        self.token = nn.Parameter(torch.empty(1, 1, settings.hidden))
        self.alignment = nn.Linear(settings.hidden, settings.hidden)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Linear and embedding weights from N(0, 0.02), biases 0, LayerNorms (1, 0), the token from N(0, 1). Source: docs/method.md 5.8."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        nn.init.normal_(self.token)

    def encode_video(self, frames: Tensor, clips: Tensor, sizes: Tensor) -> VideoTokens:
        """Encode a batch of videos.

        Shapes: `frames` [B, Lf, D] and `clips` [B, Lc, D], rows normalised; `sizes` [B, Lc], frames per clip, > 0.
        """
        proportional = sizes if self.settings.proportional_attention else None
        return VideoTokens(self.frame(frames, self.token), self.clip(clips, self.token, proportional))

    def encode_query(self, words: Tensor, mask: Tensor) -> Tensor:
        """Encode queries into one vector each.

        Shapes: `words` [Q, L, Dt] (rows normalised, zero padded), `mask` [Q, L] 1 = word -> [Q, H].
        """
        return self.query(words, mask)

    def recompute(self, wanted: bool) -> None:
        """Whether the encoder layers keep only their input for the backward pass: less memory, a third more work."""
        for module in self.modules():
            if isinstance(module, EncoderLayer):
                module.recompute = wanted

    def project(self, tokens: Tensor) -> Tensor:
        """CBVA's linear layer, shared by both branches. Shapes: [..., H] -> same. Source: docs/method.md 6.6."""
        return kernels.linear(tokens, self.alignment.weight, self.alignment.bias)
