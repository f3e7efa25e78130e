"""Streams: which frames of a video an encoder wants. Encoders that want the same ones share a stream, decoded once."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

_LATER = ("resize", "side", "interpolation", "exact", "corner")


@dataclass(frozen=True)
class Stream:
    """One way of looking at a video: rows of `every` seconds, each `count` frames of `size` x `size` pixels.

    A still stream (`count` 1) takes the frame shown at the row's `at` instant. A window stream takes frames at
    start + j*stride/fps seconds, j = 0..count-1, times past the row's end replaced by the last one inside it (docs/decisions.md, sampling).

    `resize`: `shortest` brings the short side to `side` (0: `size`) and cuts the square from the centre, `squash` makes the whole picture
    a square. `interpolation`: `bicubic` or `bilinear`, antialiased. Stills are resized as Pillow does, windows faster and 0.1 to 0.5 of 255
    off (pipeline/video/picture.py), unless they are `exact` too. `corner`: where the central square begins when an odd number of pixels is
    left over, at the `nearest` even one as torchvision rounds, or at the `floor` as transformers does.
    """

    every: float
    at: str
    size: int
    count: int = 1
    fps: float = 0.0
    stride: int = 1
    resize: str = "shortest"
    side: int = 0
    interpolation: str = "bicubic"
    exact: bool = False
    corner: str = "nearest"

    @property
    def name(self) -> str:
        """Folder name, stating how the frames were taken and, where it is not CLIP's way, resized."""
        kind = f"still-{self.at}" if self.count == 1 else f"window{self.count}x{self.stride}at{self.fps:g}"
        resized = [self.resize if self.resize != "shortest" else "", f"of{self.side}" if self.side else ""]
        resized += [self.interpolation if self.interpolation != "bicubic" else "", "exact" if self.exact else ""]
        resized += [self.corner if self.corner != "nearest" else ""]
        return "-".join([kind, f"every{self.every:g}s", f"{self.size}px", *filter(None, resized)])

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides its frames; what was added later only where it differs, so that older files stay current."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        later = {field.name: field.default for field in fields(self) if field.name in _LATER}
        return {name: value for name, value in values.items() if name not in later or value != later[name]}

    @property
    def precise(self) -> bool:
        """Whether its frames are resized to the last bit as Pillow does."""
        return self.exact or self.count == 1

    def frames(self, seconds: float) -> float:
        """How many frames some row of that many seconds of video looks at."""
        distinct = 1.0 if self.count == 1 else min(self.count, self.every * self.fps / self.stride)
        return seconds / self.every * distinct

    def frame_bytes(self, seconds: float) -> float:
        """Bytes of the temporary frames of that many seconds of video: every frame some row looks at, uncompressed."""
        return self.frames(seconds) * 3 * self.size**2
