"""GMMFormer v2: eight Gaussian branches a block, weighed position by position; every frame is a token (docs/methods.md)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from pipeline.config.methods import GmmFormerV2 as Settings
from pipeline.models.base import Dims, Encoded, Videos, Words
from pipeline.models.blocks import EncoderLayer
from pipeline.models.dual import BestToken, QueryBranch, VideoBranch, encode_twice, initialise


class GmmFormerV2(BestToken):
    """The two branches and the query encoder of GMMFormer v2, which MSC builds on.

    A padded frame is a token of zeros that takes part in the maximum over frames: a video shorter than `frames` never scores below 0 in the
    frame branch, as in the released code.

    Shapes: see the methods. Source: arXiv 2405.13824; docs/methods.md, GMMFormer v2.
    """

    provides: ClassVar = frozenset({"query.pooled", "video.frames", "video.clips", "video.mask"})
    settings: Settings

    def __init__(self, settings: Settings, dims: Dims) -> None:
        super().__init__(settings, dims)
        video_dim, text_dim, frames, clips = dims
        self.frame = VideoBranch(settings, video_dim, frames, frames)
        self.clip = VideoBranch(settings, video_dim, clips, max(frames, clips))  # as long a position table as the released model's
        self.query = QueryBranch(settings, text_dim, EncoderLayer(settings.hidden, settings.heads, settings.dropout))
        self.token = nn.Parameter(torch.empty(1, 1, settings.hidden))
        initialise(self)
        nn.init.normal_(self.token)

    def encode_videos(self, videos: Videos) -> Encoded:
        """The tokens of both branches. Shapes: `frames` [B, F, H], 0 where `mask` [B, F] is; `clips` [B, C, H]."""
        frames = self.frame(videos.frames, self.token, mask=videos.mask)
        return {"frames": frames, "clips": self.clip(videos.clips, self.token), "mask": videos.real}

    def encode_queries(self, words: Words) -> Encoded:
        """One vector a query, and in training a second one. Shapes: `pooled` and `pooled_again` [Q, H]."""
        return encode_twice(self.query, words, self.settings.second_pass)


build = GmmFormerV2
