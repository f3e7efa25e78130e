"""Search: a typed sentence in, ranked videos out, and inside each the moment that answers it.

The videos of a run are encoded once and kept beside the checkpoint; a `Searcher` holds them and the text encoder, so that every query
after the first costs one sentence and one matrix product.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.clips.recipe import recipe_name
from pipeline.config.schema import Config
from pipeline.core.errors import DiskError, EncoderError, StoreDamaged, StoreMissing, StoreSchema
from pipeline.core.layout import Layout
from pipeline.core.lease import device as leased
from pipeline.core.progress import Meter
from pipeline.core.provenance import code_digest
from pipeline.core.store import content_digest, create, open_store, recipe_hash
from pipeline.encoders.base import TextEncoder, load_text
from pipeline.evaluation import moments
from pipeline.models.base import Encoded, Retriever, Words
from pipeline.models.checkpoint import load_model
from pipeline.ranking import data, gallery
from pipeline.ranking.split import normalised


@dataclass(frozen=True)
class Hit:
    """One answer: the video, its fused score, and the moment in it: `start`, `end` and the best instant in seconds (NaN unknown)."""

    video_id: str
    score: float
    start: float
    end: float
    best: float


@dataclass(frozen=True)
class Index:
    """Encoded videos.

    Shapes: `gallery` of V videos, as the model keeps them; `frame_count` [V] frame rows that are not padding; `start`, `end` [V, F] s of
    each frame row.
    """

    ids: list[str]
    gallery: Encoded
    frame_count: Tensor
    start: np.ndarray
    end: np.ndarray


class Searcher:
    """Answers queries with one trained run. Errors: StoreMissing when the run or its clips are not there; those of the text encoder."""

    def __init__(self, config: Config, layout: Layout, experiment: str, seed: int) -> None:
        self.settings = config.experiment(experiment)
        self._config, self._name = config, self.settings.text
        self.model, _, _ = load_model(layout.checkpoint(experiment, seed), experiment=experiment, seed=seed)
        self.index = open_index(config, layout, experiment, seed, self.model)

    @cached_property
    def encoder(self) -> TextEncoder:
        """The text encoder, loaded for the first query."""
        return load_text(self._config.encoders[self._name], "cpu", self._name)

    def encode(self, query: str) -> Encoded:
        """A sentence as the model encodes it, by way of the precision text is stored in, so that it equals a stored query's."""
        if not query.strip():
            raise EncoderError("the query is empty", fix="type a sentence about what happens in the video")
        states, sentence, cut = self.encoder.encode_texts([" ".join(query.split())])[0]
        read, what = (sentence, "sentence") if self.model.settings.reads_sentence else (states, "word")
        if read.shape[-1] != self.model.dims.text_dim:
            raise EncoderError(
                f"{self._name} gives {read.shape[-1]} values a {what}, the model was trained on {self.model.dims.text_dim}",
                fix="set `text` to the encoder of the training queries",
            )
        if cut or len(states) > self.model.settings.max_words:
            print("note: the query is longer than the encoder reads; its end is cut off", file=sys.stderr)
        words = normalised(states.half())[None, : self.model.settings.max_words]
        return gallery.encode_queries(self.model, [Words(words, torch.ones(1, words.shape[1]), sentence.half().float()[None])])

    def search(self, query: str, k: int = 10) -> list[Hit]:
        """The k best videos, best first. Errors: EncoderError for an empty query."""
        encoded, index = self.encode(query), self.index
        weights = self.settings.evaluation.fusion(self.model.branches)
        scores = gallery.score(self.model, encoded, index.gallery, weights).fused[0]
        best = torch.sort(scores, descending=True, stable=True).indices[: max(1, k)]
        asked = gallery.part(encoded, torch.zeros(len(best), dtype=torch.int64))
        similarity = gallery.locate(self.model, asked, index.gallery, best, index.frame_count).numpy()
        chosen = best.numpy()
        predicted = moments.windows(similarity, index.start[chosen], index.end[chosen], limit=1)
        row = similarity.argmax(1)
        middle = (index.start[chosen, row] + index.end[chosen, row]) / 2
        return [
            Hit(index.ids[video], float(scores[video]), spans[0][0], spans[0][1], float(instant))
            for video, spans, instant in zip(chosen.tolist(), predicted, middle, strict=True)
        ]


def open_run(config: Config, experiment: str = "", seed: int | None = None) -> Searcher:
    """A trained run; by default the first experiment and the first seed. Errors: those of `Searcher`."""
    chosen = config.seeds[0] if seed is None else seed
    return Searcher(config, config.layout, experiment or next(iter(config.experiments)), chosen)


def search(config: Config, layout: Layout, experiment: str, seed: int, query: str, k: int = 10) -> list[Hit]:
    """Ranked videos and the moment in each. For several queries make one `Searcher`. Errors: those of `Searcher`."""
    return Searcher(config, layout, experiment, seed).search(query, k)


def render(hits: list[Hit]) -> str:
    """One line per answer: rank, score, moment, video."""
    lines = []
    for rank, hit in enumerate(hits, start=1):
        span = "  time unknown   " if np.isnan(hit.start) else f"{_clock(hit.start)} - {_clock(hit.end)} (best {_clock(hit.best)})"
        lines.append(f"{rank:3}  {hit.score:.3f}  {span}  {hit.video_id}")
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes):2}:{rest:04.1f}"


def open_index(config: Config, layout: Layout, experiment: str, seed: int, model: Retriever) -> Index:
    """The run's encoded videos: read when they are of today's model, clips and code, else encoded and kept.

    Where they cannot be kept they are encoded for each search. Errors: StoreMissing when there are no clips; StoreError.
    """
    path, chosen = layout.run(experiment, seed) / "index.h5", config.experiment(experiment)
    folder = layout.clips(recipe_name(chosen), "*").parent
    shards = sorted(folder.glob("*.h5"))
    if not shards:
        raise StoreMissing("no video has been prepared for this run", where=folder, fix="run the workflow again")
    recipe = {
        "model": content_digest(layout.checkpoint(experiment, seed)),
        "clips": {file.stem: content_digest(file) for file in shards},
        "code": code_digest("pipeline.search.searcher", *chosen.model_code),
    }
    try:
        return _read(path, recipe_hash(recipe))
    except (StoreMissing, StoreSchema, StoreDamaged):
        index = _encode(config, path, shards, model)
    try:
        _keep(path, index, recipe)
    except DiskError as error:
        print(f"note: the encoded videos are not kept for the next search: {error.what} ({path.parent})", file=sys.stderr)
    return index


def _read(path: Path, made_by: str) -> Index:
    with open_store(path, stage="index", recipe_hash=made_by) as store:
        encoded = {name.removeprefix("gallery/"): torch.from_numpy(store.array(name)).float() for name in store.names("gallery")}
        count = torch.from_numpy(store.array("frame_count"))
        return Index([str(v) for v in store.array("ids")], encoded, count, store.array("start"), store.array("end"))


def _encode(config: Config, path: Path, shards: list[Path], model: Retriever) -> Index:
    """Every video of the shards, whatever its split, by way of float16: half the size on disk, and scores change by less than 0.001."""
    parts: list[Encoded] = []
    ids, count, start, end = [], [], [], []
    with leased(config.runtime.device, share=config.runtime.share_gpu) as device, Meter(len(shards), "encoding videos", "shard") as meter:
        model.to(device)
        for file in shards:
            videos = data.shard(file)
            if len(videos):
                encoded = gallery.encode_videos(model, videos.batches(gallery.VIDEOS, device, raw=model.settings.reads_raw_rows))
                parts.append({name: tensor.half().cpu() for name, tensor in encoded.items()})
                ids += videos.ids
                count.append(videos.frame_count)
                start.append(videos.start)
                end.append(videos.end)
            meter.update()
        model.to("cpu")
    if not parts:
        raise StoreMissing("the shards hold no usable video", where=path.parent, fix="see quarantine.tsv for the reasons")
    joined = {name: torch.cat([encoded[name] for encoded in parts]).float() for name in parts[0]}
    return Index(ids, joined, torch.cat(count), np.concatenate(start), np.concatenate(end))


def _keep(path: Path, index: Index, recipe: Mapping[str, Any]) -> None:
    with create(path, stage="index", recipe=recipe) as writer:
        writer.array("ids", np.asarray(index.ids, dtype=object))
        for name, tensor in index.gallery.items():
            writer.array(f"gallery/{name}", tensor.half().numpy())
        writer.array("frame_count", index.frame_count.numpy())
        writer.array("start", index.start)
        writer.array("end", index.end)
