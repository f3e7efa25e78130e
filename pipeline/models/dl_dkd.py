"""DL-DKD and DL-DKD++: two students of one shape, one that inherits what a frozen teacher sees and one that explores (docs/methods.md)."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.methods import DlDkd as Settings
from pipeline.models.base import Dims, Encoded, Retriever, Scores, Videos, Words
from pipeline.models.blocks import AttentionLayer
from pipeline.models.cpu import kernels
from pipeline.models.dual import initialise, recompute
from pipeline.models.layers import AttentionPooling, InputProjection, LearnedPositionalEncoding, padding_bias
from pipeline.models.scores import max_cosine, max_similarity

# branch -> its query vector and its frame tokens; the inheriting student's are the ones every measure knows
ENTRIES = {"inheritance": ("pooled", "frames"), "exploration": ("explored", "explored_frames")}


class QueryEncoder(nn.Module):
    """Positions, one attention layer and pooling of projected words. Shapes: [Q, L, H], mask [Q, L] -> [Q, H]."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.positions = LearnedPositionalEncoding(settings.max_words, settings.hidden, settings.input_dropout)
        self.layer = AttentionLayer(settings.hidden, settings.heads, settings.dropout)
        self.pooling = AttentionPooling(settings.hidden)

    def forward(self, projected: Tensor, mask: Tensor) -> Tensor:
        return self.pooling(self.layer(self.positions(projected), bias=padding_bias(mask)), mask)


class FrameEncoder(nn.Module):
    """Projection, positions, one attention layer and a linear layer. Shapes: [B, F, D], mask [B, F] -> [B, F, H]."""

    def __init__(self, settings: Settings, dims: Dims) -> None:
        super().__init__()
        self.projection = InputProjection(dims.video_dim, settings.hidden, settings.input_dropout)
        self.positions = LearnedPositionalEncoding(dims.frames, settings.hidden, settings.input_dropout)
        self.layer = AttentionLayer(settings.hidden, settings.heads, settings.dropout)
        self.output = nn.Linear(settings.hidden, settings.hidden)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        tokens = self.layer(self.positions(self.projection(rows)), bias=padding_bias(mask))
        return kernels.linear(tokens, self.output.weight, self.output.bias)


class DlDkd(Retriever):
    """Both students; a branch's score is the best of a video's own frames, padding left out.

    With `plus_plus` every student projects the words by itself; without, the exploring one reads the inheriting one's projection.
    Source: docs/methods.md, DL-DKD.
    """

    branches: ClassVar = ("inheritance", "exploration")
    provides: ClassVar = frozenset({"query.pooled", "query.explored", "video.frames", "video.explored_frames", "video.mask"})
    settings: Settings

    def __init__(self, settings: Settings, dims: Dims) -> None:
        super().__init__(settings, dims)
        own = self.branches if settings.plus_plus else self.branches[:1]
        self.words = nn.ModuleDict({name: InputProjection(dims.text_dim, settings.hidden, settings.input_dropout) for name in own})
        self.query = nn.ModuleDict({name: QueryEncoder(settings) for name in self.branches})
        self.frame = nn.ModuleDict({name: FrameEncoder(settings, dims) for name in self.branches})
        initialise(self)

    def encode_videos(self, videos: Videos) -> Encoded:
        """The frame tokens of both students. Shapes: `frames`, `explored_frames` [B, F, H]; `mask` [B, F], 1 = a frame."""
        mask = videos.real
        return {tokens: self.frame[branch](videos.frames, mask) for branch, (_, tokens) in ENTRIES.items()} | {"mask": mask}

    def encode_queries(self, words: Words) -> Encoded:
        """One vector a query of both students. Shapes: `pooled`, `explored` [Q, H]."""
        encoded = {}
        for branch, (vector, _) in ENTRIES.items():
            projection = self.words[branch if branch in self.words else "inheritance"]
            encoded[vector] = self.query[branch](projection(words.rows), words.mask)
        return encoded

    def score(self, queries: Encoded, videos: Encoded, own: Tensor | None = None) -> dict[str, Scores]:
        """The best frame of each branch, never a padded one."""
        return {
            branch: Scores(*max_similarity(queries[vector], videos[tokens], videos["mask"])) for branch, (vector, tokens) in ENTRIES.items()
        }

    def gallery(self, videos: Encoded) -> Encoded:
        """The tokens at unit length, so that ranking many queries normalises them once; and which are frames."""
        unit = {tokens: F.normalize(videos[tokens].float(), dim=-1) for _, tokens in ENTRIES.values()}
        return unit | {"mask": videos["mask"]}

    def rank(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The best cosine of each branch."""
        return {branch: max_cosine(queries[q], gallery[tokens], gallery["mask"]) for branch, (q, tokens) in ENTRIES.items()}

    def decays(self, name: str) -> bool:
        """All but biases and LayerNorms. Source: docs/method.md 7.1."""
        return not name.endswith(("bias", "norm.weight"))

    def recompute(self, wanted: bool) -> None:
        """Whether the attention layers keep only their input for the backward pass: less memory, a third more work."""
        recompute(self, wanted)


build = DlDkd
