"""The videos of a trained run as its model encodes them, kept beside the checkpoint: what every query after the first is compared with.

One file for each shard of clips. A video is encoded once: again only when its clips, the model or the code are others, and by itself, so
that what is kept of it does not depend on which other videos there are.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.clips.recipe import recipe_name
from pipeline.config.schema import Config
from pipeline.core.errors import DiskError, StoreDamaged, StoreMissing, StoreSchema
from pipeline.core.layout import Layout
from pipeline.core.lease import device as leased
from pipeline.core.progress import Meter
from pipeline.core.provenance import code_digest
from pipeline.core.store import content_digest, create, open_store
from pipeline.core.store.mapped import HeldRows, MappedRows
from pipeline.models.base import Encoded, Retriever
from pipeline.ranking import gallery, shards
from pipeline.ranking.split import ARRAYS, TIMES, PooledVideos
from pipeline.ranking.windows import Windows

STAGE, KEPT = "index", ("frame_count", "start", "end")


@dataclass(frozen=True)
class EncodedShard:
    """Some encoded videos. `digests`: of the clips they were made from.

    Shapes: `gallery` of n videos, or windows of long ones, as the model keeps them, float16; `ids` [n] the video of each; `frame_count` [n]
    frame rows that are not padding; `start`, `end` [n, F] s of each frame row.
    """

    ids: list[str]
    digests: list[str]
    gallery: Mapping[str, MappedRows | HeldRows]
    frame_count: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def encoded(self, chosen: slice = slice(None)) -> Encoded:
        """Neighbouring videos as the model compares them, in float32."""
        return {name: torch.from_numpy(np.asarray(rows[chosen])).float() for name, rows in self.gallery.items()}


@dataclass(frozen=True)
class Index:
    """Encoded videos, mapped; long ones in windows, U in all. `added`: how many were encoded when it was opened."""

    shards: list[EncodedShard]
    added: int = 0

    @cached_property
    def ids(self) -> list[str]:
        """The videos, in the order of all shapes [V]."""
        return self.windows.ids

    @cached_property
    def windows(self) -> Windows:
        """Which of what is encoded are windows of which video."""
        return Windows([video for shard in self.shards for video in shard.ids])

    @cached_property
    def frame_count(self) -> Tensor:
        """Shapes: [U]."""
        return torch.from_numpy(np.concatenate([shard.frame_count for shard in self.shards]))

    @cached_property
    def start(self) -> np.ndarray:
        """Shapes: [U, F] s."""
        return np.concatenate([shard.start for shard in self.shards])

    @cached_property
    def end(self) -> np.ndarray:
        """Shapes: [U, F] s."""
        return np.concatenate([shard.end for shard in self.shards])

    def part(self, chosen: Sequence[int]) -> Encoded:
        """Some windows. Shapes: n windows -> [n, ...] each."""
        first = np.cumsum([0, *(len(shard.ids) for shard in self.shards)])
        parts = []
        for window in chosen:
            number = int(np.searchsorted(first, window, "right")) - 1
            place = int(window) - int(first[number])
            parts.append(self.shards[number].encoded(slice(place, place + 1)))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def open_index(config: Config, layout: Layout, experiment: str, seed: int, model: Retriever) -> Index:
    """The run's encoded videos: those kept of today's model, clips and code, and the others encoded and kept.

    Where they cannot be kept they are encoded for each search. Errors: StoreMissing when there are no clips; StoreError.
    """
    chosen = config.experiment(experiment)
    clips = layout.clips(recipe_name(chosen), "*").parent
    files = sorted(clips.glob("*.h5"))
    if not files:
        raise StoreMissing("no video has been prepared for this run", where=clips, fix="run the workflow again")
    made_by = {
        "model": content_digest(layout.checkpoint(experiment, seed)),
        "code": code_digest("pipeline.search.index", *chosen.model_code),
    }
    folder = folder_of(layout, experiment, seed)
    recipes = {file: {**made_by, "clips": content_digest(file)} for file in files}
    kept = {path.name: read for path in sorted(folder.glob("*.h5")) if (read := _read(path, made_by)) is not None}
    found: dict[Path, EncodedShard | None] = dict.fromkeys(files)
    for file in files:
        shard, clips_of = kept.get(file.name, (None, ""))
        if clips_of == recipes[file]["clips"]:
            found[file] = shard
    todo = [file for file, shard in found.items() if shard is None]
    added = 0
    if todo:
        known = {digest: (shard, i) for shard, _ in kept.values() for i, digest in enumerate(shard.digests)}
        with leased(config.runtime.device, share=config.runtime.share_gpu) as device, Meter(len(todo), "encoding videos", "shard") as meter:
            model.to(device)
            for file in todo:
                found[file], count = _shard(file, model, device, known)
                added += count
                meter.update()
            model.to("cpu")
        _keep(folder, {file: (shard, recipes[file]) for file in todo if (shard := found[file]) is not None})
    for path in folder.glob("*.h5"):
        if clips / path.name not in found:
            path.unlink()  # its videos went, or are in another shard
    shards = [shard for shard in found.values() if shard is not None and shard.ids]
    if not shards:
        raise StoreMissing("the shards hold no usable video", where=folder, fix="see quarantine.tsv for the reasons")
    return Index(shards, added)


def folder_of(layout: Layout, experiment: str, seed: int) -> Path:
    """Where the index of a run lies."""
    return layout.run(experiment, seed) / "index"


def _read(path: Path, made_by: Mapping[str, Any]) -> tuple[EncodedShard, str] | None:
    """A kept shard and the digest of the clips it was made from, when it is whole and of this model and code; None when it is not."""
    try:
        with open_store(path, stage=STAGE) as store:
            recipe = store.attrs["recipe"]
            if any(recipe.get(key) != value for key, value in made_by.items()):
                return None
            encoded = {name.removeprefix("gallery/"): store.mapped(name) for name in store.names("gallery")}
            for rows in encoded.values():
                rows.check()
            ids, digests = ([str(text) for text in store.array(name)] for name in ("ids", "digests"))
            return EncodedShard(ids, digests, encoded, *(store.array(name) for name in KEPT)), str(recipe.get("clips", ""))
    except (StoreMissing, StoreSchema, StoreDamaged):
        return None


def _shard(file: Path, model: Retriever, device: torch.device, known: Mapping[str, tuple[EncodedShard, int]]) -> tuple[EncodedShard, int]:
    """Every video of a shard of clips, whatever its split, and how many had to be encoded.

    By way of float16: half the size on disk, and scores change by less than 0.001.
    """
    videos = shards.whole(file)
    digests = [_digest(videos, i) for i in range(len(videos))]
    parts, added = [], 0
    for i, digest in enumerate(digests):
        if digest in known:
            shard, place = known[digest]
            parts.append({name: np.asarray(rows[place : place + 1]) for name, rows in shard.gallery.items()})
        else:
            some = videos.gather(slice(i, i + 1), device, raw=model.settings.reads_raw_rows)
            encoded = gallery.encode_videos(model, [some])
            parts.append({name: tensor.half().cpu().numpy() for name, tensor in encoded.items()})
            added += 1
    joined = {name: HeldRows(np.concatenate([part[name] for part in parts])) for name in parts[0]} if parts else {}
    return EncodedShard(list(videos.ids), digests, joined, videos.frame_count.numpy(), videos.start, videos.end), added


def _digest(videos: PooledVideos, i: int) -> str:
    """The digest of all that is known of a video but its name."""
    made = hashlib.sha256()
    for values in [*(getattr(videos, name)[i].numpy() for name in ARRAYS), *(getattr(videos, name)[i] for name in TIMES)]:
        made.update(f"{values.dtype}{values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return made.hexdigest()[:24]


def _keep(folder: Path, shards: Mapping[Path, tuple[EncodedShard, Mapping[str, Any]]]) -> None:
    try:
        for file, (shard, recipe) in shards.items():
            with create(folder / file.name, stage=STAGE, recipe=recipe) as writer:
                writer.array("ids", np.asarray(shard.ids, dtype=object))
                writer.array("digests", np.asarray(shard.digests, dtype=object))
                for name, rows in shard.gallery.items():
                    writer.array(f"gallery/{name}", rows[:])
                for name in KEPT:
                    writer.array(name, getattr(shard, name))
    except DiskError as error:
        print(f"note: the encoded videos are not kept for the next search: {error.what} ({folder})", file=sys.stderr)
