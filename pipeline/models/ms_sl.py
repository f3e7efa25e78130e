"""MS-SL: clips at every scale, and frames weighed by the clip that answers best (docs/methods.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.methods import MsSl as Settings
from pipeline.models.base import Dims, Encoded, Retriever, Scores, Videos, Words
from pipeline.models.blocks import AttentionLayer
from pipeline.models.dual import QueryBranch, initialise, recompute
from pipeline.models.key_clip import KeyClipAttention
from pipeline.models.layers import InputProjection, LearnedPositionalEncoding, padding_bias
from pipeline.models.proposals import best_proposal, runs
from pipeline.models.scores import TINY, token_cosines

QUERIES = 512  # ranked at once
FEW = 4  # a key proposal of a query costs two products with the weights, one of a video's own proposals one


class RowBranch(nn.Module):
    """Projection, positions and one attention layer. Shapes: rows [B, L, D], `mask` [B, L] or None -> [B, L, H]."""

    def __init__(self, settings: Settings, dim: int, positions: int) -> None:
        super().__init__()
        self.projection = InputProjection(dim, settings.hidden, settings.input_dropout)
        self.positions = LearnedPositionalEncoding(positions, settings.hidden, settings.input_dropout)
        self.layer = AttentionLayer(settings.hidden, settings.heads, settings.dropout)

    def embed(self, rows: Tensor) -> Tensor:
        """What the layer reads. Shapes: [B, L, D] -> [B, L, H]."""
        embedded: Tensor = self.positions(self.projection(rows))
        return embedded

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens: Tensor = self.layer(self.embed(rows), bias=None if mask is None else padding_bias(mask))
        return tokens


class MultiScale(Retriever):
    """The clip branch, the frame branch and the query encoder of MS-SL.

    A video is scored by its best proposal (a mean of neighbouring clips), and by its frames as the query's best proposal attends to them.

    Shapes: see the methods. Source: docs/methods.md, MS-SL.
    """

    branches: ClassVar = ("clip", "frame")
    provides: ClassVar = frozenset({"query.pooled", "video.frames", "video.clips", "video.mask"})
    settings: Settings

    def __init__(self, settings: Settings, dims: Dims) -> None:
        super().__init__(settings, dims)
        video_dim, text_dim, frames, clips = dims
        self.frame = RowBranch(settings, video_dim, frames)
        self.clip = RowBranch(settings, video_dim, max(frames, clips))  # as long a position table as the released model's
        self.query = QueryBranch(settings, text_dim, AttentionLayer(settings.hidden, settings.heads, settings.dropout))
        self.key_clip = KeyClipAttention(settings.hidden)
        self.averages: Tensor
        self.register_buffer("averages", runs(clips), persistent=False)
        initialise(self)

    def encode_videos(self, videos: Videos) -> Encoded:
        """Shapes: `clips` [B, C, H], `frames` [B, F, H], 0 where `mask` [B, F] is."""
        real = videos.real
        frames = self.frame(videos.frames, videos.mask)
        return {"clips": self.clip(videos.clips), "frames": frames * real[..., None].to(frames.dtype), "mask": real}

    def encode_queries(self, words: Words) -> Encoded:
        """One vector a query. Shapes: `pooled` [Q, H]."""
        return {"pooled": self.query(words.rows, words.mask)}

    def score(self, queries: Encoded, videos: Encoded, own: Tensor | None = None) -> dict[str, Scores]:
        """The best proposal, and the frames it attends to.

        In training the frame scores are those of every query with what each query's own video says to that query. Shapes: frame [Q, Q]
        when `own` is given, else [Q, B].
        """
        query, rows = queries["pooled"], (self.averages, videos["clips"], videos["frames"], videos["mask"])
        cosine, dot, key = best_proposal(query, videos["clips"], self.averages)
        if own is None:
            heard = self.key_clip.hearings(*rows)
            return {"clip": Scores(cosine, dot), "frame": Scores(*self.key_clip.every_video(query, key, heard, videos["frames"]))}
        said = self.key_clip.own_videos(own, key.gather(1, own[:, None])[:, 0], *rows)
        unit = F.normalize(query, dim=-1, eps=TINY) @ F.normalize(said, dim=-1, eps=TINY).T
        return {"clip": Scores(cosine, dot), "frame": Scores(unit, query @ said.T, pairwise=True)}

    def clip_scores(self, query: Tensor, clips: Tensor) -> Scores:
        """The best proposal made of the clips."""
        return Scores(*best_proposal(query, clips, self.averages)[:2])

    def rank(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The cosine of each branch; of many queries what a video says to its proposals is worked out once. Shapes: -> [Q, V] each."""
        clips, frames = gallery["clips"], gallery["frames"]
        rows = (self.averages, clips, frames, gallery["mask"])
        if len(queries["pooled"]) * FEW <= len(self.averages):
            best = best_proposal(queries["pooled"], clips, self.averages)
            return {"clip": best.cosine, "frame": self.key_clip.every_video_at_once(queries["pooled"], best.key, *rows)[0]}
        heard = self.key_clip.hearings(*rows)
        found: dict[str, list[Tensor]] = {branch: [] for branch in self.branches}
        for some in queries["pooled"].split(QUERIES):
            best = best_proposal(some, clips, self.averages)
            found["clip"].append(best.cosine)
            found["frame"].append(self.key_clip.every_video(some, best.key, heard, frames)[0])
        return {branch: torch.cat(parts) for branch, parts in found.items()}

    def gallery(self, videos: Encoded) -> Encoded:
        """Clips and frames as they are: attention goes by their length too. A video's proposals are made of its clips when it is ranked."""
        return {name: value.float() for name, value in videos.items()}

    def locate(self, queries: Encoded, gallery: Encoded) -> Tensor:
        """The cosine with what each frame alone would say, which is ours: the paper does not look for the moment. Shapes: [n, F]."""
        return token_cosines(queries["pooled"], F.normalize(self.key_clip.value(gallery["frames"]), dim=-1))

    def decays(self, name: str) -> bool:
        """All but biases and LayerNorms."""
        return not name.endswith(("bias", "norm.weight"))

    def recompute(self, wanted: bool) -> None:
        """Whether the attention layers keep only their input for the backward pass: less memory, a third more work."""
        recompute(self, wanted)

    def compiled(self) -> Iterable[nn.Module]:
        """The encoders."""
        return (self.frame, self.clip, self.query)


build = MultiScale
