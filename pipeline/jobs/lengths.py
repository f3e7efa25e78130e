"""How long the videos are: as annotated, else as they were decoded, else as their headers say, else a guess."""

from __future__ import annotations

import json
from collections.abc import Collection as Ids
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.core.source import Source
from pipeline.jobs.collection import Collection
from pipeline.jobs.estimates import Load
from pipeline.jobs.headers import SECONDS

CAPTIONS = 5  # of a video, where the queries were not counted


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
