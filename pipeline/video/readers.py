"""The ways to read a file's frames in order: each yields (seconds on the file's clock, a function that makes the displayed RGB picture)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from pipeline.core.errors import VideoError
from pipeline.video.opening import one_thread, open_container
from pipeline.video.packets import words
from pipeline.video.picture import colours, turned
from pipeline.video.probe import Probe

Frames = Iterator[tuple[float, Callable[[], np.ndarray]]]
PICTURES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}
LEADING = 16  # pictures H.264 and HEVC may keep: so many may hang on a key picture that was cut away
_NOISE = re.compile(r"\[[\d:]+\] \S+:\d+: ")  # time of day and source line: what is stored depends on neither
DAMAGED = 0.001  # share of the frames that may be damaged: one glitch in an hour is not worth an hour, one in a minute is noticed
LOST = 0.02  # share of the frames (and two) that may be missing: repeats that a decoder leaves out


class ClockError(Exception):
    """The frames' presentation stamps are missing or go backwards: read the file again by its running clock."""


class DecordError(Exception):
    """decord failed on a file it should be able to read."""


def pyav(probe: Probe, *, stamped: bool, damaged: bool) -> Frames:
    """Decode with PyAV, from the first frame to the last.

    `stamped`: trust the frames' stamps (else the n-th frame is shown at the n-th time of the running clock). `damaged`: the file is
    known to be truncated, take what there is. Errors: ClockError; VideoError DECODE_ERROR, FRAME_COUNT_MISMATCH, OUT_OF_MEMORY.
    """
    count = faults = 0
    before = -1.0
    for frame in _pictures(probe):
        if isinstance(frame, av.FFmpegError):
            faults += 1
        else:
            time = _time(frame, probe, before) if stamped else float(probe.running[min(count, probe.frames - 1)])
            before = time
            count += 1
            faults += frame.is_corrupt
            yield time, lambda frame=frame: _displayed(frame, probe.rotation)  # type: ignore[misc]
        if faults > DAMAGED * probe.frames and not damaged:
            what = f"damaged at frame {count} of {probe.frames}" + (f": {words(frame)}" if isinstance(frame, av.FFmpegError) else "")
            raise VideoError("DECODE_ERROR", what, where=probe.path, fix="download or re-encode it")
    _check(probe, count, stamped=stamped, damaged=damaged)


def _pictures(probe: Probe) -> Iterator[Any]:
    """Decoded frames, and the errors of packets that cannot be decoded in their place."""
    with open_container(probe.path) as container:
        stream = container.streams[probe.stream]
        one_thread(stream)
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                yield from packet.decode()
            except av.FFmpegError as error:
                if isinstance(error, MemoryError):
                    raise VideoError(
                        "OUT_OF_MEMORY", "no memory for its pictures", where=probe.path, fix="raise video.memory_mb"
                    ) from error
                yield error
                if packet is None or not packet.size:
                    return


def _time(frame: Any, probe: Probe, before: float) -> float:
    if frame.pts is None or probe.origin_ticks is None:
        raise ClockError
    time = (frame.pts - probe.origin_ticks) * float(probe.tick)  # as in probe.shown, to the last bit
    if time < before:
        raise ClockError
    return time


def _displayed(frame: Any, clockwise: int) -> np.ndarray:
    try:
        return turned(colours(frame), clockwise)
    except ValueError as error:  # swscale knows no way from this pixel format
        raise VideoError(
            "UNSUPPORTED_CODEC", f"pixel format {frame.format.name}: {error}", fix="convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
        ) from error


def _check(probe: Probe, count: int, *, stamped: bool, damaged: bool) -> None:
    """The decoder gave the frames that the container promised."""
    expected = len(probe.shown) if stamped else probe.frames
    if not count:
        raise VideoError("DECODE_ERROR", f"none of {probe.frames} frames can be decoded", where=probe.path, fix="download or re-encode it")
    if damaged:
        return
    if probe.leading > LEADING:
        what = f"the first {probe.leading} of {probe.leading + expected} frames hang on a key frame that is missing"
        raise VideoError("FRAME_COUNT_MISMATCH", what, where=probe.path, fix="cut it at a key frame, or re-encode it")
    if abs(expected - count) > max(2, LOST * expected):
        what = f"{expected} frames in the container, {count} decoded"
        raise VideoError("FRAME_COUNT_MISMATCH", what, where=probe.path, fix="remux or re-encode it")


def decord(probe: Probe) -> Frames:
    """Decode with decord, contiguously, at full size, one thread (see choose.py). Errors: DecordError."""
    import decord as library

    library.logging.set_level(library.logging.FATAL)
    try:
        reader = library.VideoReader(probe.path, ctx=library.cpu(0), num_threads=1)
        if len(reader) != probe.frames:
            raise DecordError(f"decord counts {len(reader)} frames, the container holds {probe.frames}")
        for time in probe.shown:
            picture = reader.next()
            yield float(time), picture.asnumpy
    except (library.DECORDError, RuntimeError, StopIteration) as error:
        raise DecordError(f"decord failed: {_NOISE.sub('', str(error)).splitlines()[0][:120]}") from error


class Folder:
    """A folder of extracted frames that stands for a video: picture i is shown from i/fps on.

    Errors: VideoError EMPTY (no files), NOT_VIDEO (no pictures).
    """

    container = codec = "frames"
    truncated = ""

    def __init__(self, path: str, fps: float) -> None:
        self.path, self.fps = path, fps
        files = sorted((p for p in Path(path).iterdir() if p.is_file() and not p.name.startswith(".")), key=_natural)
        self.files = [p for p in files if p.suffix.lower() in PICTURES]
        if not self.files:
            code, what = ("NOT_VIDEO", "no picture in the folder") if files else ("EMPTY", "the folder is empty")
            raise VideoError(code, what, where=path, fix=f"put the frames there ({', '.join(sorted(PICTURES))})")
        self.bytes = sum(p.stat().st_size for p in self.files)
        self.duration = len(self.files) / fps
        self.tick, self.origin = 0.0, 0.0

    def frames(self) -> Frames:
        """Every picture in the order of the numbers in its name; only wanted ones are opened. Errors: VideoError DECODE_ERROR."""
        for i, file in enumerate(self.files):
            yield i / self.fps, lambda file=file: _picture(file)  # type: ignore[misc]


def _picture(file: Path) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise VideoError("DECODE_ERROR", f"an unreadable picture: {error}", where=file, fix="extract it again") from error


def _natural(path: Path) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.name)]
