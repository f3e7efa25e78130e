"""One contiguous pass over a video that feeds every stream at once; only the frames that some row wants are made and kept."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from pipeline.config.streams import Stream
from pipeline.core.errors import VideoError
from pipeline.video.choose import Choice, choose
from pipeline.video.grids import instants, tolerance
from pipeline.video.opening import check_name
from pipeline.video.picture import square
from pipeline.video.probe import Probe, probe
from pipeline.video.readers import ClockError, DecordError, Folder, Frames, decord, pyav


class Sink(Protocol):
    """Where frames go, in order, as they are made."""

    def add(self, stream: str, frame: np.ndarray, times: int) -> None:
        """`frame` is the next one of a stream, `times` times in a row."""
        ...

    def clear(self) -> None:
        """Forget everything added: the video is read again another way."""
        ...


@dataclass
class Taken:
    """What one stream took of a video.

    Shapes: `time` [M] s, when each kept frame is first shown; `windows` [N, count] int32, the frames of each row.
    """

    time: list[float]
    windows: np.ndarray


class Decoded(NamedTuple):
    """A video's length in seconds, how it was read and why, where its clock starts in the file, and what each stream took."""

    duration: float
    decoder: str
    reason: str
    origin: float
    streams: dict[str, Taken]


@dataclass
class _Part:
    """One file of a video, and how it is read."""

    source: Probe | Folder
    choice: Choice
    stamped: bool = True

    @property
    def duration(self) -> float:
        return self.source.length(stamped=self.stamped) if isinstance(self.source, Probe) else self.source.duration

    def frames(self) -> Frames:
        if isinstance(self.source, Folder):
            return self.source.frames()
        if self.choice.decoder == "decord":
            return decord(self.source)
        return pyav(self.source, stamped=self.stamped, damaged=bool(self.source.truncated))

    def again(self, error: Exception) -> None:
        """Choose another way to read it after `error`."""
        if isinstance(error, DecordError):
            self.choice = Choice("pyav", str(error))
        else:
            self.stamped = False
            self.choice = Choice("pyav", f"{self.choice.reason}; times from the order of the frames")


@dataclass
class _Rows:
    """The instants one stream still waits for, and what it took."""

    stream: Stream
    wanted: np.ndarray
    taken: list[float] = field(default_factory=list)
    windows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    done: int = 0

    @classmethod
    def of(cls, stream: Stream, duration: float) -> _Rows:
        wanted = instants(stream, duration)
        return cls(stream, wanted, windows=np.zeros(wanted.size, np.int32))

    @property
    def due(self) -> float:
        return float(self.wanted.flat[self.done]) if self.done < self.wanted.size else np.inf

    def before(self, time: float) -> int:
        """How many instants come before the next frame's `time`."""
        return int(np.searchsorted(self.wanted.reshape(-1), time, side="left"))


def inspect(
    paths: Sequence[str], *, frames_fps: float = 3.0, keep_truncated: bool = False, decoder: str = "pyav", forced: str = ""
) -> list[_Part]:
    """Probe every file of a video and choose how it is read; `forced` says why it must be PyAV.

    Errors: VideoError (see `probe`), TRUNCATED unless `keep_truncated`.
    """
    parts = []
    for path in paths:
        check_name(path)
        if os.path.isdir(path):
            parts.append(_Part(Folder(path, frames_fps), Choice("frames", f"a folder of frames, {frames_fps:g} per second")))
            continue
        probed = probe(path)
        if probed.truncated and not keep_truncated:
            raise VideoError("TRUNCATED", probed.truncated, where=path, fix="copy it again, or set video.keep_truncated")
        choice = Choice("pyav", forced) if forced else choose(probed, decoder)
        parts.append(_Part(probed, choice, stamped=len(probed.shown) > 0))
    return parts


def length(parts: Sequence[_Part]) -> float:
    """Seconds of all parts, joined in order on one clock."""
    return sum(part.duration for part in parts)


def decode(parts: Sequence[_Part], streams: Mapping[str, Stream], sink: Sink) -> Decoded:
    """Read a video once, giving each stream the frame shown at each of its instants.

    A frame wanted by several rows is kept once. Memory: one decoded picture, and the times.
    Errors: VideoError, with the file it happened in.
    """
    while True:
        sink.clear()
        part = parts[0]
        try:
            rows = {name: _Rows.of(stream, length(parts)) for name, stream in streams.items()}
            offset, current, due = 0.0, None, -np.inf
            for part in parts:
                late = tolerance(float(part.source.tick))
                for time, picture in part.frames():
                    if current is not None and offset + time - late > due:
                        due = _serve(rows, offset + time - late, current, sink)
                    current = (offset + time, picture)
                offset += part.duration
            assert current is not None  # every reader yields a frame or raises
            _serve(rows, np.inf, current, sink)
            return _result(parts, rows)
        except (ClockError, DecordError) as error:
            part.again(error)
        except VideoError as error:
            error.where = error.where or part.source.path
            raise


def _serve(rows: dict[str, _Rows], until: float, current: tuple[float, Callable[[], np.ndarray]], sink: Sink) -> float:
    """Give `current` to every instant before `until` that has no frame yet; returns the next instant that waits."""
    rgb: np.ndarray | None = None
    squares: dict[tuple[object, ...], np.ndarray] = {}
    for name, row in rows.items():
        stop = row.before(until)
        if stop <= row.done:
            continue
        look = row.stream
        kind = look.size, look.precise, look.resize, look.side, look.interpolation, look.corner
        if kind not in squares:
            rgb = current[1]() if rgb is None else rgb
            size, exact, resize, side, interpolation, corner = kind
            squares[kind] = square(rgb, size, exact=exact, resize=resize, side=side, interpolation=interpolation, corner=corner)
        sink.add(name, squares[kind], stop - row.done)
        row.windows[row.done : stop] = len(row.taken)
        row.taken.append(current[0])
        row.done = stop
    return min((row.due for row in rows.values()), default=np.inf)


def _result(parts: Sequence[_Part], rows: dict[str, _Rows]) -> Decoded:
    unique = list(dict.fromkeys(part.choice for part in parts))
    return Decoded(
        duration=length(parts),
        decoder="+".join(dict.fromkeys(choice.decoder for choice in unique)),
        reason="; ".join(dict.fromkeys(choice.reason for choice in unique)),
        origin=float(parts[0].source.origin),
        streams={name: Taken(row.taken, row.windows.reshape(row.wanted.shape)) for name, row in rows.items()},
    )
