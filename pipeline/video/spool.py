"""Decoded videos on disk until their shard is written: one folder each, kept by content and recipe, with a checksum of every file."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import StoreDamaged
from pipeline.core.source import Source
from pipeline.core.store import recipe_hash
from pipeline.video.messages import Outcome


class Decoded:
    """One decoded video in the spool; `about` is what goes into the manifest. Errors: StoreDamaged for files that are not as decoded."""

    def __init__(self, folder: Path, about: dict[str, Any], sums: dict[str, int]) -> None:
        self._folder, self.about, self._sums = folder, about, sums

    def frames(self, stream: str, size: int) -> np.ndarray:
        """Shapes: [M, size, size, 3] uint8, on disk."""
        return self._mapped(f"{stream}.frames").reshape(-1, size, size, 3)

    def array(self, stream: str, name: str) -> np.ndarray:
        """The `time` [M] s or the `windows` [N, count] of a stream's frames."""
        return np.asarray(np.load(io.BytesIO(self._mapped(f"{stream}.{name}.npy").tobytes())))

    def sound(self) -> bool:
        """Whether all its files are as they were decoded."""
        try:
            for name in self._sums:
                self._mapped(name)
        except StoreDamaged:
            return False
        return True

    def _mapped(self, name: str) -> np.ndarray:
        file = self._folder / name
        whole = file.exists() and file.stat().st_size > 0  # what is empty cannot be mapped
        values: np.ndarray = np.memmap(file, np.uint8, "r") if whole else np.zeros(0, np.uint8)
        if zlib.crc32(values.data) != self._sums.get(name):
            raise _damaged(file)
        return values

    def remove(self) -> None:
        shutil.rmtree(self._folder)


class Spool:
    """Decoded videos on disk, one folder each, whole once they have their final name, kept by content and recipe."""

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self._folder, self._recipe = folder, recipe_hash(recipe)

    def _place(self, source: Source) -> Path:
        return self._folder / hashlib.sha256(source.video_id.encode()).hexdigest()[:24]

    def _key(self, source: Source) -> str:
        return f"{source.fingerprint}-{self._recipe}"

    def begin(self, source: Source) -> Path:
        """An empty folder to decode into."""
        place = self._place(source)
        shutil.rmtree(place, ignore_errors=True)  # of another content or recipe, or damaged
        temporary = place.with_suffix(".part")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        return temporary

    def keep(self, source: Source, outcome: Outcome) -> None:
        """Give a decoded video its final name."""
        assert outcome.job.folder is not None
        kept = json.dumps({"key": self._key(source), "about": about(source, outcome), "sums": outcome.sums})
        (outcome.job.folder / "about.json").write_text(f"{zlib.crc32(kept.encode())} {kept}")
        outcome.job.folder.rename(self._place(source))

    def find(self, source: Source) -> Decoded | None:
        """What is decoded of this content by this recipe; its files are compared when they are read."""
        file = self._place(source) / "about.json"
        if not file.exists():
            return None
        checksum, _, kept = file.read_bytes().partition(b" ")
        if checksum != str(zlib.crc32(kept)).encode():
            return None
        known = json.loads(kept)
        return Decoded(file.parent, known["about"], known["sums"]) if known["key"] == self._key(source) else None

    def take(self, source: Source) -> Decoded:
        """What was decoded in this run. Errors: StoreDamaged when it is there no more."""
        if (done := self.find(source)) is None:
            raise _damaged(self._place(source))
        return done

    def remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


def about(source: Source, outcome: Outcome) -> dict[str, Any]:
    """What a manifest says of a decoded video."""
    return {
        "fingerprint": source.fingerprint,
        "decoder": outcome.decoder,
        "reason": outcome.reason,
        "duration": outcome.duration,
        "origin": outcome.origin,
    }


def _damaged(where: Path) -> StoreDamaged:
    fix = "run the workflow again: the video is decoded again; if this comes back, have the disk looked at"
    return StoreDamaged("a decoded video changed before it was stored", where=where, fix=fix)
