"""Search with a trained run: a typed sentence in, ranked videos out, and inside each the moment that answers it.

The videos are encoded once and kept beside the checkpoint; a `Searcher` holds them and the text encoder, so that every query
after the first costs one sentence and one matrix product.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

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
from pipeline.search.engine import Engine
from pipeline.search.index import open_index


class Searcher(Engine):
    """Answers queries with one trained run. Errors: StoreMissing when the run or its clips are not there; those of the text encoder."""

    def __init__(self, config: Config, layout: Layout, experiment: str, seed: int) -> None:
        self.settings = config.experiment(experiment)
        super().__init__(config, self.settings.text)
        self.name, self.trained = f"{experiment}, seed {seed}", (experiment, seed)
        self.model, _, _ = load_model(layout.checkpoint(experiment, seed), experiment=experiment, seed=seed)
        self.index = open_index(config, layout, experiment, seed, self.model)
        self.ids = self.index.ids

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

    def scores(self, asked: Encoded | Tensor) -> np.ndarray:
        """The fused scores of the model; of a moment, the cosine of the most alike frame. Shapes: [V]."""
        if isinstance(asked, Tensor):
            return self._alike(asked, slice(None)).max(1)
        weights = self.settings.evaluation.fusion(self.model.branches)
        return np.asarray(gallery.score(self.model, asked, self.index.gallery, weights).fused[0])

    def rows(self, asked: Encoded | Tensor, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How well the model finds every frame row to answer. Shapes: as `Engine.rows`."""
        if isinstance(asked, Tensor):
            return self._alike(asked, list(chosen)), self.index.start[chosen], self.index.end[chosen]
        videos = torch.tensor(chosen)
        repeated = gallery.part(asked, torch.zeros(len(chosen), dtype=torch.int64))
        similarity = gallery.locate(self.model, repeated, self.index.gallery, videos, self.index.frame_count).numpy()
        return similarity, self.index.start[chosen], self.index.end[chosen]

    @property
    def durations(self) -> np.ndarray:
        """The end of the last frame row of each video. Shapes: [V] s."""
        return np.asarray(np.nanmax(self.index.end, axis=1))

    def of_row(self, video: int, seconds: float) -> Tensor:
        """The model's token of the frame row that covers an instant. Shapes: [H]. Errors: ConfigError where it keeps none."""
        row = int(np.clip(np.searchsorted(self.index.end[video], seconds, side="right"), 0, int(self.index.frame_count[video]) - 1))
        return self._tokens([video])[0, row]

    def _tokens(self, chosen: slice | list[int]) -> Tensor:
        """The model's token of every frame row. Shapes: n videos -> [n, F, H]."""
        gallery = self.index.gallery
        if "frames" in gallery:
            return gallery["frames"][chosen]
        if "clips" in gallery and "frame_to_clip" in gallery:
            place = gallery["frame_to_clip"][chosen].long()
            return gallery["clips"][chosen].take_along_dim(place[..., None], 1)
        raise ConfigError(
            f"{self.name} is a model that keeps no token of a frame, so moments cannot be compared with moments",
            where="model",
            fix="ask the frozen encoder (--zero-shot)",
        )

    def _alike(self, token: Tensor, chosen: slice | list[int]) -> np.ndarray:
        """The cosine of a token with every frame row, minus infinity at padding. Shapes: n videos -> [n, F]."""
        tokens = self._tokens(chosen)
        cosines = token_cosines(token[None].expand(len(tokens), -1), F.normalize(tokens, dim=-1))
        return cosines.masked_fill(~real_rows(self.index.frame_count[chosen], tokens.shape[1]), float("-inf")).numpy()


def open_run(config: Config, experiment: str = "", seed: int | None = None) -> Searcher:
    """A trained run; by default the first experiment and the first seed. Errors: those of `Searcher`."""
    chosen = config.seeds[0] if seed is None else seed
    return Searcher(config, config.layout, experiment or next(iter(config.experiments)), chosen)


def search(config: Config, layout: Layout, experiment: str, seed: int, query: str, k: int = 10) -> list[Hit]:
    """Ranked videos and the moment in each. For several queries make one `Searcher`. Errors: those of `Searcher`."""
    return Searcher(config, layout, experiment, seed).search(query, k)
