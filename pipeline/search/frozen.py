"""Search with the frozen encoder: no captions and no training, the best row of a video as CLIP sees it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError, StoreMissing
from pipeline.core.store import open_store
from pipeline.encoders.base import VideoEncoder
from pipeline.evaluation.zero_shot import encoder_of
from pipeline.search.engine import Engine
from pipeline.search.indices import index_of
from pipeline.search.tokens import Query, Rows, Shard, Tokens
from pipeline.video.picture import square

BRANCH = "rows"


class Frozen(Engine):
    """The joint space of the experiment's text encoder, maximum over rows, which stay on disk as they are stored.

    Errors: ConfigError when the text encoder has no images among the features, StoreMissing when no features are there.
    """

    def __init__(self, config: Config, experiment: str = "") -> None:
        settings = config.experiment(experiment or next(iter(config.experiments)))
        super().__init__(config, settings.text)
        if encoder_of(config, settings) is None:
            raise ConfigError(
                f"the frames were not encoded by {settings.text}, whose texts could be compared with them",
                where="features",
                fix=f"add {settings.text} to `features`, or search with a trained run",
            )
        self.name = f"zero-shot, {settings.text}"
        self.tokens, self._start, self._end = _stored(config, settings.text)
        self.ids = self.tokens.ids
        self.index = index_of(config, self.tokens, config.layout.root / "index" / settings.text, f"{config.dataset.name}-{settings.text}")

    def asked(self, query: str) -> Tensor:
        """The sentence vector, unit length. Shapes: [E]."""
        return self.asked_all([query])[0]

    def asked_all(self, queries: Sequence[str]) -> list[Tensor]:
        """The same of several, encoded together. Shapes: [E] each."""
        return [F.normalize(caption.sentence.float(), dim=-1) for caption in self.encoder.encode_texts(queries)]

    def query(self, asked: Tensor) -> Query:
        """The sentence vector, for the one branch there is."""
        return Query({BRANCH: asked.numpy()}, {BRANCH: 1.0})

    def scores(self, asked: Tensor) -> np.ndarray:
        """The best cosine of each video. Shapes: [V]. Source: docs/method.md 8.3."""
        return np.asarray(self.tokens.scan([self.query(asked)])[0])

    def rows(self, asked: Tensor, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cosine of every stored row. Shapes: as `Engine.rows`."""
        found = [(torch.from_numpy(self.tokens.of(video)[BRANCH]) @ asked).numpy() for video in chosen]
        shape = (len(chosen), max(map(len, found)))
        similarity, start, end = np.full(shape, -np.inf, np.float32), np.full(shape, np.nan), np.full(shape, np.nan)
        for i, (video, cosines) in enumerate(zip(chosen, found, strict=True)):
            place = slice(0, len(cosines))
            similarity[i, place], start[i, place], end[i, place] = cosines, self._start[video], self._end[video]
        return similarity, start, end

    def of_row(self, video: int, seconds: float) -> Tensor:
        """The stored row that covers an instant, unit length. Shapes: [E]."""
        rows, ends = self.tokens.of(video)[BRANCH], self._end[video]
        return torch.from_numpy(rows[int(np.clip(np.searchsorted(ends, seconds, side="right"), 0, len(rows) - 1))])

    @cached_property
    def durations(self) -> np.ndarray:  # type: ignore[override]
        """The end of the last row of each video. Shapes: [V] s."""
        return np.array([ends[-1] if len(ends) else np.nan for ends in self._end])

    def of_picture(self, rgb: np.ndarray) -> Tensor:
        """The picture as the encoder sees a frame, unit length. Shapes: uint8 [H, W, 3] -> [E]."""
        stream = self.config.network(self._text).stream
        seen = square(rgb, stream.size, resize=stream.resize, side=stream.side, interpolation=stream.interpolation, corner=stream.corner)
        return F.normalize(cast(VideoEncoder, self.encoder).encode(seen[None])[0].float().cpu(), dim=-1)


def _stored(config: Config, encoder: str) -> tuple[Tokens, list[np.ndarray], list[np.ndarray]]:
    """Every stored row of an encoder, mapped. Shapes: start, end: V arrays of the rows' s."""
    shards, start, end = [], [], []
    folder = config.layout.features(encoder, "*").parent
    for path in sorted(folder.glob("*.h5")):
        with open_store(path, stage="features", encoder=encoder, shard=path.stem) as store:
            if "features" not in store:
                continue  # a shard without a usable video
            data = store.ragged("features", lazy=True)
            values = store.mapped("features/values")
        length = np.diff(data.offsets)
        digests = [data.values.digest(data.rows(video)) for video in data.ids]
        shards.append(Shard(list(map(str, data.ids)), digests, {BRANCH: Rows(values, data.offsets[:-1], length, normalise=True)}))
        start += np.split(np.asarray(data.columns["start"]), data.offsets[1:-1])
        end += np.split(np.asarray(data.columns["end"]), data.offsets[1:-1])
    if not any(shard.ids for shard in shards):
        raise StoreMissing("no video has been encoded yet", where=folder, fix="run the workflow again")
    return Tokens(shards), start, end
