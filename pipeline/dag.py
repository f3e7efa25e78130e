"""What the workflow needs to know while it is being parsed: shards, streams, recipe hashes, code digests. No torch, no video library."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import recipes
from pipeline.clips.recipe import recipe_name
from pipeline.config import Config
from pipeline.datasets.sources import Source, videos
from pipeline.layout import Layout
from pipeline.provenance import code_digest
from pipeline.shards import assign
from pipeline.store import recipe_hash, write_json
from pipeline.streams import Stream, stream_of, streams

STAGES = {
    "world": "pipeline.demo.stage",
    "annotations": "pipeline.datasets.stage",
    "frames": "pipeline.video.stage",
    "features": "pipeline.encoders.stage",
    "text": "pipeline.encoders.stage",
    "clips": "pipeline.clips.stage",
    "train": "pipeline.training.stage",
    "evaluate": "pipeline.evaluation.stage",
    "table": "pipeline.evaluation.table",
}


@dataclass(frozen=True)
class Dag:
    """One configuration's jobs."""

    config: Config
    layout: Layout

    @classmethod
    def of(cls, config: Config) -> Dag:
        return cls(config, Layout.of(config))

    @functools.cached_property
    def shards(self) -> dict[str, list[Source]]:
        """shard -> its videos."""
        sources = {source.video_id: source for source in videos(self.config, self.layout)}
        return {name: [sources[i] for i in ids] for name, ids in assign(sources, self.config.video.shard_size).items()}

    @functools.cached_property
    def streams(self) -> dict[str, Stream]:
        return streams(self.config)

    @property
    def video_encoders(self) -> list[str]:
        """Encoders whose features some experiment uses, in the order they are configured."""
        used = {name for experiment in self.config.experiments for name in self.config.experiment(experiment).features}
        return [name for name in self.config.encoders if name in used]

    @property
    def annotation_files(self) -> list[Path]:
        """The files the annotations are read from; the demo's are made by its own rule."""
        place = Path(self.config.dataset.annotations)
        if self.config.dataset.kind == "demo" or not self.config.dataset.annotations:
            return []
        return sorted(p for p in place.iterdir() if p.is_file()) if place.is_dir() else [place]

    def stream(self, encoder: str) -> str:
        return stream_of(self.config.encoders[encoder]).name

    def texts(self, experiment: str) -> list[str]:
        """The text encoders of an experiment: of the queries, and of the teacher."""
        chosen = self.config.experiment(experiment)
        return list(dict.fromkeys([chosen.text, chosen.teacher or chosen.text]))

    def clips(self, experiment: str) -> str:
        """Folder of an experiment's clips: experiments with the same features and merging share it."""
        return recipe_name(self.config.experiment(experiment))

    def owner(self, recipe: str) -> str:
        """The first experiment whose clips lie in `recipe`."""
        return next(name for name in self.config.experiments if self.clips(name) == recipe)

    def content(self, shard: str) -> str:
        """Digest of the videos of a shard: their ids and contents."""
        pairs = [(source.video_id, source.fingerprint) for source in self.shards[shard]]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12]

    def wanted(self, shard: str) -> set[str]:
        """The videos of a shard that some encoder has no current features of."""
        from pipeline.shards import ShardStore

        missing: set[str] = set()
        for encoder in self.video_encoders:
            recipe = recipes.features(self.config, encoder)
            store = ShardStore(self.layout.features(encoder, shard), stage="features", recipe=recipe, group="features")
            missing |= {s.video_id for s in self.shards[shard] if not store.has(s.video_id, recipes.key(s.fingerprint, recipe))}
        return missing

    def params(self, stage: str, **of: Any) -> dict[str, str]:
        """What re-runs a job of `stage` when it changes: its recipe, the content of its shard, its code, and a store that went missing."""
        recipe: dict[str, Any] = {}
        code, watched = [STAGES[stage]], None
        match stage:
            case "world":
                recipe = self.config.demo.model_dump()
            case "annotations":
                recipe = {"dataset": self.config.dataset.model_dump(exclude={"name"}), "videos": [(s.video_id, s.fingerprint) for v in self.shards.values() for s in v]}
            case "frames":
                recipe = recipes.frames(self.config, self.streams)
            case "features":
                recipe, watched = recipes.features(self.config, of["encoder"]), self.layout.features(of["encoder"], of["shard"])
                code.append(STAGES["frames"])
            case "text":
                recipe, watched = recipes.text(self.config, of["encoder"]), self.layout.text(of["encoder"])
            case "clips":
                recipe = recipes.clips(self.config, self.owner(of["recipe"]))
            case "train":
                recipe = recipes.training(self.config, of["experiment"], of["seed"])
            case "evaluate":
                recipe = recipes.evaluation(self.config, of["experiment"])
        found = {"recipe": recipe_hash(recipe), "code": code_digest(*code)}
        if "shard" in of:
            found["content"] = self.content(of["shard"])
        if watched is not None:
            # The declared output is a manifest; without this a deleted store would go unnoticed until a reader fails.
            found["store"] = "" if watched.exists() or not watched.with_suffix(".json").exists() else "missing"
        return found


def publish_config(config: Config, values: dict[str, Any]) -> Path:
    """Write the merged configuration where jobs read it; the name holds its hash, so two runs never overwrite each other's."""
    path = Path(config.results) / ".config" / f"{recipe_hash(values)}.json"
    if not path.exists():
        write_json(path, values)
    return path


def cuda_visible() -> bool:
    """Whether this machine has an NVIDIA device, without importing torch."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != "" and any(Path(p).exists() for p in ("/dev/nvidia0", "/dev/nvidiactl"))


def gpus_per_job(config: Config) -> int:
    """1 when encoder and training jobs use CUDA, else 0."""
    return int(config.runtime.device == "cuda" or (config.runtime.device == "auto" and cuda_visible()))
