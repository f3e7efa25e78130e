"""One pass over a stream's packets: when each frame is shown, what is never shown, what is damaged; only the first picture is decoded."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np

_NOT_CODED = 16  # bytes: an MPEG-4 picture of fewer says "as before", and decoders leave it out
_JUMP_BACK, _JUMP_AHEAD = 0.5, 10.0  # seconds between decoding stamps that no stream has by itself: a splice


class Packets:
    """The packets of one stream, in decoding order, those an edit list or the codec hides left out of `pts`, `dts`, `lasts` (ticks).

    Counts of packets: `discarded` by an edit list, `hidden` (an alternate reference), `repeats` (of the picture before), `damaged`,
    `changes` (of the format, on the way). `first`: the first picture that can be decoded. `stopped`: why reading ended early, or "".
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self.codec, self.tick = codec_name(stream.codec_context), Fraction(stream.time_base or Fraction(1, 1000))
        self.average = stream.average_rate
        self.rate = float(stream.guessed_rate or stream.average_rate or stream.base_rate or 25)
        self.pts: list[int | None] = []
        self.dts: list[int | None] = []
        self.lasts: list[int] = []
        self.count = self.discarded = self.hidden = self.repeats = self.damaged = self.changes = 0
        self.key_first = False
        self.first: Any = None
        self.stopped = ""
        try:
            for packet in container.demux(stream):
                if self.first is None:
                    with suppress(av.FFmpegError):  # the decoding pass reports it, with the frame it happened at
                        self.first = next(iter(packet.decode()), None)
                if packet.size:
                    self._add(packet)
        except (av.FFmpegError, EOFError) as error:
            self.stopped = words(error)

    def _add(self, packet: Any) -> None:
        if not self.count:
            self.key_first = packet.is_keyframe
        self.count += 1
        self.damaged += packet.is_corrupt
        self.changes += packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change")
        self.repeats += self.codec == "mpeg4" and packet.size < _NOT_CODED
        if packet.is_discard:
            self.discarded += 1
        elif _hidden(self.codec, packet):
            self.hidden += 1
        else:
            self.pts.append(packet.pts)
            self.dts.append(packet.dts)
            self.lasts.append(packet.duration or 0)

    def stamps(self) -> np.ndarray:
        """Presentation stamps that are known, ascending, int64 ticks."""
        return np.sort(np.asarray([p for p in self.pts if p is not None], dtype=np.int64))

    def reordered(self) -> bool:
        """Whether frames are stored in another order than shown."""
        known = [p for p in self.pts if p is not None]
        return known != sorted(known)

    def running(self) -> np.ndarray:
        """Decoding stamps made into a clock: gaps filled with packet durations, splices joined.

        Shapes: [frames] float64 s, ascending, 0 at the first.
        """
        tick, usual = float(self.tick), 1 / self.rate
        clock: list[float] = []
        step = shift = now = 0.0
        for stamp, last in zip(self.dts, self.lasts, strict=True):
            follows = now + step
            if stamp is None:
                now = follows
            else:
                time = stamp * tick + shift
                if not clock or not -_JUMP_BACK < time - now < _JUMP_AHEAD:
                    shift += follows - time
                    time = follows
                now = time
            clock.append(now)
            step = last * tick or usual
        times = np.sort(np.asarray(clock))
        return times - times[0] if len(times) else times

    def last(self) -> float:
        """How long the last frame is shown, s: as its packet says, else the usual interval, else no time."""
        known = [(p, last) for p, last in zip(self.pts, self.lasts, strict=True) if p is not None]
        final = max(known)[1] if known else self.lasts[-1]
        if final > 0:
            return final * float(self.tick)
        if len(known) > 1:
            return float(np.median(np.diff(self.stamps()))) * float(self.tick)
        return float(1 / self.average) if self.average else 0.0


def codec_name(context: Any) -> str:
    """The codec's name, not that of the library that decodes it."""
    return str(context.codec.canonical_name)


def words(error: BaseException) -> str:
    """What a library said, in one line."""
    return (str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__])[0]


def _hidden(codec: str, packet: Any) -> bool:
    """Whether a VP8 or VP9 packet holds only a picture that is never shown (an alternate reference).

    Source: RFC 6386 section 9.1; VP9 bitstream specification section 6.2 and annex B (a superframe ends with a shown one).
    """
    if codec not in ("vp8", "vp9"):
        return False
    data = memoryview(packet)
    first = data[0]
    if codec == "vp8":
        return not first >> 4 & 1
    if data[-1] & 0xE0 == 0xC0 or first >> 6 != 2:
        return False
    bits = first << (1 if first & 0x30 == 0x30 else 0)  # profile 3 has one more reserved bit
    return not bits & 0b1000 and not bits & 0b10
