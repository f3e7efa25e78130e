"""Search with a trained run: a typed sentence in, ranked videos out, and inside each the moment that answers it.

The videos are encoded once and kept beside the checkpoint; a `Searcher` holds them and the text encoder, so that every query
after the first costs one sentence and one matrix product.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError, EncoderError
from pipeline.core.layout import Layout
from pipeline.encoders.base import Caption
from pipeline.models.base import Encoded, Words
from pipeline.models.checkpoint import load_model
from pipeline.models.scores import token_cosines
from pipeline.ranking import gallery
from pipeline.ranking.split import normalised, real_rows
from pipeline.search.answers import Hit
from pipeline.search.best_token import BestOf, best_tokens, tokens_of
from pipeline.search.engine import Engine
from pipeline.search.index import folder_of, open_index
from pipeline.search.indices import engine_for, index_of
from pipeline.search.nearest import Found, Index
from pipeline.search.tokens import Query
from pipeline.search.unrelated import sentences

PROBES = 6  # sentences that show how a model scores
COMPARED = 10  # answers of each query that are compared with what the model says
ALIKE = 1e-4  # largest difference of one score worked out in two ways


class Searcher(Engine):
    """Answers queries with one trained run. Errors: StoreMissing when the run or its clips are not there; those of the text encoder."""

    def __init__(self, config: Config, layout: Layout, experiment: str, seed: int) -> None:
        self.settings = config.experiment(experiment)
        super().__init__(config, self.settings.text)
        self.name, self.trained = f"{experiment}, seed {seed}", (experiment, seed)
        self.model, _, _ = load_model(layout.checkpoint(experiment, seed), experiment=experiment, seed=seed)
        self.videos = open_index(config, layout, experiment, seed, self.model)
        self.ids, self._folder = self.videos.ids, folder_of(layout, experiment, seed)

    @cached_property
    def index(self) -> Index | None:  # type: ignore[override]
        """An index of tokens where the model scores a video by its best ones, which a few sentences show; else None, and `scores` says."""
        best = self._best_tokens()
        tokens = tokens_of(self.videos, best) if best else None
        if tokens is None:
            if engine_for(self.config, len(self.ids)) != "exact":
                self._say_all()
            return None
        self._vectors = {branch: entry.vector for branch, entry in best.items()}
        experiment, seed = self.trained or ("", 0)
        return index_of(self.config, tokens, self._folder, f"{self.config.dataset.name}-{experiment}-{seed}")

    def _best_tokens(self) -> dict[str, BestOf]:
        if not self.videos.windows.single:  # branches may each be best in another window: no two tokens make a score
            return {}
        some = self.asked_all(sentences(PROBES))
        return best_tokens(self.model, {name: torch.cat([asked[name] for asked in some]) for name in some[0]}, self.videos)

    def asked(self, query: str) -> Encoded:
        """A sentence as the model encodes it, by way of the precision text is stored in, so that it equals a stored query's."""
        return self.asked_all([query])[0]

    def asked_all(self, queries: Sequence[str]) -> list[Encoded]:
        """The same of several, encoded together."""
        return [self._encoded(caption) for caption in self.encoder.encode_texts(queries)]

    def _encoded(self, caption: Caption) -> Encoded:
        states, sentence, cut = caption
        read, what = (sentence, "sentence") if self.model.settings.reads_sentence else (states, "word")
        if read.shape[-1] != self.model.dims.text_dim:
            raise EncoderError(
                f"{self._text} gives {read.shape[-1]} values a {what}, the model was trained on {self.model.dims.text_dim}",
                fix="set `text` to the encoder of the training queries",
            )
        if cut or len(states) > self.model.settings.max_words:
            print("note: the query is longer than the encoder reads; its end is cut off", file=sys.stderr)
        words = normalised(states.half())[None, : self.model.settings.max_words]
        return gallery.encode_queries(self.model, [Words(words, torch.ones(1, words.shape[1]), sentence.half().float()[None])])

    def query(self, asked: Encoded) -> Query:
        """The vector each branch compares with tokens, and the weights of the fusion."""
        return Query({branch: asked[name][0].numpy() for branch, name in self._vectors.items()}, self._weights)

    def scores(self, asked: Encoded | Tensor) -> np.ndarray:
        """The fused scores of the model; of a moment, the cosine of the most alike frame. Shapes: [V]."""
        each = torch.cat([self._scores(asked, block, count) for block, count in self._blocks()])
        return self.videos.windows.best(each[None])[0].numpy()

    def _scores(self, asked: Encoded | Tensor, some: Encoded, count: Tensor) -> Tensor:
        """The same of some windows. Shapes: `count` [n] rows -> [n]."""
        if isinstance(asked, Tensor):
            return torch.from_numpy(self._alike(asked, some, count).max(1))
        return gallery.score(self.model, asked, some, self._weights).fused[0]

    def rows(self, asked: Encoded | Tensor, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How well the model finds every frame row to answer, of a long video in its best window. Shapes: as `Engine.rows`."""
        windows = list(chosen) if self.videos.windows.single else [self._best_window(asked, video) for video in chosen]
        some, count = self.videos.part(windows), self.videos.frame_count[torch.tensor(windows)]
        if isinstance(asked, Tensor):
            similarity = self._alike(asked, some, count)
        else:
            repeated = gallery.part(asked, torch.zeros(len(windows), dtype=torch.int64))
            similarity = gallery.locate(self.model, repeated, some, torch.arange(len(windows)), count).numpy()
        return similarity, self.videos.start[windows], self.videos.end[windows]

    def _best_window(self, asked: Encoded | Tensor, video: int) -> int:
        first, end = self.videos.windows.first[video : video + 2].tolist()
        part = self.videos.part(range(first, end))
        return first + int(self._scores(asked, part, self.videos.frame_count[first:end]).argmax())

    def _index_for(self, asked: Encoded | Tensor) -> Index | None:
        """A moment is compared with frames, whatever the model's branches are."""
        return None if isinstance(asked, Tensor) else self.index

    def _best(self, asked: Encoded | Tensor, among: np.ndarray, k: int, scanned: np.ndarray | None = None) -> Found:
        """As `Engine._best`; the first of the answers are compared with what the model itself says of them."""
        found = super()._best(asked, among, k, scanned)
        if isinstance(asked, Tensor) or self.index is None or not len(found.videos):
            return found
        own = gallery.score(self.model, asked, self.videos.part(found.videos[:COMPARED].tolist()), self._weights).fused[0].numpy()
        if np.allclose(own, found.scores[:COMPARED], atol=ALIKE, rtol=0):
            return found
        self._say_all()
        self.index, self._matrices, self._remembered = None, {}, {}  # type: ignore[misc]
        return super()._best(asked, among, k)

    def _say_all(self) -> None:
        print(f"note: {self.name} does not score a video by its best token: every video is scored", file=sys.stderr)

    def _blocks(self) -> Iterator[tuple[Encoded, Tensor]]:
        """All videos in order, a shard at a time, and how many of their rows are not padding."""
        return ((shard.encoded(), torch.from_numpy(shard.frame_count)) for shard in self.videos.shards)

    @cached_property
    def _weights(self) -> dict[str, float]:
        return self.settings.evaluation.fusion(self.model.branches)

    @cached_property
    def durations(self) -> np.ndarray:  # type: ignore[override]
        """The end of the last frame row of each video. Shapes: [V] s."""
        return np.maximum.reduceat(np.nanmax(self.videos.end, axis=1), self.videos.windows.first[:-1].numpy())

    def of_row(self, video: int, seconds: float) -> Tensor:
        """The model's token of the frame row that covers an instant. Shapes: [H]. Errors: ConfigError where it keeps none."""
        first, last = self.videos.windows.first[video : video + 2].tolist()
        middle = (self.videos.start[first:last, 0] + self.videos.end[first:last, -1]) / 2
        window = first + int(np.abs(middle - seconds).argmin())  # in whose middle it lies most
        row = int(np.clip(np.searchsorted(self.videos.end[window], seconds, side="right"), 0, int(self.videos.frame_count[window]) - 1))
        return self._tokens(self.videos.part([window]))[0, row]

    def _tokens(self, videos: Encoded) -> Tensor:
        """The model's token of every frame row. Shapes: n videos -> [n, F, H]."""
        if "frames" in videos:
            return videos["frames"]
        if "clips" in videos and "frame_to_clip" in videos:
            return videos["clips"].take_along_dim(videos["frame_to_clip"].long()[..., None], 1)
        raise ConfigError(
            f"{self.name} is a model that keeps no token of a frame, so moments cannot be compared with moments",
            where="model",
            fix="ask the frozen encoder (--zero-shot)",
        )

    def _alike(self, token: Tensor, videos: Encoded, count: Tensor) -> np.ndarray:
        """The cosine of a token with every frame row, minus infinity at padding. Shapes: `count` [n] rows -> [n, F]."""
        tokens = self._tokens(videos)
        cosines = token_cosines(token[None].expand(len(tokens), -1), F.normalize(tokens, dim=-1))
        return cosines.masked_fill(~real_rows(count, tokens.shape[1]), float("-inf")).numpy()


def open_run(config: Config, experiment: str = "", seed: int | None = None) -> Searcher:
    """A trained run; by default the first experiment and the first seed. Errors: those of `Searcher`."""
    chosen = config.seeds[0] if seed is None else seed
    return Searcher(config, config.layout, experiment or next(iter(config.experiments)), chosen)


def search(config: Config, layout: Layout, experiment: str, seed: int, query: str, k: int = 10) -> list[Hit]:
    """Ranked videos and the moment in each. For several queries make one `Searcher`. Errors: those of `Searcher`."""
    return Searcher(config, layout, experiment, seed).search(query, k)
