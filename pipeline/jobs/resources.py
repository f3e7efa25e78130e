"""What a job asks a scheduler for: minutes, memory, disk, from the number and seconds of its shard's videos (arithmetic of estimates.py).

A retry asks for more. Every job keeps what it has finished, so one that ran out of time goes on where it was.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from typing import Any

from pipeline.jobs import estimates
from pipeline.jobs.dag import Dag
from pipeline.jobs.estimates import Speeds

MARGIN = 4.0  # the arithmetic is good to a factor of three or so
START_MINUTES = 10  # queueing of the file system, imports, loading weights
SECONDS = 180.0  # of a video nobody knows the length of yet: between ActivityNet's mean (118 s) and QVHighlights' (150 s, in 500 s files)
CAPTIONS = 5  # of a video, where only memory depends on it
PYTHON_MB = 1500  # an interpreter with the numeric libraries
TORCH_MB = 5000  # with torch, a CUDA context and an encoder of 1.2 GB in 32 bits
DECODER_MB = 1200  # one decoding process on a 1080-line video
MEGA = 1e6

Request = Callable[..., int]


class Requests:
    """Requests of one configuration's jobs."""

    def __init__(self, dag: Dag) -> None:
        # Only schedulers look at times, and their GPU partition has GPUs, whatever the machine has that submits.
        self.dag, self.speeds = dag, Speeds(dag.config.runtime.threads, dag.config.runtime.device != "cpu")
        self._annotated: dict[str, tuple[float, int]] = {}  # shard -> seconds, videos of unknown length
        self._read: dict[str, float] = {}  # shard -> seconds of those, once decoded

    def of(self, stage: str) -> dict[str, Request]:
        """`runtime` (minutes), `mem_mb` and `disk_mb` of a rule, as functions of its wildcards and, where it grows, the attempt."""
        need = getattr(self, f"_{stage}")
        return {
            "runtime": lambda wildcards, attempt: math.ceil((START_MINUTES + MARGIN * need(**dict(wildcards.items()))[0] / 60) * attempt),
            "mem_mb": lambda wildcards, attempt: math.ceil(need(**dict(wildcards.items()))[1] * (1 + (attempt - 1) / 2)),
            "disk_mb": lambda wildcards: math.ceil(need(**dict(wildcards.items()))[2] / MEGA) + 10,
        }

    # One function per stage: (seconds expected, MB of memory, bytes of disk).

    def _world(self) -> tuple[float, float, float]:
        seconds = sum(map(self.seconds, self.dag.shards))
        return seconds / (30 * self.speeds.threads), PYTHON_MB + 500 * self.speeds.threads, seconds * 5e4

    def _annotations(self) -> tuple[float, float, float]:
        return 10 + self.videos * CAPTIONS / 1e4, PYTHON_MB + self.videos * CAPTIONS * 5e-3, self.videos * CAPTIONS * 1e3

    def _frames(self, shard: str) -> tuple[float, float, float]:
        video, seconds = self.dag.config.video, self.seconds(shard)
        workers = video.workers or self.speeds.threads
        memory = PYTHON_MB + workers * min(DECODER_MB, video.memory_mb)
        size = sum(estimates.frame_bytes(stream, seconds) for stream in self.dag.streams.values())
        return estimates.decode_seconds(seconds, estimates.UNKNOWN_VIDEO, self.speeds), memory, size

    def _features(self, encoder: str, shard: str) -> tuple[float, float, float]:
        if self.dag.imported(encoder):
            return 0.0, PYTHON_MB, 0.0
        flops, width, rows = *self.cost(encoder), self.seconds(shard) / self.dag.config.network(encoder).sampling.every
        size = rows * width * 2.0
        return rows * flops / self.speeds.flops, TORCH_MB + 2 * size / MEGA, 2 * size  # parts and the merged file lie there together

    def _text(self, encoder: str) -> tuple[float, float, float]:
        if self.dag.imported(encoder):
            return 0.0, PYTHON_MB, 0.0
        tower, queries = self.dag.config.network(encoder), self.videos * CAPTIONS
        flops, width = tower.text_cost
        size = queries * estimates.TOKENS * width * 2.0
        return queries * flops / self.speeds.flops, TORCH_MB + 2 * size / MEGA, 2 * size

    def _quarantine(self) -> tuple[float, float, float]:
        return 10 + 0.05 * len(self.dag.shards), PYTHON_MB, 1e6

    def _clips(self, recipe: str, shard: str) -> tuple[float, float, float]:
        videos, rows = len(self.dag.shards[shard]), 0.0
        experiment = self.dag.experiment(self.dag.owner(recipe))
        width = sum(map(self.width, experiment.features))
        for name in experiment.features:
            rows = max(rows, self.seconds(shard) / self.every(name))
        size = self.clip_bytes(experiment, videos)
        return videos * estimates.CLIP_SECONDS * 10, PYTHON_MB + (2 * rows * width * 2.0 + 2 * size) / MEGA, size

    def _train(self, experiment: str, seed: str) -> tuple[float, float, float]:
        chosen = self.dag.experiment(experiment)
        seconds = estimates.train_seconds(chosen, self.videos, self.speeds)
        return seconds, TORCH_MB + self.split_bytes(chosen) / MEGA, 2 * estimates.RUN_BYTES

    def _evaluate(self, experiment: str, seed: str) -> tuple[float, float, float]:
        pairs = (self.videos / 4) ** 2 * CAPTIONS
        chosen = self.dag.experiment(experiment)
        memory = self.split_bytes(chosen) + 5 * pairs * 4.0  # two branches, their fusion, zero-shot, and one at work
        return 60 + pairs * 1e7 / self.speeds.flops, TORCH_MB + memory / MEGA, self.videos * CAPTIONS * 1e3

    def _table(self, target: str) -> tuple[float, float, float]:
        return 30.0, PYTHON_MB, 1e6

    # Sizes.

    @functools.cached_property
    def videos(self) -> int:
        return sum(map(len, self.dag.shards.values()))

    def seconds(self, shard: str) -> float:
        """Seconds of a shard's videos: as annotated, else as its manifest says once it was decoded, else a guess."""
        if shard not in self._annotated:
            known = [source.duration for source in self.dag.shards[shard]]
            self._annotated[shard] = sum(seconds or 0.0 for seconds in known), sum(not seconds for seconds in known)
        seconds, unknown = self._annotated[shard]
        if not unknown:
            return seconds
        # A guess is looked at again each time: the shard may be decoded meanwhile.
        manifest = self.dag.layout.frames_manifest(shard)
        if shard not in self._read and manifest.exists():
            videos: dict[str, Any] = json.loads(manifest.read_text())["videos"]
            missing = [source.video_id for source in self.dag.shards[shard] if not source.duration]
            self._read[shard] = sum(videos.get(video, {}).get("duration") or SECONDS for video in missing)
        return seconds + self._read.get(shard, unknown * SECONDS)

    @functools.cache  # noqa: B019  (one object, as long as the workflow)
    def cost(self, encoder: str) -> tuple[float, int]:
        """(operations, values) of one row of an encoder."""
        return self.dag.config.network(encoder).cost

    @functools.cache  # noqa: B019
    def width(self, encoder: str) -> int:
        """Values of a row."""
        return estimates.width(self.dag.config.encoders[encoder])

    def every(self, encoder: str) -> float:
        """Seconds of a row."""
        return 1.0 if self.dag.imported(encoder) else self.dag.config.network(encoder).sampling.every

    def clip_bytes(self, experiment: Any, videos: int) -> float:
        """Bytes of the clips of that many videos."""
        bytes_per = 2.0 if experiment.clips.dtype == "float16" else 4.0
        return videos * (experiment.clips.frames + experiment.clips.clips) * sum(map(self.width, experiment.features)) * bytes_per

    def split_bytes(self, experiment: Any) -> float:
        """Bytes of all clips and query states in memory."""
        words = self.videos * CAPTIONS * estimates.TOKENS * 768 * 2.0
        return self.clip_bytes(experiment, self.videos) + words
