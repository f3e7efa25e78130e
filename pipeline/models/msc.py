"""The dual-branch encoder: frames and clips of a video, and the queries, into one space (docs/method.md 5)."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.config.models import Msc
from pipeline.models.base import Dims, Encoded, Videos
from pipeline.models.blocks import EncoderLayer
from pipeline.models.cpu import kernels
from pipeline.models.dual import BestToken, QueryBranch, VideoBranch, initialise

ALIGNED = frozenset({"video.aligned_frames", "video.aligned_clips"})


class DualBranch(BestToken):
    """The model of MSC: a frame branch, a clip branch and a query encoder that share one space.

    Both branches' consolidations read with the same learned `token`; `alignment` is the linear layer CBVA compares the branches through
    (training only).

    Shapes: see the methods. Source: docs/method.md 5 (GMMFormer v2 with proportional attention and the extra linear layer).
    """

    provides: ClassVar = frozenset({"query.pooled", "video.frames", "video.clips", *ALIGNED})
    settings: Msc

    def __init__(self, settings: Msc, dims: Dims) -> None:
        super().__init__(settings, dims)
        video_dim, text_dim, frames, clips = dims
        self.frame = VideoBranch(settings, video_dim, frames, frames)
        # The clip branch's position table is as long as the frame branch's in the released model; the rows past `clips` are never read.
        self.clip = VideoBranch(settings, video_dim, clips, max(frames, clips))
        self.query = QueryBranch(settings, text_dim, EncoderLayer(settings.hidden, settings.heads, settings.dropout))
        self.token = nn.Parameter(torch.empty(1, 1, settings.hidden))
        self.alignment = nn.Linear(settings.hidden, settings.hidden)
        initialise(self)
        nn.init.normal_(self.token)

    def encode_videos(self, videos: Videos) -> Encoded:
        """The tokens of both branches. Shapes: `frames` [B, F, H], `clips` [B, C, H]."""
        proportional = videos.sizes if self.settings.proportional_attention else None
        return {"frames": self.frame(videos.frames, self.token), "clips": self.clip(videos.clips, self.token, proportional)}

    def training_outputs(self, videos: Encoded, needs: Collection[str]) -> Encoded:
        """The tokens through CBVA's linear layer, which both branches share. Source: docs/method.md 6.6."""
        if not ALIGNED & set(needs):
            return {}
        return {f"aligned_{name}": self.project(videos[name]) for name in ("frames", "clips")}

    def project(self, tokens: Tensor) -> Tensor:
        """CBVA's linear layer, shared by both branches. Shapes: [..., H] -> same. Source: docs/method.md 6.6."""
        return kernels.linear(tokens, self.alignment.weight, self.alignment.bias)


build = DualBranch
