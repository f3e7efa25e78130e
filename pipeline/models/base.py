"""What a retrieval model is to the rest of the house: it encodes videos and queries, scores them, and finds the moment inside a video.

Nobody outside this room names a model class: a model is built from its kind, and what it encodes is a dictionary of tensors, which can be
concatenated, sliced and stored without knowing the model. docs/extending.md adds one in a file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.config.model import ModelSettings
from pipeline.core import plugins
from pipeline.models.scores import max_similarity, token_cosines

Encoded = dict[str, Tensor]  # axis 0 is the item


class Dims(NamedTuple):
    """What beside the configuration decides the shapes of a model: widths of a video row and of a word, frames and clips of a video."""

    video_dim: int
    text_dim: int
    frames: int = 128
    clips: int = 32


class Videos(NamedTuple):
    """Videos as a model sees them.

    Shapes: `frames` [B, F, D] and `clips` [B, C, D], rows normalised; `sizes` [B, C] frames of a clip; `frame_to_clip` [B, F];
    `context` [B, C] context of a clip (docs/method.md 2-4); `mask` [B, F], 1 = a frame row, 0 = zero padding after a video's last row
    (`clips.frame_rows: capped`); None: no video is padded.
    """

    frames: Tensor
    clips: Tensor
    sizes: Tensor
    frame_to_clip: Tensor
    context: Tensor
    mask: Tensor | None = None

    @property
    def real(self) -> Tensor:
        """`mask`, all ones where there is none. Shapes: -> [B, F] float32."""
        return torch.ones(self.frames.shape[:2], device=self.frames.device) if self.mask is None else self.mask


class Words(NamedTuple):
    """Queries as a model sees them.

    Shapes: `rows` [Q, L, Dt], normalised and zero padded; `mask` [Q, L], 1 = word; `sentence` [Q, E] the encoder's sentence vectors as
    they are, None where the file holds none.
    """

    rows: Tensor
    mask: Tensor
    sentence: Tensor | None = None


class Scores(NamedTuple):
    """The scores of one branch.

    Shapes: `cosine` [Q, B], which ranks; `dot` [Q, B], its un-normalised form (InfoNCE); `own` [Q], where a model scores a query's own
    video in another way than the rest of the batch. `pairwise`: a video looks different to each of its queries, so both are [Q, Q] in
    training; column j is the video of query j as it looks to query j.
    """

    cosine: Tensor
    dot: Tensor
    own: Tensor | None = None
    pairwise: bool = False


class Retriever(nn.Module):
    """A model of partially relevant video retrieval.

    `branches`: what scores a video, the rows of a table and the keys of the fusion weights. `provides`: what objectives and measures may
    ask for, as `query.<name>` and `video.<name>`: an entry of what `encode_queries` and `encode_videos` give, or, while training, of
    `training_outputs`. Every measure knows `query.pooled` [Q, H], one vector a query, and `video.frames` [B, F, H], a token a frame.
    """

    branches: ClassVar[tuple[str, ...]]
    provides: ClassVar[frozenset[str]]

    def __init__(self, settings: ModelSettings, dims: Dims) -> None:
        super().__init__()
        self.settings, self.dims = settings, dims

    def encode_videos(self, videos: Videos) -> Encoded:
        """What is known of each video. Shapes: [B, ...] each."""
        raise NotImplementedError

    def encode_queries(self, words: Words) -> Encoded:
        """What is known of each query. Shapes: [Q, ...] each; rows of words [Q, L, ...], L that of the batch's longest query."""
        raise NotImplementedError

    def score(self, queries: Encoded, videos: Encoded, own: Tensor | None = None) -> dict[str, Scores]:
        """Every query against every video, by branch, with gradients. Shapes: `own` [Q] the query's video in training; -> [Q, B] each."""
        raise NotImplementedError

    def clip_scores(self, query: Tensor, clips: Tensor) -> Scores:
        """How `clips` answer queries, where there is a clip branch; by default as the best of them. For plug-ins, which replace the other.

        Shapes: `query` [Q, H], `clips` [B, C, H] -> [Q, B].
        """
        return Scores(*max_similarity(query, clips))

    def training_outputs(self, videos: Encoded, needs: Collection[str]) -> Encoded:
        """Further entries that only objectives read, those of `needs`; by default none."""
        return {}

    def begin(self, epoch: int) -> None:
        """What changes with the epoch, which counts from 0; called before every training step, by default nothing."""

    def terms(self, step: Any) -> dict[str, Tensor]:
        """Weighted losses of the model itself (`step`: objectives.base.Step); by default none."""
        return {}

    def gallery(self, videos: Encoded) -> Encoded:
        """What ranking keeps of encoded videos; by default all of it."""
        return videos

    def asked(self, queries: Encoded) -> Encoded:
        """What ranking keeps of encoded queries, zero wherever a query has no word; by default all of it."""
        return queries

    def rank(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """Every query against every video of a gallery, by branch. Shapes: -> [Q, V] each."""
        return {branch: scores.cosine for branch, scores in self.score(queries, gallery).items()}

    def locate(self, queries: Encoded, gallery: Encoded) -> Tensor:
        """How well each frame of a video answers the query paired with it; by default the cosine of `pooled` and `frames`.

        What padding rows get is not looked at. Shapes: n queries, n videos -> [n, F].
        """
        return token_cosines(queries["pooled"], torch.nn.functional.normalize(gallery["frames"], dim=-1))

    def decays(self, name: str) -> bool:
        """Whether weight decay applies to a parameter; by default to all but biases."""
        return not name.endswith("bias")

    def recompute(self, wanted: bool) -> None:
        """Whether activations are computed again in the backward pass, where a model can do that."""

    def compiled(self) -> Iterable[nn.Module]:
        """The parts that torch.compile is applied to; by default every child."""
        return self.children()


def build(kind: str, settings: ModelSettings, dims: Dims) -> Retriever:
    """A model of a kind, its weights drawn from torch's generator. Errors: ConfigError when there is no such kind."""
    model: Retriever = plugins.load("models", kind).build(settings, dims)
    return model
