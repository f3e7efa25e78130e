"""The videos a run starts with, in one file that is divided as they are into shards: a job of a shard reads its own part alone.

The file is one JSON object of many lines: the first holds what every job needs, and the bytes of the lines after it, one a shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.core.atomic import write_text
from pipeline.core.collector import paused
from pipeline.core.provenance import FileCache
from pipeline.core.shards import names
from pipeline.core.source import Source

Part = list[tuple[Source, list[str]]]  # the videos of a shard, each with the states its files were seen in
_END = "\n]}\n"


@dataclass(frozen=True)
class Saved:
    """The saved videos, of which only the first line was read.

    `queries`: split -> their number; `division` of the `count` videos, as resharding.py records it; `streamed`: how the run treats frames.
    """

    path: Path
    queries: dict[str, int]
    division: dict[str, Any]
    count: int
    start: int  # of the first shard's line, in bytes
    sizes: list[int]  # of each shard's line, its end too
    streamed: bool = False

    @classmethod
    def open(cls, path: Path) -> Self | None:
        """What is saved there; None before the first run, and for a list that was not divided, which `videos` reads."""
        try:
            with path.open("rb") as file:
                head, start = file.readline(), file.tell()
        except FileNotFoundError:
            return None
        if not head.endswith(b"[\n"):
            return None
        read = json.loads(head + b"]}")
        return cls(path, read["queries"], read["division"], read["count"], start, read["bytes"], read.get("streamed", False))

    @property
    def names(self) -> list[str]:
        """The shards, in order."""
        return names(self.division["shards"], self.division.get("hashed"))

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Every shard and its videos, read one after the other."""
        with self.path.open("rb") as file:
            file.seek(self.start)
            for name, size in zip(self.names, self.sizes, strict=True):
                yield name, _part(file.read(size))

    def shard(self, name: str) -> Part:
        """The videos of one shard; nothing else of the file is read but the first line."""
        at = self.names.index(name)
        with self.path.open("rb") as file:
            file.seek(self.start + sum(self.sizes[:at]))
            return _part(file.read(self.sizes[at]))


def save(
    path: Path,
    queries: Mapping[str, int],
    division: Mapping[str, Any],
    shards: Mapping[str, Sequence[Source]],
    cache: FileCache,
    *,
    streamed: bool = False,
) -> None:
    """Write the file. `shards` in their order; `cache` remembers the states the files were seen in."""
    lines = [json.dumps([[*_fields(source), list(map(cache.seen, source.paths))] for source in sources]) for sources in shards.values()]
    last = len(lines) - 1
    sizes = [len(line) + (2 if i < last else 1) for i, line in enumerate(lines)]  # json.dumps gives ASCII
    about = {"queries": queries, "division": division, "count": sum(map(len, shards.values())), "bytes": sizes, "streamed": streamed}
    write_text(path, json.dumps(about)[:-1] + ', "videos": [\n' + ",\n".join(lines) + _END)


@paused()
def videos(path: Path) -> list[Source]:
    """All saved videos, shard by shard. A list that a former version saved has one line and no shards."""
    with path.open("rb") as file:
        head = file.readline()
        if not head.endswith(b"[\n"):
            return [_source(fields) for fields in json.loads(head)["videos"]]
        return [source for line in file if line.startswith(b"[") for source, _ in _part(line)]


def _part(line: bytes) -> Part:
    return [(_source(fields[:4]), fields[4]) for fields in json.loads(line.rstrip(b",\n"))]


def _fields(source: Source) -> tuple[Any, ...]:
    return source.video_id, source.paths, source.fingerprint, source.duration


def _source(fields: Sequence[Any]) -> Source:
    video_id, paths, content, duration = fields
    return Source(video_id, tuple(paths), content, duration)
