"""The tokens of videos, by branch, where they lie on disk; and the exact score of a video: its best token in each branch, fused.

Nothing here holds more than a block of tokens: they are mapped, and read in blocks that stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from pipeline.core.errors import ConfigError
from pipeline.core.store.mapped import HeldRows, MappedRows

BLOCK = 2048  # tokens converted to float32 at once: the fastest of 512 to 262,144 (benchmarks/results/search.md)
TINY = 1e-12  # smallest norm divided by: a token of zeros scores 0


class Query(NamedTuple):
    """A query as tokens are compared with it, and what each branch counts. Shapes: `vectors[branch]` float32 [H], of any length.

    `scanned`: the fused score of every video as `Tokens.scan` has it, where that is known already. Shapes: float32 [V].
    """

    vectors: Mapping[str, np.ndarray]
    weights: Mapping[str, float]
    scanned: np.ndarray | None = None

    def unit(self, branch: str) -> np.ndarray:
        """The vector of a branch at unit length. Shapes: float32 [H]."""
        vector = np.asarray(self.vectors[branch], np.float32)
        return vector / np.float32(max(float(np.linalg.norm(vector)), TINY))


@dataclass
class Rows:
    """One branch of a shard: video i has the tokens `start[i]` to `start[i] + length[i]` of `values`, in rising order.

    `normalise`: they are not of unit length, and their cosine is asked for. Shapes: `values` [N, H]; `start`, `length` int64 [n].
    """

    values: MappedRows | HeldRows
    start: np.ndarray
    length: np.ndarray
    normalise: bool = False
    _shrink: np.ndarray | None = field(default=None, repr=False)

    def of(self, video: int) -> np.ndarray:
        """The tokens of one video as they are compared. Shapes: float32 [L, H]."""
        first = int(self.start[video])
        values = torch.from_numpy(self.values[first : first + int(self.length[video])]).float()
        return np.asarray(torch.nn.functional.normalize(values, dim=-1) if self.normalise else values)

    def best(self, queries: torch.Tensor) -> np.ndarray:
        """The largest product of every query with the tokens of each video; -inf of a video without any.

        Shapes: `queries` [Q, H] -> float32 [n, Q].
        """
        products = np.concatenate([self._products(part, queries) for _, part in self.values.parts()] or [np.empty((0, len(queries)), "f4")])
        if self.normalise:
            products *= self._inverse[:, None]
        best = np.full((len(self.start), len(queries)), -np.inf, np.float32)
        some = np.flatnonzero(self.length)
        if len(some):
            # Every second stretch is what lies between two videos (padding), and the last end may be that of the array.
            edges = np.stack([self.start[some], self.start[some] + self.length[some]], 1).reshape(-1)
            products = np.concatenate([products, products[-1:]])
            best[some] = np.maximum.reduceat(products, edges, axis=0)[::2]
        return best

    @property
    def _inverse(self) -> np.ndarray:
        """One over the length of each token, kept after the first query. Shapes: float32 [N]."""
        if self._shrink is None:
            blocks = [block.float().norm(dim=-1) for _, part in self.values.parts() for block in torch.from_numpy(part).split(BLOCK)]
            self._shrink = 1 / torch.cat(blocks).clamp_min(TINY).numpy()
        return self._shrink

    @staticmethod
    def _products(part: np.ndarray, queries: torch.Tensor) -> np.ndarray:
        values = torch.from_numpy(part)
        out = torch.empty(len(values), len(queries))
        space = torch.empty(min(BLOCK, len(values)), values.shape[1])
        turned = queries.T.contiguous()
        for first in range(0, len(values), BLOCK):
            block = values[first : first + BLOCK]
            torch.mm(space[: len(block)].copy_(block), turned, out=out[first : first + BLOCK])
        return out.numpy()


@dataclass
class Shard:
    """Some videos: their ids, what their tokens were made from (equal digests: equal tokens), and the tokens of each branch."""

    ids: list[str]
    digests: list[str]
    branches: dict[str, Rows]


class Tokens:
    """Every video's tokens. `ids` are the V videos, in the order ties are broken by. Errors: ConfigError when an id is there twice."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = [shard for shard in shards if shard.ids]
        self.ids = [video for shard in self.shards for video in shard.ids]
        self.digests = [digest for shard in self.shards for digest in shard.digests]
        self._first = np.cumsum([0, *(len(shard.ids) for shard in self.shards)])
        if len(self.place) != len(self.ids):
            twice = next(video for i, video in enumerate(self.ids) if self.place[video] != i)
            raise ConfigError(f"two videos have the id {twice!r}", where="search", fix="give them different names")

    @cached_property
    def place(self) -> dict[str, int]:
        """id -> number of the video."""
        return {video: i for i, video in enumerate(self.ids)}

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches there are tokens of."""
        return tuple(self.shards[0].branches) if self.shards else ()

    @property
    def nbytes(self) -> int:
        """Bytes of all tokens on disk."""
        return sum(rows.values.nbytes for shard in self.shards for rows in shard.branches.values())

    def width(self, branch: str) -> int:
        """Values of a token."""
        return int(self.shards[0].branches[branch].values.shape[1])

    def count(self, branch: str) -> int:
        """Tokens of a branch."""
        return sum(int(shard.branches[branch].length.sum()) for shard in self.shards)

    def of(self, video: int) -> dict[str, np.ndarray]:
        """The tokens of one video by branch, as they are compared. Shapes: float32 [L, H] each."""
        number = int(np.searchsorted(self._first, video, "right")) - 1
        shard, local = self.shards[number], video - int(self._first[number])
        return {branch: rows.of(local) for branch, rows in shard.branches.items()}

    def scan(self, queries: Sequence[Query]) -> np.ndarray:
        """The fused score of every video for each query, in one pass over all tokens. Shapes: Q queries -> float32 [Q, V]."""
        scores = np.empty((len(self.ids), len(queries)), np.float32)
        for first, shard in zip(self._first, self.shards, strict=False):
            fused = None
            for branch, rows in shard.branches.items():
                wanted = torch.from_numpy(np.stack([query.unit(branch) for query in queries]))
                part = rows.best(wanted) * np.array([query.weights[branch] for query in queries], np.float32)
                fused = part if fused is None else fused + part
            scores[first : first + len(shard.ids)] = fused
        return scores.T

    def scores(self, query: Query, videos: Sequence[int]) -> np.ndarray:
        """The fused score of some videos, each by itself: the same whichever others are asked for. Shapes: n videos -> float32 [n]."""
        unit = {branch: torch.from_numpy(query.unit(branch)) for branch in self.branches}
        return np.array([self._score(query, unit, int(video)) for video in videos], np.float32)

    def _score(self, query: Query, unit: Mapping[str, torch.Tensor], video: int) -> float:
        fused = np.float32(0)
        for branch, tokens in self.of(video).items():
            best = (torch.from_numpy(tokens) @ unit[branch]).max().item() if len(tokens) else -np.inf
            fused += np.float32(query.weights[branch]) * np.float32(best)
        return float(fused)
