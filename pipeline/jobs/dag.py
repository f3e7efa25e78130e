"""What the workflow needs to know of its jobs while it is being parsed: what each of them depends on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pipeline.config.schema import Config
from pipeline.core.errors import DatasetError
from pipeline.core.provenance import FileCache, code_digest, content, sha256
from pipeline.core.store import recipe_hash
from pipeline.encoders.weights import inventory
from pipeline.jobs import recipes
from pipeline.jobs.collection import Collection

# The modules whose code, with everything they import, decides a stage's result.
CODE = {
    "world": ["pipeline.demo.stage"],
    "annotations": ["pipeline.datasets.stage"],
    "frames": ["pipeline.video.stage"],
    "features": ["pipeline.video.stage"],  # and the modules of the encoder's kind
    "text": [],  # those alone
    "quarantine": ["pipeline.video.quarantine"],
    "clips": ["pipeline.clips.stage"],
    "train": ["pipeline.training.stage"],
    "evaluate": ["pipeline.evaluation.stage"],
    "table": ["pipeline.evaluation.table"],
}


class Dag(Collection):
    """One configuration's jobs: what each depends on."""

    def missing_weights(self) -> list[str]:
        """What is wrong with the weights of the encoders that have something left to encode; empty when all are here."""
        used = {e for e in self.video_encoders if not self.imported(e) and not all(self.current(e, s) for s in self.shards)}
        texts = {text for experiment in self.config.experiments for text in self.texts(experiment) if not self.imported(text)}
        used |= {t for t in texts if not self._made_by(self.layout.text(t), "text", encoder=t)}
        return [needed.problem for needed in inventory(self.config) if needed.encoder in used and needed.problem]

    def params(self, stage: str, **of: Any) -> dict[str, str]:
        """The params of one job: what re-runs it when it changes.

        Each value is a digest: `recipe` of the configuration it uses, `code` of the modules it runs, `data` of the files it reads
        from outside, `after` of the params of the jobs before it. Together they decide the result, so the rules can ignore times.
        """
        key = ("params", stage, *of.values())
        if key in self._memo:
            return self._memo[key]
        found = {"code": self._code(stage, **of)}
        recipe, data, after = getattr(self, f"_{stage}")(**of)
        for name, value in (("recipe", recipe), ("data", data), ("after", after)):
            if value:
                found[name] = recipe_hash({name: value})
        self._memo[key] = found
        return found

    def _code(self, stage: str, **of: Any) -> str:
        encoder = of.get("encoder", "")
        own = recipes.encoding(self.config, encoder) if encoder and not self.imported(encoder) else []
        if stage == "train":
            own = self.experiment(of["experiment"]).code
        elif stage == "evaluate":
            own = [self.experiment(of["experiment"]).model_code]
        modules = (*CODE[stage], *own)
        return str(self._once(("code", modules), lambda: code_digest(*modules)))

    def trace(self, stage: str, **of: Any) -> str:
        """One digest of a job's params."""
        return recipe_hash(self.params(stage, **of))

    def current(self, encoder: str, shard: str) -> bool:
        """Whether the features of a shard are stored and were made by exactly this job, so that no frames are needed."""
        return self._made_by(self.layout.features(encoder, shard), "features", encoder=encoder, shard=shard)

    def _made_by(self, store: Path, stage: str, **of: str) -> bool:
        manifest = store.with_suffix(".json")
        if not manifest.exists() or not store.exists():
            return False
        return bool(json.loads(manifest.read_text()).get("trace") == self.trace(stage, **of))

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
        return self.features_recipe(encoder), self._once(("content", shard), lambda: self.content(shard)), self._made()

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
        if self.imported_run(experiment, seed):
            return None, self._imported_content(self.layout.checkpoint(experiment, int(seed))), None
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
