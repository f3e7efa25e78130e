"""Search with the frozen encoder: no captions and no training, the best row of a video as CLIP sees it."""

from __future__ import annotations

from collections.abc import Sequence
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
from pipeline.video.picture import square

ROWS_AT_ONCE = 1 << 18


class Frozen(Engine):
    """The joint space of the experiment's text encoder, maximum over rows; kept in memory in float16, as stored.

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
        self.ids, self._values, self._offsets, self._start, self._end = _stored(config, settings.text)

    def asked(self, query: str) -> Tensor:
        """The sentence vector, unit length. Shapes: [E]."""
        return self.asked_all([query])[0]

    def asked_all(self, queries: Sequence[str]) -> list[Tensor]:
        """The same of several, encoded together. Shapes: [E] each."""
        return [F.normalize(caption.sentence.float(), dim=-1) for caption in self.encoder.encode_texts(queries)]

    def scores(self, asked: Tensor) -> np.ndarray:
        """The best cosine of each video. Shapes: [V]. Source: docs/method.md 8.3."""
        return np.maximum.reduceat(self._cosines(slice(0, len(self._values)), asked), self._offsets[:-1])

    def rows(self, asked: Tensor, chosen: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The cosine of every stored row. Shapes: as `Engine.rows`."""
        lengths = self._offsets[np.asarray(chosen) + 1] - self._offsets[np.asarray(chosen)]
        shape = (len(chosen), int(lengths.max()))
        similarity, start, end = np.full(shape, -np.inf, np.float32), np.full(shape, np.nan), np.full(shape, np.nan)
        for i, video in enumerate(chosen):
            place = slice(self._offsets[video], self._offsets[video + 1])
            similarity[i, : lengths[i]] = self._cosines(place, asked)
            start[i, : lengths[i]], end[i, : lengths[i]] = self._start[place], self._end[place]
        return similarity, start, end

    def of_row(self, video: int, seconds: float) -> Tensor:
        """The stored row that covers an instant, unit length. Shapes: [E]."""
        first, last = int(self._offsets[video]), int(self._offsets[video + 1])
        row = first + int(np.clip(np.searchsorted(self._end[first:last], seconds, side="right"), 0, last - first - 1))
        return F.normalize(self._values[row].float(), dim=-1)

    @property
    def durations(self) -> np.ndarray:
        """The end of the last row of each video. Shapes: [V] s."""
        return self._end[self._offsets[1:] - 1]

    def of_picture(self, rgb: np.ndarray) -> Tensor:
        """The picture as the encoder sees a frame, unit length. Shapes: uint8 [H, W, 3] -> [E]."""
        stream = self.config.network(self._text).stream
        seen = square(rgb, stream.size, resize=stream.resize, side=stream.side, interpolation=stream.interpolation, corner=stream.corner)
        return F.normalize(cast(VideoEncoder, self.encoder).encode(seen[None])[0].float().cpu(), dim=-1)

    def _cosines(self, place: slice, asked: Tensor) -> np.ndarray:
        parts = self._values[place].split(ROWS_AT_ONCE)
        return torch.cat([F.normalize(part.float(), dim=-1) @ asked for part in parts]).numpy()


def _stored(config: Config, encoder: str) -> tuple[list[str], Tensor, np.ndarray, np.ndarray, np.ndarray]:
    """Every stored row of an encoder. Shapes: ids V; values [N, E] float16; offsets [V+1]; start, end [N] s."""
    ids: list[str] = []
    values, lengths, start, end = [], [], [], []
    folder = config.layout.features(encoder, "*").parent
    for path in sorted(folder.glob("*.h5")):
        with open_store(path, stage="features", encoder=encoder, shard=path.stem) as store:
            if "features" not in store:
                continue  # a shard without a usable video
            data = store.ragged("features")
            ids += [str(video) for video in data.ids]
            values.append(torch.from_numpy(np.asarray(data.values, dtype=np.float16)))
            lengths.append(np.diff(data.offsets))
            start.append(np.asarray(data.columns["start"]))
            end.append(np.asarray(data.columns["end"]))
    if not ids:
        raise StoreMissing("no video has been encoded yet", where=folder, fix="run the workflow again")
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))])
    return ids, torch.cat(values), offsets, np.concatenate(start), np.concatenate(end)
