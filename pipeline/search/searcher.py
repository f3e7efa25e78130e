"""Search with a trained run: a typed sentence in, ranked videos out, and inside each the moment that answers it.

The videos are encoded once and kept beside the checkpoint; a `Searcher` holds them and the text encoder, so that every query
after the first costs one sentence and one matrix product.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.config.schema import Config
from pipeline.core.errors import EncoderError
from pipeline.core.layout import Layout
from pipeline.models.base import Encoded, Words
from pipeline.models.checkpoint import load_model
from pipeline.ranking import gallery
from pipeline.ranking.split import normalised
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
        states, sentence, cut = self.encoder.encode_texts([query])[0]
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

    def scores(self, asked: Encoded) -> np.ndarray:
        """The fused scores of the model. Shapes: [V]."""
        weights = self.settings.evaluation.fusion(self.model.branches)
        return np.asarray(gallery.score(self.model, asked, self.index.gallery, weights).fused[0])

    def rows(self, asked: Encoded, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How well the model finds every frame row to answer. Shapes: as `Engine.rows`."""
        videos = torch.tensor(chosen)
        repeated = gallery.part(asked, torch.zeros(len(chosen), dtype=torch.int64))
        similarity = gallery.locate(self.model, repeated, self.index.gallery, videos, self.index.frame_count).numpy()
        return similarity, self.index.start[chosen], self.index.end[chosen]


def open_run(config: Config, experiment: str = "", seed: int | None = None) -> Searcher:
    """A trained run; by default the first experiment and the first seed. Errors: those of `Searcher`."""
    chosen = config.seeds[0] if seed is None else seed
    return Searcher(config, config.layout, experiment or next(iter(config.experiments)), chosen)


def search(config: Config, layout: Layout, experiment: str, seed: int, query: str, k: int = 10) -> list[Hit]:
    """Ranked videos and the moment in each. For several queries make one `Searcher`. Errors: those of `Searcher`."""
    return Searcher(config, layout, experiment, seed).search(query, k)
