"""The videos of a trained run as its model encodes them, kept beside the checkpoint: what every query after the first is compared with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
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
from pipeline.core.store import content_digest, create, open_store, recipe_hash
from pipeline.models.base import Encoded, Retriever
from pipeline.ranking import data, gallery


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
        "code": code_digest("pipeline.search.index", *chosen.model_code),
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
