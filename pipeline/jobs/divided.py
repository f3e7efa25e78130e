"""One configuration's videos, divided into shards: of a job of the workflow, as they were when it started."""

from __future__ import annotations

import functools
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.config.schema import Config
from pipeline.core.collector import paused
from pipeline.core.errors import DatasetError
from pipeline.core.layout import Layout
from pipeline.core.provenance import FileCache, sha256
from pipeline.core.shards import MOST, USUAL, assign, extended, shard_names
from pipeline.core.source import Source
from pipeline.jobs import resharding, saved
from pipeline.jobs.videos import Listing, listing, refreshed


@dataclass(frozen=True)
class DividedVideos(ABC):
    """One configuration's videos, divided into shards. A job of a shard looks at no other's, whatever the collection holds."""

    config: Config
    layout: Layout
    started: bool = False  # the workflow runs, and this is one of its jobs

    @classmethod
    def of(cls, config: Config, *, started: bool = False) -> Self:
        return cls(config, config.layout, started)

    @property
    @abstractmethod
    def divided_by(self) -> str:
        """What decides the shard of a video: its `content`, or its `id`."""

    @property
    @abstractmethod
    def streamed(self) -> bool:
        """Whether frames go to the encoders as they are decoded (`video.frames`); a job does as the run that started it."""

    @functools.cached_property
    def _saved(self) -> saved.Saved | None:
        """Of a job: what the workflow found when it started, of which a shard's job reads its own part alone."""
        return saved.Saved.open(self.layout.listing) if self.started else None

    @functools.cached_property
    def listing(self) -> Listing:
        """The videos, and the number of queries per split: of a job, as the workflow found them when it started."""
        if self._saved:
            return Listing(saved.videos(self._saved.path), self._saved.queries)
        return listing(self.config, self.layout)

    def save_listing(self) -> None:
        """Save the videos for the jobs of a run: what happens to the folder while it goes on concerns only who needs it."""
        saved.save(
            self.layout.listing, self.queries, self.division, self.shards, FileCache(self.layout.fingerprints), streamed=self.streamed
        )

    @property
    def queries(self) -> dict[str, int]:
        """split -> its number of queries."""
        return (self._saved or self.listing).queries

    def sources(self, shard: str) -> list[Source]:
        """The videos of a shard with the content they have now: what is decoded now is stored under it."""
        if self.config.dataset.kind == "demo":  # known by their descriptions
            return self.videos(shard)
        again: list[Source] = self.once(("sources", shard), lambda: self._refreshed(shard))
        return again

    def _refreshed(self, shard: str) -> list[Source]:
        if self._saved is None:
            return refreshed(self.videos(shard), FileCache(self.layout.fingerprints))
        return refreshed(self.videos(shard), FileCache(None), {source.video_id: seen for source, seen in self._part(self._saved, shard)})

    def _part(self, given: saved.Saved, shard: str) -> saved.Part:
        part: saved.Part = self.once(("part", shard), lambda: given.shard(shard))
        return part

    def videos(self, shard: str) -> list[Source]:
        """The videos of one shard."""
        return self.shards[shard] if self._saved is None else [source for source, _ in self._part(self._saved, shard)]

    @functools.cached_property
    def shard_names(self) -> list[str]:
        """The shards, of a job without a look at what is in them."""
        return self._saved.names if self._saved else list(self.shards)

    @functools.cached_property
    def shards(self) -> dict[str, list[Source]]:
        """shard -> its videos, of the whole collection."""
        if self._saved:
            return {name: [source for source, _ in part] for name, part in self._saved.parts()}
        sources = {source.video_id: source for source in self.listing.videos}
        return {name: [sources[i] for i in ids] for name, ids in self._divided[0].items()}

    @property
    def division(self) -> dict[str, Any]:
        """How the videos are divided into shards: their number, that of the last new division, what decided it, and its videos a shard."""
        if self._saved is None:
            return self._divided[1]
        asked, given = self.config.video.shard_size, self._saved.division
        return {"hashed": given["shards"], **given, "by": self.divided_by} | ({} if asked == "auto" else {"size": asked})

    @functools.cached_property
    @paused()
    def _divided(self) -> tuple[dict[str, list[str]], dict[str, Any]]:
        """shard -> the ids of its videos, and their division: that of the last run, extended, or a new one."""
        deciding = {source.video_id: self._decides(source) for source in self.listing.videos}
        former = saved.Saved.open(self.layout.listing)
        if former and (size := self._followed(former)):
            before = {name: [self._decides(source) for source, _ in part] for name, part in former.parts()}
            if shards := extended(before, deciding, size):
                return shards, {"hashed": len(before), **former.division, "shards": len(shards), "size": size}
        size = self.new_shard_size
        shards = assign(deciding, size, deciding)
        return shards, {"shards": len(shards), "hashed": len(shards), "by": self.divided_by, "size": size}

    def _decides(self, source: Source) -> str:
        return (self.divided_by == "content" and source.fingerprint) or source.video_id

    def _followed(self, former: saved.Saved) -> int:
        """Videos a shard of the last run's division where that of today may follow it, else 0."""
        if {self.divided_by, former.division["by"]} != {"content"}:
            return 0  # imported shards follow from the ids alone
        asked, shards = self.config.video.shard_size, former.division["shards"]
        size: int = former.division.get("size", 0)
        if not size:  # saved by a former version
            likely = USUAL if asked == "auto" else asked
            size = likely if len(shard_names(former.count, likely)) == shards else -(-former.count // shards)
        if asked == "auto":
            most = max(4 * MOST, 2 * former.division.get("hashed", shards))
            return size if len(self.listing.videos) <= size * most else 0
        return size if size == asked else 0

    @property
    @abstractmethod
    def new_shard_size(self) -> int:
        """Videos a shard, on average at most, of a new division."""

    @functools.cached_property
    def place(self) -> dict[str, str]:
        """video id -> its shard."""
        return {source.video_id: shard for shard, sources in self.shards.items() for source in sources}

    def content(self, shard: str) -> str:
        """Digest of the videos of a shard: their ids and contents."""
        return str(self.once(("content", shard), lambda: _content(self.videos(shard))))

    def members(self, of: Mapping[str, str]) -> list[Source]:
        """The videos a job of these wildcards is about: of its shard, or of the collection."""
        return self.videos(of["shard"]) if "shard" in of else [source for shard in self.shards.values() for source in shard]

    @functools.cached_property
    def settled(self) -> bool:
        """Whether the files on disk, and what a job was given, are divided as the videos are now."""
        found = [resharding.recorded(self.layout.shards), self._saved.division if self._saved else None]
        return all(division is None or resharding.stay(division, self.division) for division in found)

    def check_division(self) -> None:
        """Refuse to work on a shard when the videos were divided otherwise at the start of the run. Errors: DatasetError."""
        if not self.settled:
            raise DatasetError(
                "the collection or its configuration changed while the workflow runs, and its videos are divided otherwise now",
                where=self.layout.shards,
                fix="run the workflow again: it goes on with the new division, and nothing is computed twice",
            )

    def digest(self, path: Path, digest: Callable[[Path], str] = sha256) -> str:
        """A digest of a file of the collection that is none of its videos, read once."""
        return str(self.once((digest.__name__, path), lambda: digest(path)))

    @functools.cached_property
    def _memo(self) -> dict[tuple, Any]:
        return {}

    def once(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What `make` gives, made the first time only."""
        # A large collection asks for the same recipe once a shard, and a recipe looks at weights on disk.
        if key not in self._memo:
            self._memo[key] = make()
        return self._memo[key]


def _content(videos: Sequence[Source]) -> str:
    pairs = [(source.video_id, source.fingerprint) for source in videos]
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12]
