"""The picture a video shows at an instant, for people to look at; reads from the key frame before it, not from the beginning."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

from pipeline.core.errors import VideoError
from pipeline.video.picture import turned
from pipeline.video.probe import clockwise
from pipeline.video.readers import PICTURES

FRAMES_AT_MOST = 600  # decoded on the way from a key frame to the instant


def still(path: str, seconds: float) -> Image.Image:
    """The picture a file shows at an instant, turned as the file says. Errors: VideoError when it cannot be decoded."""
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
            return Image.fromarray(turned(shown.to_ndarray(format="rgb24"), clockwise(shown)))
    except (OSError, ValueError, IndexError, av.error.FFmpegError) as error:
        raise VideoError("UNDECODABLE", str(error), where=path, fix="copy or encode the file again, or leave it out") from error


def still_of(paths: Sequence[str], seconds: float, frames_fps: float) -> Image.Image:
    """The same of a video that is several files joined in order, or a folder of pictures, `frames_fps` of them a second."""
    for path in paths[:-1]:
        length = _length(path, frames_fps)
        if seconds < length:
            return _at(path, seconds, frames_fps)
        seconds -= length
    return _at(paths[-1], seconds, frames_fps)


def _at(path: str, seconds: float, frames_fps: float) -> Image.Image:
    if not os.path.isdir(path):
        return still(path, seconds)
    pictures = _pictures(path)
    try:
        return Image.open(pictures[min(len(pictures) - 1, math.floor(max(0.0, seconds) * frames_fps))]).convert("RGB")
    except (OSError, IndexError) as error:
        raise VideoError("UNDECODABLE", str(error), where=path, fix="put its pictures back, or leave it out") from error


def _pictures(folder: str) -> list[Path]:
    return sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in PICTURES)


def _length(path: str, frames_fps: float) -> float:
    if os.path.isdir(path):
        return len(_pictures(path)) / frames_fps
    try:
        with av.open(path) as container:
            return float((container.duration or 0) / av.time_base)
    except (OSError, av.error.FFmpegError) as error:
        raise VideoError("UNDECODABLE", str(error), where=path, fix="copy or encode the file again, or leave it out") from error
