"""BGM-Net: MS-SL whose queries share out the proposals of their video in training (docs/methods.md).

Built from a summary, not from a full specification: no equations and no arrays of the released code were at hand. docs/methods.md, BGM-Net,
lists what the summary says and what it leaves open.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.methods import BgmNet as Settings
from pipeline.models.base import Dims, Encoded, Scores
from pipeline.models.key_clip import places
from pipeline.models.matching import assign
from pipeline.models.ms_sl import MultiScale
from pipeline.models.proposals import best_proposal, lengths
from pipeline.models.scores import TINY


class BipartiteMatching(MultiScale):
    """The parameters, the ranking and the search of MS-SL. In training, from an epoch on, a query has a proposal of its video to itself.

    That one's score is the query's score with its own video, in place of the best proposal's, and that one attends to the frames.

    Shapes: see the methods. Source: docs/methods.md, BGM-Net.
    """

    settings: Settings

    def __init__(self, settings: Settings, dims: Dims) -> None:
        super().__init__(settings, dims)
        self.matching = False

    def begin(self, epoch: int) -> None:
        """Matching is on from `start_epoch`, counted from 0."""
        self.matching = epoch >= self.settings.start_epoch

    def score(self, queries: Encoded, videos: Encoded, own: Tensor | None = None) -> dict[str, Scores]:
        """As MS-SL's; while matching, with the matched proposal for the own video. Shapes: clip [Q, B], frame [Q, Q] in training."""
        if own is None or not self.matching:
            return super().score(queries, videos, own)
        query, clips = queries["pooled"], videos["clips"]
        best = best_proposal(query, clips, self.averages)
        key = self.matched(queries, videos, own)
        dot = (query * self.proposals(videos, own, key)).sum(-1, keepdim=True)
        norm = query.norm(dim=-1, keepdim=True).clamp_min(TINY) * lengths(clips, self.averages)[own, key][:, None]
        clip = Scores(best.cosine.scatter(1, own[:, None], dot / norm), best.dot.scatter(1, own[:, None], dot))
        said = self.key_clip.own_videos(own, key, self.averages, clips, videos["frames"], videos["mask"])
        unit = F.normalize(query, dim=-1, eps=TINY) @ F.normalize(said, dim=-1, eps=TINY).T
        return {"clip": clip, "frame": Scores(unit, query @ said.T, pairwise=True)}

    @torch.no_grad()
    def matched(self, queries: Encoded, videos: Encoded, own: Tensor) -> Tensor:
        """The proposal of each query, so that the cosines of a video's queries add up to most and no two have the same.

        Of more queries than proposals, those left over keep their best one. Shapes: `own` [Q] the query's video -> [Q] rows of `averages`.
        """
        where, clips = places(own), videos["clips"]
        query = F.normalize(queries["pooled"], dim=-1, eps=TINY)
        products = where.unpack(where.pack(query, len(clips)) @ clips.mT)  # [Q, C]: one product a video serves all its queries
        cosine = products @ self.averages.T / lengths(clips, self.averages)[own]  # [Q, M]
        key = cosine.argmax(-1)
        chosen, proposals = assign(cosine, own)
        return key.index_copy(0, chosen, proposals)

    def proposals(self, videos: Encoded, own: Tensor, key: Tensor) -> Tensor:
        """One proposal of each query's own video. Shapes: `own` [Q], `key` [Q] -> [Q, H]."""
        where = places(own)
        return where.unpack(where.pack(self.averages[key], len(videos["clips"])) @ videos["clips"])


build = BipartiteMatching
