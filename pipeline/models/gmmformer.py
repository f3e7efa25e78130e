"""GMMFormer: two blocks of four Gaussian branches, averaged; the frame branch pools to one vector (docs/methods.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.methods import GmmFormer as Settings
from pipeline.models.base import Dims, Encoded, Retriever, Scores, Videos, Words
from pipeline.models.blocks import AttentionLayer
from pipeline.models.dual import QueryBranch, encode_twice, initialise, recompute
from pipeline.models.layers import AttentionPooling, InputProjection, LearnedPositionalEncoding, gaussian_window, padding_bias
from pipeline.models.scores import max_cosine, max_similarity, pooled_similarity, token_cosines

BLOCKS = 2


class MeanMixtureBlock(nn.Module):
    """One attention layer per Gaussian width on the same tokens, and their mean.

    Shapes: `tokens` [B, L, H]; `windows` [L, L] or None for each layer; `bias` [B, L] or None; returns [B, L, H].
    Source: docs/methods.md, GMMFormer.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.layers = nn.ModuleList(AttentionLayer(settings.hidden, settings.heads, settings.dropout) for _ in settings.widths)

    def branches(self, tokens: Tensor, windows: list[Tensor | None], bias: Tensor | None) -> list[Tensor]:
        """Every layer's output. Shapes: -> K tensors [B, L, H]."""
        return [layer(tokens, window, bias) for layer, window in zip(self.layers, windows, strict=True)]

    def forward(self, tokens: Tensor, windows: list[Tensor | None], bias: Tensor | None) -> Tensor:
        outputs = self.branches(tokens, windows, bias)
        return sum(outputs[1:], outputs[0]) / len(outputs)


class RowBranch(nn.Module):
    """Projection, positions and two blocks, for rows of any length up to `length`.

    Shapes: rows [B, L, D], `mask` [B, L] or None -> [B, L, H].
    """

    def __init__(self, settings: Settings, dim: int, length: int, positions: int) -> None:
        super().__init__()
        self.projection = InputProjection(dim, settings.hidden, settings.input_dropout)
        self.positions = LearnedPositionalEncoding(positions, settings.hidden, settings.input_dropout)
        self.blocks = nn.ModuleList(MeanMixtureBlock(settings) for _ in range(BLOCKS))
        self.widths = list(settings.widths)
        self.full: Tensor
        self.register_buffer("full", _windows(length, self.widths), persistent=False)

    def windows(self, length: int) -> list[Tensor | None]:
        """The Gaussian of each width at a length; none for plain attention, and for a single row, which has only itself to read."""
        windows = self.full if length == self.full.shape[1] else _windows(length, self.widths).to(self.full)
        pairs = zip(self.widths, windows.unbind(), strict=True)
        return [None if width is None or length == 1 else window for width, window in pairs]

    def forward(self, rows: Tensor, mask: Tensor | None = None) -> Tensor:
        tokens, bias = self.positions(self.projection(rows)), None if mask is None else padding_bias(mask)
        windows = self.windows(rows.shape[1])
        for block in self.blocks:
            tokens = block(tokens, windows, bias)
        return tokens


class GmmFormer(Retriever):
    """The two branches and the query encoder of GMMFormer.

    The Gaussian windows are in relative time, so a video's frame vector depends on how long it was padded (`model.padding`).

    Shapes: see the methods. Source: docs/methods.md, GMMFormer.
    """

    branches: ClassVar = ("clip", "frame")
    provides: ClassVar = frozenset({"query.pooled", "video.frames", "video.clips", "video.mask", "video.vector"})
    settings: Settings

    def __init__(self, settings: Settings, dims: Dims) -> None:
        super().__init__(settings, dims)
        video_dim, text_dim, frames, clips = dims
        self.frame = RowBranch(settings, video_dim, frames, frames)
        self.clip = RowBranch(settings, video_dim, clips, max(frames, clips))  # as long a position table as the released model's
        self.query = QueryBranch(settings, text_dim, AttentionLayer(settings.hidden, settings.heads, settings.dropout))
        self.pooling = AttentionPooling(settings.hidden)
        initialise(self)

    def encode_videos(self, videos: Videos) -> Encoded:
        """Clip tokens, frame tokens before pooling, and the frame branch's vector.

        Shapes: `clips` [B, C, H], `frames` [B, F, H], 0 where `mask` [B, F] is, `vector` [B, H].
        """
        rows, mask = videos.frames, videos.mask
        if mask is not None and self.settings.padding == "longest":
            longest = int(mask.sum(1).max())
            rows, mask = rows[:, :longest], mask[:, :longest]
        tokens, real = self.frame(rows, mask), videos.real
        vector = self.pooling(tokens, real[:, : tokens.shape[1]])
        frames = F.pad(tokens, (0, 0, 0, videos.frames.shape[1] - tokens.shape[1])) * real[..., None].to(tokens.dtype)
        return {"clips": self.clip(videos.clips), "frames": frames, "vector": vector, "mask": real}

    def encode_queries(self, words: Words) -> Encoded:
        """One vector a query, and in training a second one. Shapes: `pooled` and `pooled_again` [Q, H]."""
        return encode_twice(self.query, words, self.settings.second_pass)

    def score(self, queries: Encoded, videos: Encoded, own: Tensor | None = None) -> dict[str, Scores]:
        """The best clip token, and the frame branch's vector."""
        query = queries["pooled"]
        return {"clip": Scores(*max_similarity(query, videos["clips"])), "frame": Scores(*pooled_similarity(query, videos["vector"]))}

    def gallery(self, videos: Encoded) -> Encoded:
        """Tokens and vectors at unit length, so that ranking many queries normalises them once."""
        return {name: F.normalize(videos[name].float(), dim=-1) for name in ("clips", "vector", "frames")}

    def rank(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The best cosine over the clips, and the cosine with the frame branch's vector."""
        query = queries["pooled"]
        return {"clip": max_cosine(query, gallery["clips"]), "frame": F.normalize(query, dim=-1) @ gallery["vector"].T}

    def locate(self, queries: Encoded, gallery: Encoded) -> Tensor:
        """The cosine with each frame token before pooling, which is ours: the paper does not look for the moment."""
        return token_cosines(queries["pooled"], gallery["frames"])

    def decays(self, name: str) -> bool:
        """All but biases and LayerNorms, by the released names."""
        return not name.endswith(("bias", "norm.weight"))

    def recompute(self, wanted: bool) -> None:
        """Whether the attention layers keep only their input for the backward pass: less memory, a third more work."""
        recompute(self, wanted)

    def compiled(self) -> Iterable[nn.Module]:
        """The encoders."""
        return (self.frame, self.clip, self.query)


def _windows(length: int, widths: list[float | None]) -> Tensor:
    """The Gaussian of each width; ones for plain attention and for a single position. Shapes: -> [K, L, L]."""
    return torch.stack([gaussian_window(length, None if length == 1 else width) for width in widths])


build = GmmFormer
