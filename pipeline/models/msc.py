"""The dual-branch encoder: frames and clips of a video, and the queries, into one space (docs/method.md 5)."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.models import Msc
from pipeline.models.base import Dims, Encoded, Retriever, Scores, Videos, Words
from pipeline.models.blocks import EncoderLayer, GaussianMixtureBlock
from pipeline.models.cpu import kernels
from pipeline.models.layers import MASKED, AttentionPooling, InputProjection, LearnedPositionalEncoding
from pipeline.models.scores import max_cosine, max_similarity, token_cosines

TOKENS = {"clip": "clips", "frame": "frames"}  # branch -> its tokens
ALIGNED = frozenset({"video.aligned_frames", "video.aligned_clips"})


class VideoBranch(nn.Module):
    """Projection, positions and one Gaussian mixture block. Shapes: rows [B, L, D], sizes [B, L] or None -> [B, L, H]."""

    def __init__(self, settings: Msc, dim: int, length: int, positions: int) -> None:
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

    def __init__(self, settings: Msc, dim: int) -> None:
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


class DualBranch(Retriever):
    """The model of MSC: a frame branch, a clip branch and a query encoder that share one space.

    Both branches' consolidations read with the same learned `token`; `alignment` is the linear layer CBVA compares the branches through
    (training only).

    Shapes: see the methods. Source: docs/method.md 5 (GMMFormer v2 with proportional attention and the extra linear layer).
    """

    branches: ClassVar = ("clip", "frame")
    provides: ClassVar = frozenset({"query.pooled", "video.frames", "video.clips", *ALIGNED})
    settings: Msc

    def __init__(self, settings: Msc, dims: Dims) -> None:
        super().__init__(settings, dims)
        video_dim, text_dim, frames, clips = dims
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

    def encode_videos(self, videos: Videos) -> Encoded:
        """The tokens of both branches. Shapes: `frames` [B, F, H], `clips` [B, C, H]."""
        proportional = videos.sizes if self.settings.proportional_attention else None
        return {"frames": self.frame(videos.frames, self.token), "clips": self.clip(videos.clips, self.token, proportional)}

    def encode_queries(self, words: Words) -> Encoded:
        """One vector a query. Shapes: `pooled` [Q, H]."""
        return {"pooled": self.query(words.rows, words.mask)}

    def score(self, queries: Encoded, videos: Encoded, own: Tensor | None = None) -> dict[str, Scores]:
        """The best token of each branch. Source: docs/method.md 6.1."""
        return {name: Scores(*max_similarity(queries["pooled"], videos[tokens])) for name, tokens in TOKENS.items()}

    def training_outputs(self, videos: Encoded, needs: Collection[str]) -> Encoded:
        """The tokens through CBVA's linear layer, which both branches share. Source: docs/method.md 6.6."""
        if not ALIGNED & set(needs):
            return {}
        return {f"aligned_{name}": self.project(videos[name]) for name in ("frames", "clips")}

    def gallery(self, videos: Encoded) -> Encoded:
        """The tokens at unit length, so that ranking many queries normalises them once."""
        return {name: F.normalize(tokens.float(), dim=-1) for name, tokens in videos.items()}

    def rank(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The best cosine of each branch. Source: docs/method.md 8.1."""
        return {name: max_cosine(queries["pooled"], gallery[tokens]) for name, tokens in TOKENS.items()}

    def locate(self, queries: Encoded, gallery: Encoded) -> Tensor:
        """The cosine with each frame token. Source: docs/method.md 8.4."""
        return token_cosines(queries["pooled"], gallery["frames"])

    def decays(self, name: str) -> bool:
        """All but biases and the LayerNorms of projections and positions.

        The norms inside the blocks (norm1, norm2) are decayed: the released rule looks for the name `LayerNorm.weight`, which they do not
        have. Source: docs/method.md 7.1, golden traj.
        """
        return not name.endswith(("bias", "projection.norm.weight", "positions.norm.weight"))

    def compiled(self) -> Iterable[nn.Module]:
        """The encoders; the alignment is one product."""
        return (self.frame, self.clip, self.query)

    def recompute(self, wanted: bool) -> None:
        """Whether the encoder layers keep only their input for the backward pass: less memory, a third more work."""
        for module in self.modules():
            if isinstance(module, EncoderLayer):
                module.recompute = wanted

    def project(self, tokens: Tensor) -> Tensor:
        """CBVA's linear layer, shared by both branches. Shapes: [..., H] -> same. Source: docs/method.md 6.6."""
        return kernels.linear(tokens, self.alignment.weight, self.alignment.bias)


build = DualBranch
