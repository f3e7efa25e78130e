"""Classify a file before decoding it: what it is, when each of its frames is shown, and why it cannot be used.

Only the container is read in full, so the cost is that of reading the file.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np

from pipeline.errors import VideoError
from pipeline.video.containers import Structure, structure
from pipeline.video.packets import Packets, codec_name, words

# Demuxers that answer to a text, a picture, or a list of other files: what they open is not a video file.
_NOT_VIDEO = {
    "tty",
    "srt",
    "ass",
    "webvtt",
    "lrc",
    "ffmetadata",
    "concat",
    "hls",
    "dash",
    "sdp",
    "image2",
    "bin",
    "xbin",
    "adf",
    "idf",
    "ico",
    "svg",
}
# No sample of these was ever compared with a second decoder, and FFmpeg builds differ in having one at all.
_NOT_VERIFIED = {"vvc", "evc", "apv"}
_AGAIN = "copy or download the file again"
_LOOK = "see what it holds (`file`), download it again"


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
    size = _size(path)
    found = structure(path)
    with _open(path, found) as container:
        stream = _stream(container, found, path)
        packets = Packets(container, stream)
        truncated = _truncated(found, packets, stream.frames)
        if not packets.pts:
            if truncated:
                raise VideoError("TRUNCATED", f"no frame is left: {truncated}", where=path, fix=_AGAIN)
            raise VideoError("SHORT", "the video stream holds no frame", where=path, fix="download or record it again")
        return _probe(path, size, found, container, stream, packets, truncated)


def open_container(path: str) -> Any:
    """Open a file, and never anything it refers to."""
    return av.open(path, options={"protocol_whitelist": "file"})


def one_thread(stream: Any) -> Any:
    """The stream's decoder, kept to one thread: videos are decoded side by side, and a threaded decoder was once seen to stall."""
    if stream.codec_context is not None:
        stream.codec_context.thread_count = 1
    return stream.codec_context


def _size(path: str) -> int:
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError(
            "MISSING", f"the file cannot be read: {error.strerror}", where=path, fix="restore the file, or drop its rows"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise VideoError("NOT_VIDEO", "neither a file nor a folder of frames", where=path, fix="point the row at a video file")
    if status.st_size == 0:
        raise VideoError("EMPTY", "the file holds no bytes", where=path, fix=_AGAIN)
    return status.st_size


def _open(path: str, found: Structure) -> Any:
    try:
        container = open_container(path)
    except PermissionError as error:
        raise VideoError("MISSING", "the file may not be read", where=path, fix="give read permission") from error
    except (av.FFmpegError, EOFError, ValueError) as error:
        if found.missing:
            raise VideoError("TRUNCATED", f"cannot be opened: {found.missing}", where=path, fix=_AGAIN) from error
        if found.container:
            raise VideoError("DECODE_ERROR", f"a damaged {found.container} file: {words(error)}", where=path, fix=_AGAIN) from error
        raise VideoError("NOT_VIDEO", "not a video file", where=path, fix=_LOOK) from error
    name = container.format.name
    if name in _NOT_VIDEO or name.endswith("_pipe"):
        container.close()
        raise VideoError(
            "NOT_VIDEO", f"not a video file (it reads as {name})", where=path, fix="see what it holds (`file`), download it again"
        )
    return container


def _stream(container: Any, found: Structure, path: str) -> Any:
    """The video stream that FFmpeg, decord and players choose (the largest), never a cover picture."""
    kinds = av.stream.Disposition
    streams = [s for s in container.streams.video if not s.disposition & (kinds.attached_pic | kinds.timed_thumbnails)]
    if not streams and found.missing:
        raise VideoError("TRUNCATED", f"no stream is left: {found.missing}", where=path, fix=_AGAIN)
    if not streams:
        held = ", ".join(sorted({s.type for s in container.streams})) or "none"
        raise VideoError(
            "NO_VIDEO_STREAM", f"no video stream (streams: {held})", where=path, fix="this is not the video: download it again"
        )
    best = container.streams.best("video")
    chosen = best if best in streams else streams[0]
    context = one_thread(chosen)
    if context is None or codec_name(context) in _NOT_VERIFIED:
        name = "unknown" if context is None else codec_name(context)
        raise VideoError(
            "UNSUPPORTED_CODEC", f"codec {name} is not supported", where=path, fix="convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
        )
    return chosen


def _truncated(found: Structure, packets: Packets, declared: int) -> str:
    """Why the file is truncated, or "" (also when only what follows the last frame is missing)."""
    if found.missing:
        whole = declared and packets.count >= declared and not packets.damaged
        return "" if whole else found.missing
    return f"reading stopped after {packets.count} frames: {packets.stopped}" if packets.stopped else ""


def _probe(path: str, size: int, found: Structure, container: Any, stream: Any, packets: Packets, truncated: str) -> Probe:
    first, tick, stamps = packets.first, float(packets.tick), packets.stamps()
    # Pictures before the first one that can be decoded are never shown; the clock starts at the first that is.
    start = first.pts if first is not None and first.pts is not None else (int(stamps[0]) if len(stamps) else None)
    leading = int((stamps < start).sum()) if start is not None else 0
    shown = (stamps[leading:] - start) * tick if start is not None else np.zeros(0)
    running, last = packets.running(), packets.last()
    if max(shown[-1] if len(shown) else 0.0, running[-1]) + last <= 0:
        raise VideoError("SHORT", "one frame that is shown for no time", where=path, fix="download or record it again")
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
        rotation=_turn(first),
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
        edits=found.edits,
        key_first=packets.key_first,
        first_shown_first=bool(len(stamps)) and packets.pts[0] == stamps[0],
        bframes=packets.reordered() or bool(context.has_b_frames),
        interlaced=first is not None and bool(first.interlaced_frame),
        truncated=truncated,
    )


def _turn(frame: Any) -> int:
    """Clockwise degrees of the display matrix, as a multiple of 90 (a mirrored one is turned, not mirrored: as decord and players do)."""
    return 0 if frame is None else (-round(frame.rotation / 90) * 90) % 360
