"""How long a stage will take and how much disk it fills: from this run's own finished jobs where there are any, else from arithmetic.

The arithmetic is rough (within a factor of three or so): operations of the encoder over an assumed rate. It says so wherever it is used.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass

from pipeline.config.encoders import Encoder, Imported
from pipeline.config.method import Experiment
from pipeline.config.streams import Stream
from pipeline.core.source import Source

CPU_FLOPS = 4e10  # arithmetic one thread does in an encoder, 32 bits, a second
GPU_FLOPS = 6e13  # one data-centre GPU, 16 bits
DECODED_PIXELS = 2e8  # one thread decodes and scales down in a second
UNKNOWN_VIDEO = 30.0 * 1280 * 720  # pixels a second of a video that was not looked at
STEP_SECONDS = {True: 0.5, False: 12.0}  # one training step of 128 videos and 384 hidden values, on a GPU or not
TOKENS = 16  # words of a caption, with start and end
CLIP_SECONDS = 0.01  # pooling and merging one video
RUN_BYTES = 5.2e8  # 32 million weights in the best checkpoint, and with both moments in the last one
_PROBED = 48  # files opened to guess the mean length where none is annotated
_LOOK = """
import sys, av
for line in sys.stdin.read().splitlines():
    try:
        with av.open(line) as file:
            video = file.streams.video[0]
            print(file.duration / 1e6, float(video.average_rate) * video.width * video.height, flush=True)
    except Exception:
        pass
"""


@dataclass(frozen=True)
class Speeds:
    """What the arithmetic assumes about this machine."""

    threads: int
    gpu: bool

    @property
    def flops(self) -> float:
        """Operations a second."""
        return GPU_FLOPS if self.gpu else CPU_FLOPS * self.threads


def width(encoder: Encoder | Imported) -> int:
    """Values of one row; those of CLIP ViT-L/14 for imported features, which are read by their own stage only."""
    return 768 if isinstance(encoder, Imported) else encoder.cost[1]


def frame_bytes(stream: Stream, seconds: float) -> float:
    """Bytes of the temporary frames of that many seconds of video: every frame some row looks at, uncompressed."""
    distinct = 1.0 if stream.count == 1 else min(stream.count, stream.every * stream.fps / stream.stride)
    return seconds / stream.every * distinct * 3 * stream.size**2


def decode_seconds(seconds: float, pixels: float, speeds: Speeds) -> float:
    """Wall seconds to decode that many seconds of video of `pixels` pixels a second."""
    return seconds * pixels / (DECODED_PIXELS * speeds.threads)


def train_seconds(experiment: Experiment, videos: int, speeds: Speeds) -> float:
    """Wall seconds of all epochs, none saved by early stopping."""
    batch = min(videos, experiment.training.batch_videos)
    steps = experiment.training.epochs * -(-videos // max(1, batch))
    return steps * STEP_SECONDS[speeds.gpu] * batch / 128 * experiment.model.hidden / 384


def look(paths: list[str], timeout: float = 60.0) -> list[tuple[float, float]]:
    """(seconds, pixels a second) of those files whose headers say so, read in a child process that is killed when it takes too long."""
    child = subprocess.Popen(
        [sys.executable, "-c", _LOOK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        said, _ = child.communicate("\n".join(paths), timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
    found = [(float(seconds), float(pixels)) for seconds, pixels in (line.split() for line in said.splitlines())]
    return [(seconds, pixels) for seconds, pixels in found if 0 < seconds < 1e6 and 0 < pixels < 1e10]


def lengths(sources: list[Source]) -> tuple[dict[str, float], str, float]:
    """video id -> seconds, where they come from, and mean pixels a second.

    A sample of the files is opened; videos of unknown length get its mean.
    """
    known = {source.video_id: source.duration for source in sources if source.duration}
    unknown = [source for source in sources if source.video_id not in known]
    sampled = unknown or sources
    sample = [path for source in sampled[:: max(1, len(sampled) // _PROBED)] for path in source.paths if os.path.isfile(path)]
    found = look(sample)
    pixels = sum(rate for _, rate in found) / len(found) if found else UNKNOWN_VIDEO
    if not unknown:
        return known, "as annotated", pixels
    mean = sum(seconds for seconds, _ in found) / len(found) if found else 0.0
    whence = f"estimated from {len(found)} files" if len(found) < len(unknown) else "as the files say"
    return known | {source.video_id: mean for source in unknown}, whence, pixels


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
