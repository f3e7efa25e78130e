"""What a generated video is: scenes, and captions that claim something of them. Draws nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

FPS = 12
Pair = tuple[str, str]


@dataclass(frozen=True)
class Scene:
    """A stretch of video: frames [start, end) at FPS. Without a subject it is filler. `look` seeds everything the words leave open.

    Scenes of one `ground` show the same background under the same light; None: a background of its own.
    """

    start: int
    end: int
    place: str
    look: int
    subject: Pair | None = None
    motion: str | None = None
    companion: Pair | None = None
    ground: int | None = None


@dataclass(frozen=True)
class Claim:
    """What a caption says: what it leaves open is None."""

    subject: Pair
    motion: str | None = None
    place: str | None = None
    companion: Pair | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """The parts that are said."""
        return tuple(part for part in ("subject", "motion", "place", "companion") if getattr(self, part) is not None)

    def holds(self, scene: Scene) -> bool:
        """Whether the scene shows all of it."""
        return all(getattr(self, part) == getattr(scene, part) for part in self.named)


@dataclass(frozen=True)
class Query:
    """A caption of the event in seconds [start, end).

    `group`: `motion` when another video of the split differs in the motion only, `place` when in the place only, `plain` otherwise.
    """

    query_id: str
    query: str
    start: float
    end: float
    group: str
    claim: Claim


@dataclass(frozen=True)
class VideoSpec:
    """One untrimmed video: scenes that cover it without gaps, and its captions in temporal order."""

    video_id: str
    split: str
    scenes: tuple[Scene, ...]
    queries: tuple[Query, ...]

    @property
    def duration(self) -> float:
        """Seconds."""
        return self.scenes[-1].end / FPS

    @property
    def file(self) -> str:
        """Path below the folder of videos."""
        return f"{self.video_id}.mp4"

    def fingerprint(self) -> str:
        """16 hex digits of everything that decides the file's content: this description and the code that draws it."""
        scenes = json.dumps([asdict(scene) for scene in self.scenes], sort_keys=True)
        return hashlib.sha256(f"{_renderer()}{scenes}".encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _renderer() -> str:
    folder = Path(__file__).parent
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in ("render.py", "places.py", "vocabulary.py"))).hexdigest()
