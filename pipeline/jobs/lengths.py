"""How long the videos are: as annotated, else as they were decoded, else as their headers say, else a guess."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection as Ids
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core.source import Source
from pipeline.jobs.collection import Collection
from pipeline.jobs.estimates import UNKNOWN_VIDEO, Load

SECONDS = 180.0  # of a video nobody knows the length of yet: between ActivityNet's mean (118 s) and QVHighlights' (150 s, in 500 s files)
CAPTIONS = 5  # of a video, where the queries were not counted
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


class Lengths:
    """Seconds of a collection's videos. `guess` stands for those nobody knows, `queries` for all of them where they were counted."""

    def __init__(self, collection: Collection, guess: float = SECONDS, queries: int | None = None) -> None:
        self.collection, self.guess, self.queries = collection, guess, queries
        self._sums: dict[str, tuple[float, int]] = {}  # of a shard: the annotated seconds, and how many videos have none

    def load(self, of: Mapping[str, str], only: Ids[str] | None = None) -> Load:
        """What a job of these wildcards has before it: the videos of its shard, or of the collection; of those, `only` some."""
        shards = [of["shard"]] if "shard" in of else self.collection.shard_names
        if only is None:
            videos, seconds = sum(len(self.collection.videos(shard)) for shard in shards), sum(map(self.shard, shards))
        else:
            chosen = [(source, length) for shard in shards for source, length in self._each(shard) if source.video_id in only]
            videos, seconds = len(chosen), sum(length or self.guess for _, length in chosen)
        return Load(videos, seconds, videos * CAPTIONS if self.queries is None else self.queries)

    def shard(self, name: str) -> float:
        """Seconds of a shard's videos."""
        if name not in self._sums:
            annotated = [source.duration for source in self.collection.videos(name) if source.duration]
            self._sums[name] = sum(annotated), len(self.collection.videos(name)) - len(annotated)
        seconds, unknown = self._sums[name]
        # The manifest is looked for each time: the shard may be decoded meanwhile.
        if unknown and self.collection.layout.frames_manifest(name).exists():
            return sum(length or self.guess for _, length in self._each(name))
        return seconds + unknown * self.guess

    def _each(self, shard: str) -> Iterable[tuple[Source, float | None]]:
        """Every video of a shard with its seconds: as annotated, else as its manifest says once it was decoded."""
        sources = self.collection.videos(shard)
        if all(source.duration for source in sources):
            return ((source, source.duration) for source in sources)
        manifest = self.collection.layout.frames_manifest(shard)
        decoded: dict[str, Any] = json.loads(manifest.read_text())["videos"] if manifest.exists() else {}
        return ((source, source.duration or decoded.get(source.video_id, {}).get("duration")) for source in sources)


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
    headers = [(float(seconds), float(pixels)) for seconds, pixels in (line.split() for line in said.splitlines())]
    return [(seconds, pixels) for seconds, pixels in headers if 0 < seconds < 1e6 and 0 < pixels < 1e10]
