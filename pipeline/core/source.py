"""One video of a collection, as every stage knows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """One video: `paths` are joined in order (QVHighlights cuts one source into clips); `duration` in seconds where it is annotated."""

    video_id: str
    paths: tuple[str, ...]
    fingerprint: str
    duration: float | None
