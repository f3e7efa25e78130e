"""RAL, a plug-in on another model: words meet frames, weighed by confidence; in training sets are distributions (docs/methods.md).

The released code has it on GMMFormer v2; its wiring onto MS-SL, GMMFormer and MSC is ours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.models import Ral as Settings
from pipeline.models.base import Dims, Encoded, Retriever, Scores, Videos, Words
from pipeline.models.base import build as build_base
from pipeline.models.blocks import EncoderLayer
from pipeline.models.distributions import Gaussian, GaussianHead, of_frames, of_queries
from pipeline.models.dual import QueryBranch, initialise
from pipeline.models.late_interaction import ConfidenceGate, confidence_cosines, confidence_scores
from pipeline.models.layers import InputProjection, padding_bias


class WordBranch(nn.Module):
    """Projection and one encoder layer of its own; the positions are those of the base's query encoder.

    Shapes: rows [Q, L, Dt], `mask` [Q, L], `positions` of the base -> [Q, L, H], padding rows included. Source: docs/methods.md, RAL 1.
    """

    def __init__(self, settings: Settings, dim: int) -> None:
        super().__init__()
        base = settings.base
        self.projection = InputProjection(dim, base.hidden, base.input_dropout)
        self.layer = EncoderLayer(base.hidden, base.heads, base.dropout)

    def forward(self, rows: Tensor, mask: Tensor, positions: nn.Module) -> Tensor:
        tokens: Tensor = self.layer(positions(self.projection(rows)), bias=padding_bias(mask))
        return tokens


class Ral(Retriever):
    """A model whose frame branch is scored by the confidence-gated late interaction instead of its own way.

    `base` keeps its clip branch, its query encoder and the encoding of frames. `heads` serve the objective `ral` alone; ranking and search
    do not use them, and they are kept with the model because released checkpoints hold them.

    Shapes: see the methods. Source: docs/methods.md, RAL.
    """

    branches: ClassVar = ("clip", "frame")
    settings: Settings

    def __init__(self, settings: Settings, dims: Dims) -> None:
        super().__init__(settings, dims)
        self.base = build_base(settings.base.kind, settings.base, dims)
        self.words = WordBranch(settings, dims.text_dim)
        self.gate = ConfidenceGate(settings.hidden)
        self.heads = nn.ModuleDict({"video": GaussianHead(settings.hidden), "text": GaussianHead(settings.hidden)})
        for own in (self.words, self.gate, self.heads):
            initialise(own)
        self.provides = self.base.provides | {"query.words", "query.mask", "video.mask"}  # type: ignore[misc]

    def encode_videos(self, videos: Videos) -> Encoded:
        """What the base makes of videos, and which of its frame tokens are real. Shapes: `frames` [B, F, H], `mask` [B, F], ..."""
        return {"mask": videos.real, **self.base.encode_videos(videos)}

    def encode_queries(self, words: Words) -> Encoded:
        """The base's vector, and encoded words. Shapes: `pooled` [Q, H], `words` [Q, L, H], `mask` [Q, L]."""
        tokens = self.words(words.rows, words.mask, cast(QueryBranch, self.base.query).positions)
        return {**self.base.encode_queries(words), "words": tokens, "mask": words.mask}

    def score(self, queries: Encoded, videos: Encoded, own: Tensor | None = None) -> dict[str, Scores]:
        """The base's clip score, and the late interaction; for the cosine the gate sees unit words. Source: docs/methods.md, RAL 2."""
        words, mask = queries["words"], queries["mask"]
        gates = self.gate(F.normalize(words, dim=-1), mask), self.gate(words, mask)
        frame = confidence_scores(words, mask, gates, videos["frames"], videos["mask"])
        return {"clip": self.base.clip_scores(queries["pooled"], videos["clips"]), "frame": Scores(*frame)}

    def training_outputs(self, videos: Encoded, needs: Collection[str]) -> Encoded:
        """The base's."""
        return self.base.training_outputs(videos, needs)

    def distributions(self, queries: Encoded, videos: Encoded, labels: Tensor, *, masked: bool, buffer: int) -> tuple[Gaussian, Gaussian]:
        """Each video, and all its queries together, as a Gaussian (training only).

        `masked`: padding and the rest of a buffer of `buffer` queries take no part in the attention. Shapes: `labels` [Q] -> [B, H] each.
        Source: docs/methods.md, RAL 3.
        """
        whole, tokens = of_frames(videos["frames"] * videos["mask"][..., None], videos["mask"])
        said, words = of_queries(queries["words"], queries["mask"], labels, len(whole), buffer)
        return self.heads["video"](whole, tokens, masked), self.heads["text"](said, words, masked)

    def gallery(self, videos: Encoded) -> Encoded:
        """Clips as the base scores them, and frame tokens at unit length, zero where padded."""
        frames = F.normalize(videos["frames"].float(), dim=-1) * videos["mask"][..., None]
        return {"clips": videos["clips"].float(), "frames": frames}

    def asked(self, queries: Encoded) -> Encoded:
        """Unit words and what each counts. Shapes: `pooled` [Q, H], `words` [Q, L, H], `gate` [Q, L], 0 at padding."""
        words = F.normalize(queries["words"].float(), dim=-1)
        return {"pooled": queries["pooled"], "words": words, "gate": self.gate(words, queries["mask"])}

    def rank(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The cosines of both branches."""
        frame = confidence_cosines(queries["words"], queries["gate"], gallery["frames"])
        return {"clip": self.base.clip_scores(queries["pooled"], gallery["clips"]).cosine, "frame": frame}

    def locate(self, queries: Encoded, gallery: Encoded) -> Tensor:
        """sum_t g_t cos(h_t, f_j) of every frame j: how much of the query it answers, which is ours: RAL does not look for the moment."""
        return torch.einsum("ql,qlh,qfh->qf", queries["gate"], queries["words"], gallery["frames"])

    def decays(self, name: str) -> bool:
        """As the base says; of RAL's own parameters all but biases and the input LayerNorm (golden traj: the heads' LayerNorms decay)."""
        part, _, inner = name.partition(".")
        return self.base.decays(inner) if part == "base" else not name.endswith(("bias", "projection.norm.weight"))

    def compiled(self) -> Iterable[nn.Module]:
        """The encoders."""
        return (*self.base.compiled(), self.words)

    def recompute(self, wanted: bool) -> None:
        """As the base does, and the word encoder."""
        self.base.recompute(wanted)
        self.words.layer.recompute = wanted


build = Ral
