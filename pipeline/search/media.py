"""What the search page shows of a video: a still at an instant, and the file itself, never one that lies outside the dataset."""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
from PIL import Image

from pipeline.core.errors import VideoError
from pipeline.video.picture import turned
from pipeline.video.probe import clockwise

WIDTH = 320  # pixels of a still
PLAYABLE = {".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/mp4", ".webm": "video/webm", ".mkv": "video/webm", ".ogv": "video/ogg"}
FRAMES_AT_MOST = 600  # decoded on the way from a key frame to the instant


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
    try:
        with av.open(path) as container:
            stream = container.streams.video[0]
            tick = stream.time_base or Fraction(1, 1000)
            start = float((stream.start_time or 0) * tick)
            container.seek(int((start + max(0.0, seconds)) / tick), stream=stream)
            shown = None
            for i, frame in enumerate(container.decode(stream)):
                if shown is not None and (i > FRAMES_AT_MOST or (frame.time is not None and frame.time - start > seconds + 1e-6)):
                    break
                shown = frame
            if shown is None:
                raise VideoError("NO_FRAME", "no picture there", where=path, fix="look at the video's line in quarantine.tsv")
            image = Image.fromarray(turned(shown.to_ndarray(format="rgb24"), clockwise(shown)))
    except (OSError, ValueError, IndexError, av.error.FFmpegError) as error:
        raise VideoError("UNDECODABLE", str(error), where=path, fix="copy or encode the file again, or leave it out") from error
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
