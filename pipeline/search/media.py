"""What the search page shows of a video: a still at an instant, and the file itself, never one that lies outside the dataset."""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from pipeline.video.still import still as picture

WIDTH = 320  # pixels of a still
PLAYABLE = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".mkv": "video/webm", ".ogv": "video/ogg"}


class Outside(Exception):
    """A file that is not the dataset's to show."""


def inside(path: str, roots: Iterable[Path]) -> Path:
    """The real file of a path. Errors: Outside when links lead out of every root, or it is no regular file."""
    try:
        real = Path(os.path.realpath(path))
    except ValueError:  # a NUL, which no path holds
        raise Outside(path) from None
    if not any(real.is_relative_to(os.path.realpath(root)) for root in roots) or not real.is_file():
        raise Outside(path)
    return real


@lru_cache(maxsize=1024)
def still(path: str, seconds: float) -> bytes:
    """The picture shown at an instant, turned as the file says, as WebP. Errors: VideoError when it cannot be decoded."""
    image = picture(path, seconds)
    image.thumbnail((WIDTH, WIDTH))
    written = io.BytesIO()
    image.save(written, "WEBP", quality=80)
    return written.getvalue()


def cut_command(path: str, start: float, end: float) -> str:
    """An ffmpeg command that cuts a moment out of a file, safe to paste into a POSIX shell whatever the file is called.

    It encodes anew: a copy could begin at key frames only, and would stay in a codec that a browser may not play.
    """
    source = os.path.abspath(path)
    name = f"./{Path(path).stem}-{start:.0f}-{end:.0f}.mp4"
    streams = ["-map", "0:v:0", "-map", "0:a:0?", "-vf", "scale=trunc(iw/2)*2:trunc(ih/2)*2", "-pix_fmt", "yuv420p"]
    # `file:`: a name that holds a colon is no address of another kind.
    length = f"{max(end - start, 0.04):.2f}"
    return shlex.join(["ffmpeg", "-ss", f"{start:.2f}", "-i", f"file:{source}", "-t", length, *streams, f"file:{name}"])
