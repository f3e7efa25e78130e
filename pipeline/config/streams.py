"""Streams: which frames of a video an encoder wants. Encoders that want the same ones share a stream, decoded once."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.config.inputs import Imported, OpenClip, SlowFast
from pipeline.config.schema import Config


@dataclass(frozen=True)
class Stream:
    """One way of looking at a video: rows of `every` seconds, each `count` frames of `size` x `size` pixels.

    A still stream (`count` 1) takes the frame shown at the row's `at` instant. A window stream takes frames at
    start + j*stride/fps seconds, j = 0..count-1, times past the row's end replaced by the last one inside it (docs/decisions.md, sampling).
    """

    every: float
    at: str
    size: int
    count: int = 1
    fps: float = 0.0
    stride: int = 1

    @property
    def name(self) -> str:
        """Folder name, stating how the frames were taken."""
        kind = f"still-{self.at}" if self.count == 1 else f"window{self.count}x{self.stride}at{self.fps:g}"
        return f"{kind}-every{self.every:g}s-{self.size}px"

    @property
    def recipe(self) -> dict[str, Any]:
        return asdict(self)


def stream_of(encoder: OpenClip | SlowFast) -> Stream:
    """The stream an encoder reads."""
    sampling = encoder.sampling
    if isinstance(encoder, SlowFast):
        return Stream(sampling.every, "window", encoder.size, encoder.frames, encoder.fps, encoder.stride)
    return Stream(sampling.every, sampling.at, encoder.size)


def streams(config: Config) -> dict[str, Stream]:
    """Every stream the configured encoders need, by name; text-only use of an encoder adds none."""
    used = {name for experiment in config.models for name in config.experiment(experiment).features}
    found = [stream_of(encoder) for name, encoder in config.encoders.items() if name in used and not isinstance(encoder, Imported)]
    return {stream.name: stream for stream in found}
