"""What the workflow needs to know while it is being parsed: shards, streams, recipe hashes, code digests. No torch, no video library."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import recipes, resharding
from pipeline.clips.recipe import recipe_name
from pipeline.config import Config
from pipeline.datasets.sources import Source, videos
from pipeline.encoders.weights import inventory
from pipeline.errors import DatasetError
from pipeline.layout import Layout
from pipeline.provenance import FileCache, code_digest, content, sha256
from pipeline.sections.inputs import Imported
from pipeline.sections.method import Experiment
from pipeline.shards import ShardStore, assign
from pipeline.store import recipe_hash
from pipeline.streams import Stream, stream_of, streams

# The modules whose code, with everything they import, decides a stage's result.
CODE = {
    "world": ["pipeline.demo.stage"],
    "annotations": ["pipeline.datasets.stage"],
    "frames": ["pipeline.video.stage"],
    "features": ["pipeline.video.stage", "pipeline.encoders.stage"],
    "text": ["pipeline.encoders.stage"],
    "quarantine": ["pipeline.video.quarantine"],
    "clips": ["pipeline.clips.stage"],
    "train": ["pipeline.training.stage"],
    "evaluate": ["pipeline.evaluation.stage"],
    "table": ["pipeline.evaluation.table"],
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
        # `prvr import` knows ids only, and shards of imported and computed features must hold the same videos.
        looked_at = not any(self.imported(name) for name in self.video_encoders)
        content = {i: source.fingerprint for i, source in sources.items()} if looked_at else None
        return {name: [sources[i] for i in ids] for name, ids in assign(sources, self.config.video.shard_size, content).items()}

    @functools.cached_property
    def streams(self) -> dict[str, Stream]:
        return streams(self.config)

    @functools.cached_property
    def _memo(self) -> dict[tuple, Any]:
        return {}

    def _once(self, key: tuple, make: Callable[[], Any]) -> Any:
        # A large collection asks for the same recipe once a shard, and a recipe looks at weights on disk.
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]

    def experiment(self, name: str) -> Experiment:
        """The named experiment, put together once."""
        found: Experiment = self._once(("experiment", name), lambda: self.config.experiment(name))
        return found

    @functools.cached_property
    def video_encoders(self) -> list[str]:
        """Encoders whose features some experiment uses, in the order they are configured."""
        used = {name for experiment in self.config.experiments for name in self.experiment(experiment).features}
        return [name for name in self.config.encoders if name in used]

    @property
    def computed(self) -> list[str]:
        """Encoders whose features jobs make."""
        return [name for name in self.config.encoders if not self.imported(name)]

    def imported(self, encoder: str) -> bool:
        """Whether an encoder's files come from a published bundle, so that no job makes them."""
        return isinstance(self.config.encoders[encoder], Imported)

    def features_file(self, encoder: str, shard: str) -> Path:
        """What a job waits for before it reads the features: the manifest of the job that makes them, or the imported store itself."""
        return self.layout.features(encoder, shard) if self.imported(encoder) else self.layout.features_manifest(encoder, shard)

    def text_file(self, encoder: str) -> Path:
        """The same for query states."""
        return self.layout.text(encoder) if self.imported(encoder) else self.layout.text_manifest(encoder)

    @property
    def annotation_files(self) -> list[Path]:
        """The files the annotations are read from; the demo's are made by its own rule."""
        place = Path(self.config.dataset.annotations)
        if self.config.dataset.kind in ("demo", "bundle") or not self.config.dataset.annotations:
            return []
        return sorted(p for p in place.iterdir() if p.is_file()) if place.is_dir() else [place]

    def stream(self, encoder: str) -> str:
        return stream_of(self.config.network(encoder)).name

    def texts(self, experiment: str) -> list[str]:
        """The text encoders of an experiment: of the queries, and of the teacher."""
        chosen = self.experiment(experiment)
        return list(dict.fromkeys([chosen.text, chosen.teacher or chosen.text]))

    def clips(self, experiment: str) -> str:
        """Folder of an experiment's clips: experiments with the same features and merging share it."""
        return str(self._once(("clips", experiment), lambda: recipe_name(self.experiment(experiment))))

    def owner(self, recipe: str) -> str:
        """The first experiment whose clips lie in `recipe`."""
        return next(name for name in self.config.models if self.clips(name) == recipe)

    def content(self, shard: str) -> str:
        """Digest of the videos of a shard: their ids and contents."""
        pairs = [(source.video_id, source.fingerprint) for source in self.shards[shard]]
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12]

    def wanted(self, shard: str) -> set[str]:
        """The videos of a shard that some encoder has no current features of, of ablations and sweeps too: one job decodes for all."""
        missing: set[str] = set()
        used = {name for model in self.config.models for name in self.experiment(model).features}
        count = len(self.shards)
        before = self._once(("before",), lambda: resharding.recorded(self.layout.shards) or count)
        for encoder in sorted(name for name in used if not self.imported(name)):
            recipe, path = recipes.features(self.config, encoder), self.layout.features(encoder, shard)
            also = resharding.donors(path.parent, int(shard), count, before)
            store = ShardStore(path, stage="features", recipe=recipe, group="features", also=also)
            missing |= {s.video_id for s in self.shards[shard] if not store.has(recipes.key(s.fingerprint, recipe))}
        return missing

    def missing_weights(self) -> list[str]:
        """What is wrong with the weights of the encoders that have something left to encode; empty when all are here."""
        used = {e for e in self.video_encoders if not self.imported(e) and not all(self.current(e, s) for s in self.shards)}
        texts = {text for experiment in self.config.experiments for text in self.texts(experiment)}
        used |= {text for text in texts if not self.text_file(text).exists()}
        return [needed.problem for needed in inventory(self.config) if needed.encoder in used and needed.problem]

    def params(self, stage: str, **of: Any) -> dict[str, str]:
        """The params of one job: what re-runs it when it changes.

        Each value is a digest: `recipe` of the configuration it uses, `code` of the modules it runs, `data` of the files it reads
        from outside, `after` of the params of the jobs before it. Together they decide the result, so the rules can ignore times.
        """
        key = ("params", stage, *of.values())
        if key in self._memo:
            return self._memo[key]
        found = {"code": self._once(("code", stage), lambda: code_digest(*CODE[stage]))}
        recipe, data, after = getattr(self, f"_{stage}")(**of)
        for name, value in (("recipe", recipe), ("data", data), ("after", after)):
            if value:
                found[name] = recipe_hash({name: value})
        self._memo[key] = found
        return found

    def trace(self, stage: str, **of: Any) -> str:
        """One digest of a job's params."""
        return recipe_hash(self.params(stage, **of))

    def current(self, encoder: str, shard: str) -> bool:
        """Whether the features of a shard are stored and were made by exactly this job, so that no frames are needed."""
        manifest = self.layout.features_manifest(encoder, shard)
        if not manifest.exists() or not self.layout.features(encoder, shard).exists():
            return False
        return json.loads(manifest.read_text()).get("trace") == self.trace("features", encoder=encoder, shard=shard)

    # One function per stage: (recipe, data from outside, traces of the jobs before).

    def _world(self) -> tuple[Any, Any, Any]:
        return self.config.demo.model_dump(), None, None

    def _annotations(self) -> tuple[Any, Any, Any]:
        cache = FileCache(self.layout.fingerprints)
        files = {path.name: cache.get(path, sha256) for path in self.annotation_files}
        if self.config.dataset.kind == "bundle":
            files = {"annotations.h5": cache.get(self.layout.annotations, sha256)}
        ids = sorted(source.video_id for shard in self.shards.values() for source in shard)
        return self.config.dataset.model_dump(exclude={"name", "videos", "annotations"}), [files, ids], self._made()

    def _frames(self, shard: str) -> tuple[Any, Any, Any]:
        recipe = self._once(("frames",), lambda: recipes.frames(self.config, self.streams))
        return recipe, self._once(("content", shard), lambda: self.content(shard)), self._made()

    def _features(self, encoder: str, shard: str) -> tuple[Any, Any, Any]:
        if self.imported(encoder):
            return None, self._imported_content(self.layout.features(encoder, shard)), None
        recipe = self._once(("features", encoder), lambda: recipes.features(self.config, encoder))
        return recipe, self._once(("content", shard), lambda: self.content(shard)), self._made()

    def _text(self, encoder: str) -> tuple[Any, Any, Any]:
        if self.imported(encoder):
            return None, self._imported_content(self.layout.text(encoder)), None
        return recipes.text(self.config, encoder), None, self.trace("annotations")

    def _quarantine(self) -> tuple[Any, Any, Any]:
        return {"max_bad_fraction": self.config.video.max_bad_fraction}, None, self._all_features()

    def _all_features(self) -> list[str]:
        return [self.trace("features", encoder=e, shard=s) for e in self.video_encoders for s in self.shards]

    def _clips(self, recipe: str, shard: str) -> tuple[Any, Any, Any]:
        name = self.owner(recipe)
        encoders = self.experiment(name).features
        made_by = self._once(("clips of", name), lambda: recipes.clips(self.config, name))
        return made_by, None, [self.trace("features", encoder=e, shard=shard) for e in encoders]

    def _train(self, experiment: str, seed: str) -> tuple[Any, Any, Any]:
        recipe, texts = self.clips(experiment), self.texts(experiment)
        before = [self.trace("clips", recipe=recipe, shard=s) for s in self.shards] + [self.trace("text", encoder=t) for t in texts]
        return recipes.training(self.config, experiment, int(seed)), None, [*before, self.trace("annotations")]

    def _evaluate(self, experiment: str, seed: str) -> tuple[Any, Any, Any]:
        return (
            recipes.evaluation(self.config, experiment),
            None,
            [*self._all_features(), self.trace("train", experiment=experiment, seed=seed)],
        )

    def _table(self, target: str) -> tuple[Any, Any, Any]:
        return None, None, [self.trace("evaluate", experiment=e, seed=str(s)) for e, s in self.config.group(target)]

    def _imported_content(self, path: Path) -> str:
        if not path.exists():
            raise DatasetError("an imported encoder has no such file", where=path, fix="put it there with `prvr import`")
        return FileCache(self.layout.fingerprints).get(path, content)

    def _made(self) -> Any:
        return self.trace("world") if self.config.dataset.kind == "demo" else None


def cuda_visible() -> bool:
    """Whether this machine has an NVIDIA device, without importing torch."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != "" and any(Path(p).exists() for p in ("/dev/nvidia0", "/dev/nvidiactl"))


def gpus_per_job(config: Config) -> int:
    """1 when encoder and training jobs use CUDA, else 0."""
    return int(config.runtime.device == "cuda" or (config.runtime.device == "auto" and cuda_visible()))
