"""What the workflow needs to know of its jobs while it is being parsed: what each of them depends on."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.core.provenance import code_digest
from pipeline.core.store import recipe_hash
from pipeline.encoders.weights import inventory
from pipeline.jobs.collection import Collection
from pipeline.jobs.stage import Job, Stage, Wildcards
from pipeline.jobs.stages import STAGES


class Dag(Collection):
    """One configuration's jobs: what each depends on."""

    def missing_weights(self) -> list[str]:
        """What is wrong with the weights of the encoders that have something left to encode; empty when all are here."""
        used = {e for e in self.encoders_to_run() if not all(self.current(e, s) for s in self.shard_names)}
        texts = {text for text in self.text_encoders() if not self.imported(text)}
        used |= {t for t in texts if not self._stored("text", encoder=t)}
        return [needed.problem for needed in inventory(self.config) if needed.encoder in used and needed.problem]

    def params(self, stage: str, **of: str) -> dict[str, str]:
        """The params of one job: what re-runs it when it changes.

        Each value is a digest: `recipe` of the configuration it uses, `code` of the modules it runs, `data` of the files it reads
        from outside, `after` of the params of the jobs before it. Together they decide the result, so the rules can ignore times.
        """
        kind = STAGES[stage]
        key = ("params", stage, *(of[name] for name in kind.wildcards))
        params: dict[str, str] = self.once(key, lambda: self._params(kind, of))
        return params

    def _params(self, stage: Stage, of: Wildcards) -> dict[str, str]:
        modules, made_by = stage.code(self, of), stage.made_by(self, of)
        after = [self.trace(job.stage, **job.of) for job in made_by.after]
        after += [self.trace(job.stage, **job.of) for job in made_by.also if self.done(job)]
        # sorted: in which order experiments stand in the configuration makes no result another
        values = {"recipe": made_by.recipe, "data": made_by.data, "after": sorted(after)}
        digests = {"code": self.once(("code", *modules), lambda: code_digest(*modules))}
        return digests | {name: recipe_hash({name: value}) for name, value in values.items() if value}

    def trace(self, stage: str, **of: str) -> str:
        """One digest of a job's params."""
        return recipe_hash(self.params(stage, **of))

    def current(self, encoder: str, shard: str) -> bool:
        """Whether the features of a shard are stored and were made by exactly this job, so that no frames are needed."""
        return self._stored("features", encoder=encoder, shard=shard)

    def done(self, job: Job) -> bool:
        """Whether a job has run as it would run today."""
        manifest = STAGES[job.stage].manifest(self.layout, job.of)
        try:
            return bool(json.loads(manifest.read_text()).get("trace") == self.trace(job.stage, **job.of))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return False

    def _stored(self, stage: str, **of: str) -> bool:
        """The same, and what it made is there."""
        return self.done(Job(stage, of)) and all(file.exists() for file in STAGES[stage].files(self.layout, of))


def cuda_visible() -> bool:
    """Whether this machine has an NVIDIA device, without importing torch."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != "" and any(Path(p).exists() for p in ("/dev/nvidia0", "/dev/nvidiactl"))


def gpus_per_job(config: Config) -> int:
    """1 when encoder and training jobs use CUDA, else 0."""
    return int(config.runtime.device == "cuda" or (config.runtime.device == "auto" and cuda_visible()))
