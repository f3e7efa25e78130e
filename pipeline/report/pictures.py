"""Stills for the page: WebP, at most 160 pixels wide, inside the HTML; read from the videos, as decoded frames are temporary."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence

from PIL import Image

from pipeline.core.errors import VideoError
from pipeline.core.source import Source
from pipeline.video.still import still_of

WIDE, TALL = 160, 120  # pixels at most
QUALITY = 62
BYTES = 4_000_000  # of all stills, as they stand in the page


class Album:
    """The stills of one page: each is made once, and together they stay within `BYTES`."""

    def __init__(self, sources: Mapping[str, Source], frames_fps: float) -> None:
        self._sources, self._fps = sources, frames_fps
        self._made: dict[tuple[str, float], str] = {}
        self._bytes = 0
        self.unreadable: set[str] = set()  # videos that are not there, or cannot be read

    @property
    def empty(self) -> bool:
        """Whether no still could be made."""
        return not any(self._made.values())

    def stills(self, video: str, times: Sequence[float]) -> list[str]:
        """Addresses (`data:`) of the stills of a video at these seconds; an empty one where there is no picture."""
        return [self.still(video, seconds) for seconds in times]

    def still(self, video: str, seconds: float) -> str:
        key = (video, round(seconds, 2))
        if key not in self._made:
            self._made[key] = self._make(*key) if seconds == seconds and self._bytes < BYTES else ""
            self._bytes += len(self._made[key])
        return self._made[key]

    def _make(self, video: str, seconds: float) -> str:
        source = self._sources.get(video)
        if source is None or not source.paths or video in self.unreadable:
            return ""
        try:
            picture = still_of(source.paths, seconds, self._fps)
        except VideoError:
            self.unreadable.add(video)
            return ""
        return address(picture)


def address(picture: Image.Image) -> str:
    """A picture as a `data:` address."""
    picture.thumbnail((WIDE, TALL), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "WEBP", quality=QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
