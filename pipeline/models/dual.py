"""What the models of two branches share: the branch of a video's rows, the query encoder, scores by the best token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.base import Encoded, Retriever, Scores, Words
from pipeline.models.blocks import AttentionLayer, EncoderLayer, GaussianMixtureBlock
from pipeline.models.layers import AttentionPooling, InputProjection, LearnedPositionalEncoding, padding_bias
from pipeline.models.scores import max_cosine, max_similarity, token_cosines

TOKENS = {"clip": "clips", "frame": "frames"}  # branch -> its tokens


class Branch(Protocol):
    """The settings of a branch."""

    @property
    def hidden(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def dropout(self) -> float: ...

    @property
    def input_dropout(self) -> float: ...


class QuerySettings(Branch, Protocol):
    """Those of the query encoder."""

    @property
    def max_words(self) -> int: ...


class ConsolidatedSettings(Branch, Protocol):
    """Those of a branch with temporal consolidation."""

    @property
    def widths(self) -> list[float | None]: ...

    @property
    def consolidation_temperature(self) -> float: ...


class VideoBranch(nn.Module):
    """Projection, positions and one Gaussian mixture block.

    Shapes: rows [B, L, D]; `token` [1, 1, H]; `sizes` [B, L] or None; `mask` [B, L] or None, 1 = a row, 0 = padding, whose output is 0;
    returns [B, L, H].
    """

    def __init__(self, settings: ConsolidatedSettings, dim: int, length: int, positions: int) -> None:
        super().__init__()
        self.projection = InputProjection(dim, settings.hidden, settings.input_dropout)
        self.positions = LearnedPositionalEncoding(positions, settings.hidden, settings.input_dropout)
        self.block = GaussianMixtureBlock(
            settings.hidden, settings.heads, settings.widths, length, settings.consolidation_temperature, settings.dropout
        )

    def forward(self, rows: Tensor, token: Tensor, sizes: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return self.block(self.positions(self.projection(rows)), token, sizes, mask)


class QueryBranch(nn.Module):
    """Projection, positions, one encoder layer and attention pooling over the words."""

    def __init__(self, settings: QuerySettings, dim: int, layer: nn.Module) -> None:
        super().__init__()
        self.projection = InputProjection(dim, settings.hidden, settings.input_dropout)
        self.positions = LearnedPositionalEncoding(settings.max_words, settings.hidden, settings.input_dropout)
        self.layer = layer
        self.pooling = AttentionPooling(settings.hidden)

    def words(self, words: Tensor, mask: Tensor) -> Tensor:
        """Encoded words, padding rows included. Shapes: [Q, L, Dt], mask [Q, L] -> [Q, L, H]."""
        tokens: Tensor = self.layer(self.positions(self.projection(words)), bias=padding_bias(mask))
        return tokens

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        return self.pooling(self.words(words, mask), mask)


class BestToken(Retriever):
    """Two branches of tokens, `clips` and `frames`, each scored by the token that answers a query best.

    `query`, `frame`, `clip` are its encoders. Shapes: see the methods. Source: docs/method.md 6.1, 8.1.
    """

    branches: ClassVar = ("clip", "frame")
    query: nn.Module
    frame: nn.Module
    clip: nn.Module

    def encode_queries(self, words: Words) -> Encoded:
        """One vector a query. Shapes: `pooled` [Q, H]."""
        return {"pooled": self.query(words.rows, words.mask)}

    def score(self, queries: Encoded, videos: Encoded, own: Tensor | None = None) -> dict[str, Scores]:
        """The best token of each branch."""
        return {name: Scores(*max_similarity(queries["pooled"], videos[tokens])) for name, tokens in TOKENS.items()}

    def gallery(self, videos: Encoded) -> Encoded:
        """The tokens at unit length, so that ranking many queries normalises them once."""
        return {name: F.normalize(videos[name].float(), dim=-1) for name in TOKENS.values()}

    def rank(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The best cosine of each branch."""
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
        """The encoders."""
        return (self.frame, self.clip, self.query)

    def recompute(self, wanted: bool) -> None:
        """Whether the encoder layers keep only their input for the backward pass: less memory, a third more work."""
        recompute(self, wanted)


def encode_twice(encoder: nn.Module, words: Words, second: bool) -> Encoded:
    """One vector a query; while training, with `second`, another one with other dropout, as the released code encodes queries twice.

    The second is what query diversity and optimal matching see. Shapes: `pooled` and `pooled_again` [Q, H].
    """
    encoded = {"pooled": encoder(words.rows, words.mask)}
    return encoded | {"pooled_again": encoder(words.rows, words.mask)} if second and encoder.training else encoded


def recompute(model: nn.Module, wanted: bool) -> None:
    """Whether the encoder layers keep only their input for the backward pass."""
    for module in model.modules():
        if isinstance(module, EncoderLayer | AttentionLayer):
            module.recompute = wanted


def initialise(model: nn.Module) -> None:
    """Linear and embedding weights from N(0, 0.02), biases 0, LayerNorms (1, 0). Source: docs/method.md 5.8."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            module.reset_parameters()
