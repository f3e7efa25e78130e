"""What is said between the pool and whoever has videos decoded: jobs go in; rows and outcomes come out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Job:
    """One video to decode: `streams` are stream recipes by name, `forced` why PyAV must read it (or "").

    Its frames go into `folder`; without one they come row by row, before its outcome.
    """

    video_id: str
    paths: tuple[str, ...]
    streams: dict[str, dict[str, Any]]
    folder: Path | None = None
    frames_fps: float = 3.0
    keep_truncated: bool = False
    decoder: str = "pyav"
    forced: str = ""
    tries: int = 0

    def line(self) -> bytes:
        reading = {k: getattr(self, k) for k in ("frames_fps", "keep_truncated", "decoder", "forced")}
        job = {"paths": self.paths, "streams": self.streams, "folder": str(self.folder or ""), "reading": reading}
        return (json.dumps(job) + "\n").encode()


@dataclass(frozen=True)
class Outcome:
    """What became of a video. `code` is "" when it was decoded, else a quarantine code; `path` is the file at fault.

    `sums` holds the CRC-32 of each file in the job's folder.
    """

    job: Job
    code: str = ""
    message: str = ""
    path: str = ""
    decoder: str = ""
    reason: str = ""
    duration: float = 0.0
    origin: float = 0.0
    sums: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Again:
    """A video is read from its beginning, for the first time or once more: what came of it before counts for nothing."""

    job: Job


@dataclass(frozen=True)
class Row:
    """The next row of a stream of a video: its frames one after the other, uint8 [count * S * S * 3]."""

    job: Job
    stream: str
    frames: np.ndarray


Event = Again | Row | Outcome
