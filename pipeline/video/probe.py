"""Classify a file before decoding it: what it is, when each of its frames is shown, and why it cannot be used.

Only the container is read in full, so the cost is that of reading the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from pipeline.core.errors import VideoError
from pipeline.video import lengths
from pipeline.video.containers import Structure, structure
from pipeline.video.opening import open_video, size_of, unreadable, video_stream
from pipeline.video.packets import Packets


@dataclass(frozen=True)
class Probe:
    """What is known of a video file before decoding.

    Shapes: `shown` [frames] float64 s, presentation times of the frames to be shown, ascending, from 0 at the first;
    `running` [frames] float64 s, the same from decoding order and packet durations alone, for files whose stamps cannot be trusted.
    `origin` is the presentation time in the file that became 0; `tick` the resolution of its stamps; `last` how long the last
    frame is shown (all s). `rotation`: degrees, clockwise, by which the stored picture must be turned to be displayed.
    Counts of packets: `discarded` by an edit list, `hidden` (never shown), `unstamped`, `repeated` (a stamp twice), `repeats` (of the
    picture before), `leading` (before the first picture that can be decoded), `changes` (of the format, on the way).
    """

    path: str
    bytes: int
    stream: int
    container: str
    codec: str
    pixels: str
    width: int
    height: int
    rotation: int
    shown: np.ndarray
    running: np.ndarray
    origin: float
    origin_ticks: int | None
    tick: Fraction
    last: float
    has_duration: bool
    discarded: int
    hidden: int
    unstamped: int
    repeated: int
    repeats: int
    leading: int
    changes: int
    edits: int
    key_first: bool
    first_shown_first: bool
    bframes: bool
    interlaced: bool
    truncated: str

    @property
    def frames(self) -> int:
        """Frames to be shown, by the container."""
        return len(self.running)

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the end of the last."""
        return self.length(stamped=bool(len(self.shown)))

    def length(self, *, stamped: bool) -> float:
        """`duration`, by the presentation stamps or by the running clock."""
        times = self.shown if stamped else self.running
        return float(times[-1]) + self.last

    @property
    def edit_list(self) -> bool:
        """Whether an edit list cuts frames away or reorders the rest."""
        return self.discarded > 0 or self.edits > 1

    @property
    def regular(self) -> bool:
        """Whether the frames are evenly spaced, to one tick."""
        return len(self.shown) < 3 or bool(np.ptp(np.diff(self.shown)) <= 2 * float(self.tick) + 1e-9)


def probe(path: str) -> Probe:
    """Classify one file.

    Errors: VideoError MISSING, EMPTY, NOT_VIDEO, NO_VIDEO_STREAM, UNSUPPORTED_CODEC, TRUNCATED (nothing can be opened), DECODE_ERROR
    (the container is damaged), SHORT (no frame, or frames that cover no time). A truncated file that opens is returned, `truncated` said.
    """
    size = size_of(path)
    try:
        layout = structure(path)
    except OSError as error:
        raise unreadable(path, error) from error
    with open_video(path, layout) as container:
        stream = video_stream(container, layout, path)
        packets = Packets(container, stream)
        truncated = _truncated(layout, packets, stream.frames)
        if not packets.pts:
            if truncated:
                raise VideoError("TRUNCATED", f"no frame is left: {truncated}", where=path, fix="copy or download the file again")
            raise VideoError("SHORT", "the video stream holds no frame", where=path, fix="download or record it again")
        return _probe(path, size, layout, container, stream, packets, truncated)


def _truncated(layout: Structure, packets: Packets, declared: int) -> str:
    """Why the file is truncated, or "" (also when only what follows the last frame is missing)."""
    if layout.missing:
        whole = declared and packets.count >= declared and not packets.damaged
        return "" if whole else layout.missing
    return f"reading stopped after {packets.count} frames: {packets.stopped}" if packets.stopped else ""


def _probe(path: str, size: int, layout: Structure, container: Any, stream: Any, packets: Packets, truncated: str) -> Probe:
    first, tick, stamps = packets.first, float(packets.tick), packets.stamps()
    # Pictures before the first one that can be decoded are never shown; the clock starts at the first that is.
    start = first.pts if first is not None and first.pts is not None else (int(stamps[0]) if len(stamps) else None)
    leading = int((stamps < start).sum()) if start is not None else 0
    shown = (stamps[leading:] - start) * tick if start is not None else np.zeros(0)
    running, last = packets.running(), packets.last()
    if max(shown[-1] if len(shown) else 0.0, running[-1]) + last <= 0:
        raise VideoError("SHORT", "one frame that is shown for no time", where=path, fix="download or record it again")
    lengths.check(path, shown if len(shown) else running, last, lengths.declared(container))
    context = stream.codec_context
    return Probe(
        path=path,
        bytes=size,
        stream=stream.index,
        container=container.format.name,
        codec=packets.codec,
        pixels=first.format.name if first is not None else str(context.pix_fmt),
        width=(first or context).width,
        height=(first or context).height,
        rotation=clockwise(first),
        shown=shown,
        running=running,
        origin=start * tick if start is not None else 0.0,
        origin_ticks=start,
        tick=packets.tick,
        last=last,
        has_duration=container.duration is not None,
        discarded=packets.discarded,
        hidden=packets.hidden,
        unstamped=sum(p is None for p in packets.pts),
        repeated=len(stamps) - len(np.unique(stamps)),
        repeats=packets.repeats,
        leading=leading,
        changes=packets.changes,
        edits=layout.edits,
        key_first=packets.key_first,
        first_shown_first=bool(len(stamps)) and packets.pts[0] == stamps[0],
        bframes=packets.reordered() or bool(context.has_b_frames),
        interlaced=first is not None and bool(first.interlaced_frame),
        truncated=truncated,
    )


def clockwise(frame: Any) -> int:
    """Clockwise degrees of the display matrix, as a multiple of 90 (a mirrored one is turned, not mirrored: as decord and players do)."""
    return 0 if frame is None else (-round(frame.rotation / 90) * 90) % 360
