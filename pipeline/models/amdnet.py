"""AMDNet: moments of a video seen through windows it predicts itself, against one sentence vector a query (docs/methods.md)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.methods import AmdNet as Settings
from pipeline.models.base import Dims, Encoded, Retriever, Scores, Videos, Words
from pipeline.models.blocks import AttentionLayer
from pipeline.models.cpu import kernels
from pipeline.models.dual import initialise, recompute
from pipeline.models.layers import InputProjection, LearnedPositionalEncoding
from pipeline.models.scores import max_cosine, max_similarity, token_cosines

NARROWEST = 0.01  # width a predicted window has at least
DEVIATIONS = 9.0  # standard deviations in a width, as in every Gaussian window of the field
MOMENTS = frozenset({"video.windows", "video.moments", "video.summary"})


def span_windows(spans: Tensor, length: int) -> Tensor:
    """The Gaussian window of each predicted span over the clips, its largest value 1.

    exp(-(t_j - c)^2 / (2 s^2)) over its maximum, t_j = j / (L - 1), s = max(w, 0.01) / 9. The maximum is taken off the exponent, because
    all values of a narrow window between two clips are 0 in float32.

    Shapes: `spans` [B, E, 2] centre c and width w, both between 0 and 1 -> [B, E, L]. Source: docs/methods.md, AMDNet.
    """
    centre, width = spans[..., 0, None], spans[..., 1, None]
    times = torch.linspace(0, 1, length, dtype=spans.dtype, device=spans.device)
    exponent = -((times - centre) ** 2) / (2 * (width.clamp_min(NARROWEST) / DEVIATIONS) ** 2)
    return (exponent - exponent.amax(-1, keepdim=True)).exp()


class AmdNet(Retriever):
    """A query is its sentence, projected. A video is its clips after two attention layers, of whose second each head has a window.

    Source: docs/methods.md, AMDNet.
    """

    branches: ClassVar = ("clip",)
    provides: ClassVar = frozenset({"query.pooled", "video.clips"}) | MOMENTS
    settings: Settings

    def __init__(self, settings: Settings, dims: Dims) -> None:
        super().__init__(settings, dims)
        hidden, heads = settings.hidden, settings.heads
        self.query = InputProjection(dims.text_dim, hidden, settings.input_dropout)
        self.projection = InputProjection(dims.video_dim, hidden, settings.input_dropout)
        # The released table is as long as a video's frames; the rows past the clips are never read.
        self.positions = LearnedPositionalEncoding(max(dims.frames, dims.clips), hidden, settings.input_dropout)
        self.norm = nn.LayerNorm(hidden)
        self.summary = nn.Linear(hidden, hidden)
        self.spans = nn.Linear(hidden, 2 * heads)
        self.plain = AttentionLayer(hidden, heads, settings.dropout)
        self.windowed = AttentionLayer(hidden, heads, settings.dropout)
        initialise(self)

    def encode_videos(self, videos: Videos) -> Encoded:
        """What ranking needs and what only training does.

        Shapes: `clips` [B, C, H] tokens; `windows` [B, E, C], `moments` [B, E, H], `summary` [B, H]; `frame_to_clip` [B, F].
        """
        rows = self.positions(self.projection(videos.clips))
        summary = kernels.linear(self.norm(rows.mean(1)), self.summary.weight, self.summary.bias)
        spans = kernels.linear(summary, self.spans.weight, self.spans.bias).float().sigmoid()
        windows = span_windows(spans.unflatten(-1, (-1, 2)), rows.shape[1])
        plain = self.plain(rows)
        # Head e multiplies the logits of every query row by window e: the window of a head does not know who asks.
        windowed = self.windowed.plain(plain, windows[:, :, None])
        return {
            "clips": (plain + windowed) / 2,
            "windows": windows,
            "moments": windows.to(rows.dtype) @ rows,
            "summary": summary,
            "frame_to_clip": videos.frame_to_clip,
        }

    def encode_queries(self, words: Words) -> Encoded:
        """One vector a query, from its sentence alone, and in training a second one, of other dropout: `pooled`, `pooled_again` [Q, H]."""
        assert words.sentence is not None  # ModelSettings.reads_sentence
        encoded = {"pooled": self.query(words.sentence)}
        return encoded | {"pooled_again": self.query(words.sentence)} if self.training else encoded

    def score(self, queries: Encoded, videos: Encoded, own: Tensor | None = None) -> dict[str, Scores]:
        """The best clip."""
        return {"clip": Scores(*max_similarity(queries["pooled"], videos["clips"]))}

    def gallery(self, videos: Encoded) -> Encoded:
        """The clips at unit length, and which of them each frame lies in."""
        return {"clips": F.normalize(videos["clips"].float(), dim=-1), "frame_to_clip": videos["frame_to_clip"]}

    def rank(self, queries: Encoded, gallery: Encoded) -> dict[str, Tensor]:
        """The best cosine of the clips."""
        return {"clip": max_cosine(queries["pooled"], gallery["clips"])}

    def locate(self, queries: Encoded, gallery: Encoded) -> Tensor:
        """The cosine with the clip each frame lies in."""
        return token_cosines(queries["pooled"], gallery["clips"]).gather(1, gallery["frame_to_clip"].long())

    def decays(self, name: str) -> bool:
        """All but biases and LayerNorms. Source: docs/method.md 7.1."""
        return not name.endswith(("bias", "norm.weight"))

    def recompute(self, wanted: bool) -> None:
        """Whether the attention layers keep only their input for the backward pass: less memory, a third more work."""
        recompute(self, wanted)


build = AmdNet
