"""What the headers of a few video files say of a whole collection: how long its videos are, and how large their pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from pipeline.core.source import Source

SECONDS = 180.0  # of a video nobody knows the length of yet: between ActivityNet's mean (118 s) and QVHighlights' (150 s, in 500 s files)
UNKNOWN_VIDEO = 30.0 * 1280 * 720  # pixels a second of a video that was not looked at
_PROBED = 48  # files opened to guess the mean length where none is annotated
_LOOK = """
import os, sys, av
for name in filter(None, sys.stdin.buffer.read().split(bytes(1))):
    try:
        with av.open(os.fsdecode(name)) as file:
            video = file.streams.video[0]
            print(file.duration / 1e6, float(video.average_rate) * video.width * video.height, flush=True)
    except Exception:
        pass
"""


def sampled(sources: list[Source]) -> tuple[float, float, str]:
    """(mean seconds of the videos without a length, mean pixels a second, where lengths come from), from a sample of the headers."""
    unknown = [source for source in sources if not source.duration]
    asked = unknown or sources
    sample = [path for source in asked[:: max(1, len(asked) // _PROBED)] for path in source.paths if os.path.isfile(path)]
    headers = look(sample)
    pixels = sum(rate for _, rate in headers) / len(headers) if headers else UNKNOWN_VIDEO
    if not unknown:
        return SECONDS, pixels, "as annotated"
    mean = sum(seconds for seconds, _ in headers) / len(headers) if headers else SECONDS
    whence = f"estimated from {len(headers)} files" if len(headers) < len(unknown) else "as the files say"
    return mean, pixels, whence


def mean_seconds(sources: Sequence[Source]) -> float:
    """Seconds of a video on average: as annotated, of the others as a sample of their headers says."""
    known = [source.duration for source in sources if source.duration]
    unknown = len(sources) - len(known)
    guess = sampled([source for source in sources if not source.duration])[0] if unknown else 0.0
    return (sum(known) + unknown * guess) / max(1, len(sources))


def look(paths: list[str], timeout: float = 60.0) -> list[tuple[float, float]]:
    """(seconds, pixels a second) of those files whose headers say so, read in a child process that is killed when it takes too long."""
    if not paths:
        return []
    child = subprocess.Popen([sys.executable, "-c", _LOOK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    names = b"\0".join(map(os.fsencode, paths))  # a name may hold any other byte: line breaks, and what is no UTF-8
    try:
        said, _ = child.communicate(names, timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        said, _ = child.communicate()
    headers = [(float(seconds), float(pixels)) for seconds, pixels in (line.split() for line in said.splitlines())]
    return [(seconds, pixels) for seconds, pixels in headers if 0 < seconds < 1e6 and 0 < pixels < 1e10]
