"""What a job takes: seconds, memory and disk, as arithmetic on what it has before it. The only place that knows such numbers.

The schedulers' requests (resources.py), `prvr plan` and `prvr doctor` read them through the stages. They are rough, within a factor of
three or so for a stage (a test holds them against a finished run), and say so wherever they are shown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core.provenance import recipe_hash
from pipeline.jobs.collection import Collection
from pipeline.jobs.headers import UNKNOWN_VIDEO
from pipeline.ranking.room import BLOCK, GIGA

MEGA = 1e6
CHUNK = 2**18  # bytes of a chunk of rows in a store, which lies there whole (pipeline/core/store/checksums.py)
CPU_FLOPS = 4e10  # arithmetic one thread does in an encoder, 32 bits, a second
GPU_FLOPS = 6e13  # one data-centre GPU, 16 bits
DECODED_PIXELS = 2e8  # one thread decodes and scales down in a second
STEP_SECONDS = {True: 0.5, False: 24.0}  # one training step of 128 videos and 384 hidden values, on a GPU or one thread
TOKENS = 16  # words of a caption, with start and end
CLIP_SECONDS = 0.02  # pooling and merging one video
RUN_BYTES = 1.5e5  # of a run's plots and measures
RANKS_BYTES = 8e3  # of an evaluated query: its best hundred videos, its moments, its scores over time
TRAINING_SHARE = 0.75  # of the videos and queries, in every benchmark about; the rest is the gallery
PYTHON = (1.0, 1500.0)  # seconds to start, MB: an interpreter with the numeric libraries
DECODING = (2.0, 1500.0)  # without its processes' memory
TORCH = (8.0, 5000.0)  # with torch, a CUDA context and an encoder of 1.2 GB in 32 bits
IMPORTED = 768  # values of a row of imported features, which are read by their own stage only: those of CLIP ViT-L/14
DECODER_MB = 1200  # one decoding process on a 1080-line video


class Needs(NamedTuple):
    """What a job takes: wall seconds, memory in MB, bytes on disk."""

    seconds: float
    memory: float
    disk: float


class Load(NamedTuple):
    """What a job has before it: videos, their seconds, and queries."""

    videos: int
    seconds: float
    queries: float


@dataclass(frozen=True)
class Machine:
    """What the arithmetic assumes about where a job runs."""

    threads: int
    gpu: bool

    @property
    def flops(self) -> float:
        """Operations a second."""
        return GPU_FLOPS if self.gpu else CPU_FLOPS * self.threads


@dataclass(frozen=True)
class Speeds:
    """What one machine was measured to take for one configuration (tools/trial.py); what is not there is left to the arithmetic.

    Seconds of one processor, or by the clock on a GPU: to start, with and without torch; to draw and to decode a second of video; to
    load an encoder of a kind with its library; for a row and a query of an encoder; for a step of a whole batch and for ranking one video
    after an epoch, of an experiment (`key`).
    """

    python: float | None = None
    torch: float | None = None
    render: float | None = None
    decode: float | None = None
    load: dict[str, float] = field(default_factory=dict)
    row: dict[str, float] = field(default_factory=dict)
    query: dict[str, float] = field(default_factory=dict)
    step: dict[str, tuple[float, float]] = field(default_factory=dict)

    @staticmethod
    def key(experiment: Experiment) -> str:
        """What an experiment's speed goes by: two of the same settings are equally fast."""
        return recipe_hash(experiment.model_dump(mode="json"))


@dataclass(frozen=True)
class Costs:
    """The arithmetic of one configuration on one machine; `pixels` a second of its videos."""

    collection: Collection
    machine: Machine
    pixels: float = UNKNOWN_VIDEO
    speeds: Speeds = Speeds()

    @property
    def config(self) -> Config:
        return self.collection.config

    def row(self, encoder: str) -> tuple[float, int]:
        """(operations, values) of one row of an encoder."""
        row: tuple[float, int] = self.collection.once(("cost", encoder), lambda: self.config.network(encoder).cost)
        return row

    def encode(self, encoder: str, load: Load) -> Needs:
        """Encoding the rows of the load's seconds."""
        flops, width = self.row(encoder)
        rows = load.seconds / self.config.network(encoder).sampling.every
        size = _chunks(rows * width * 2.0) + 2 * _chunks(rows * 8.0)  # the rows, their start and end
        return self._network(encoder, rows * self._seconds(flops, self.speeds.row.get(encoder)), size)

    def encode_text(self, encoder: str, load: Load) -> Needs:
        """Encoding the load's queries."""
        flops, width = self.config.network(encoder).text_cost
        each = self._seconds(flops, self.speeds.query.get(encoder))
        return self._network(encoder, load.queries * each, _chunks(load.queries * TOKENS * width * 2.0))

    def _seconds(self, operations: float, measured: float | None) -> float:
        """Seconds of a network's operations on all threads of a job, from those measured of one, where they were."""
        if measured is None:
            return operations / self.machine.flops
        return measured if self.machine.gpu else measured / self.machine.threads

    def _network(self, encoder: str, seconds: float, size: float) -> Needs:
        loading = self.speeds.load.get(self.config.network(encoder).kind, 0.0)
        return Needs(self.start + loading + seconds, TORCH[1] + 2 * size / MEGA, size)

    @property
    def start(self) -> float:
        """Seconds until a job with torch is at its work."""
        return TORCH[0] if self.speeds.torch is None else self.speeds.torch

    def render(self, load: Load) -> Needs:
        """Drawing the demo's videos."""
        threads, each = self.machine.threads, 1 / 30 if self.speeds.render is None else self.speeds.render
        start = PYTHON[0] if self.speeds.python is None else self.speeds.python
        return Needs(start + load.seconds * each / threads, PYTHON[1] + 500 * threads, load.seconds * 4e3)

    def decode(self, load: Load) -> Needs:
        """Decoding the load's seconds for every stream."""
        video, (start, memory) = self.config.video, DECODING
        memory += (video.workers or self.machine.threads) * min(DECODER_MB, video.memory_mb)
        size = sum(stream.frame_bytes(load.seconds) for stream in self.collection.streams.values())
        each = self.pixels / DECODED_PIXELS if self.speeds.decode is None else self.speeds.decode
        return Needs(start + load.seconds * each / self.machine.threads, memory, size)

    def stream(self, encoders: Sequence[str], load: Load) -> Needs:
        """Decoding the load's seconds and encoding their rows with all these encoders, side by side where a GPU encodes."""
        decoding, encoding = self.decode(load), [self.encode(encoder, load) for encoder in encoders]
        seconds = [decoding.seconds - DECODING[0], sum(each.seconds - self.start for each in encoding)]
        memory = decoding.memory + sum(each.memory for each in encoding)
        together = max(seconds) if self.machine.gpu else sum(seconds)
        return Needs(self.start + together, memory, sum(each.disk for each in encoding))

    def merge(self, experiment: Experiment, load: Load) -> Needs:
        """Pooling and merging the load's videos into clips."""
        every = [1.0 if self.collection.imported(name) else self.config.network(name).sampling.every for name in experiment.features]
        rows = load.seconds / min(every) * self.width(experiment) * 2.0
        units, size = self.units(experiment, load), self.clip_bytes(experiment, load)
        return Needs(self.start + units * CLIP_SECONDS, TORCH[1] + 2 * (rows + size) / MEGA, size)

    def train(self, experiment: Experiment, load: Load) -> Needs:
        """All epochs, none saved by early stopping."""
        videos, epochs = max(1.0, self.units(experiment, load) * TRAINING_SHARE), experiment.training.epochs
        step, ranked = self.speeds.step.get(Speeds.key(experiment)) or (self.step(experiment, videos), 0.0)
        share = 1 if self.machine.gpu else experiment.training.threads  # the job's own threads are not what computes
        epoch = -(-videos // experiment.training.batch_videos) * step + self.units(experiment, load) * (1 - TRAINING_SHARE) * ranked
        memory = TORCH[1] + self.split_bytes(experiment, load) / MEGA
        return Needs(self.start + epochs * epoch / share, memory, self.model_bytes(experiment))

    def step(self, experiment: Experiment, videos: float) -> float:
        """Seconds of one thread, or of a GPU, for a step of that many videos, or of a batch where they are more."""
        return STEP_SECONDS[self.machine.gpu] * min(videos, experiment.training.batch_videos) / 128 * experiment.model.hidden / 384

    def evaluate(self, experiment: Experiment, load: Load) -> Needs:
        """Scoring every query of the gallery against every video of it."""
        queries = load.queries * (1 - TRAINING_SHARE)
        pairs = self.units(experiment, load) * (1 - TRAINING_SHARE) * queries
        memory = self.split_bytes(experiment, load) + 5 * min(4.0 * pairs, BLOCK)  # two branches, their fusion, and two at work
        return Needs(2 * self.start + pairs * 1e7 / self.machine.flops, TORCH[1] + memory / MEGA, RUN_BYTES + queries * RANKS_BYTES)

    def model_bytes(self, experiment: Experiment) -> float:
        """Bytes of a model's weights: its projections of the rows and words, and the blocks of its two branches (an upper guess)."""
        hidden, blocks = experiment.model.hidden, len(getattr(experiment.model, "widths", ())) or 8
        return 4.0 * hidden * (2 * self.width(experiment) + 768 + 25 * blocks * hidden)

    def width(self, experiment: Experiment) -> int:
        """Values of a row of an experiment's joined encoders."""
        return sum(IMPORTED if self.collection.imported(name) else self.row(name)[1] for name in experiment.features)

    def words(self, encoder: str) -> int:
        """Values of a word of an encoder of queries."""
        return IMPORTED if self.collection.imported(encoder) else self.config.network(encoder).text_cost[1]

    def units(self, experiment: Experiment, load: Load) -> float:
        """The load's videos, or the windows they are divided into."""
        window = experiment.clips.window
        return load.videos if window is None else load.videos + 2 * load.seconds / window

    def clip_bytes(self, experiment: Experiment, load: Load) -> float:
        """Bytes of the clips of the load's videos."""
        per_value = 2.0 if experiment.clips.dtype == "float16" else 4.0
        return self.units(experiment, load) * (experiment.clips.frames + experiment.clips.clips) * self.width(experiment) * per_value

    def split_bytes(self, experiment: Experiment, load: Load) -> float:
        """Bytes of all query states in memory, and of all clips or those that `runtime.memory` leaves there."""
        memory, clips = self.config.runtime.memory, self.clip_bytes(experiment, load)
        return (clips if memory is None else min(clips, GIGA * memory)) + load.queries * TOKENS * 768 * 2.0


def _chunks(size: float) -> float:
    """Bytes on disk of an array of `size` bytes."""
    return math.ceil(size / CHUNK) * float(CHUNK)


def spell_time(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`, `2.1 days`."""
    for limit, unit, name in ((90, 1, "s"), (5400, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.{1 if name == 'h' else 0}f} {name}"
    return f"{seconds / 86400:.1f} days"


def spell_bytes(size: float) -> str:
    """`3 kB`, `12 MB`, `3.5 GB`, `2.1 TB`."""
    for limit, unit, name in ((1e6, 1e3, "kB"), (1e9, 1e6, "MB"), (1e12, 1e9, "GB")):
        if size < limit:
            return f"{size / unit:.{1 if name == 'GB' else 0}f} {name}"
    return f"{size / 1e12:.1f} TB"
