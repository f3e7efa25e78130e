"""Small clips of every kind that decoders get wrong, each frame with its number burnt in, made on the spot with PyAV."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

FPS, WIDTH, HEIGHT = 25, 128, 96
_DARK, _LIGHT = 40, 215
_COLUMNS, _ROWS = 4, 2  # blocks of the central square, one bit each


@dataclass(frozen=True)
class Specimen:
    """A clip to be made. `stamps`: frame number -> seconds; `cut`: frames an edit list hides at the start; `turn`: clockwise degrees."""

    name: str
    file: str
    codec: str
    frames: int = 50
    options: dict[str, str] = field(default_factory=dict)
    bframes: int | None = None
    size: tuple[int, int] = (WIDTH, HEIGHT)
    pixels: str = "yuv420p"
    stamps: Callable[[int], float] = lambda i: i / FPS
    muxer: dict[str, str] = field(default_factory=dict)
    format: str | None = None
    cut: int = 0
    turn: int = 0

    def truth(self) -> tuple[np.ndarray, np.ndarray]:
        """Shapes: numbers [n] of the frames to be shown, and when each is, s from the first."""
        numbers = np.arange(self.cut, self.frames)
        times = np.asarray([self.stamps(int(i)) for i in numbers])
        return numbers, times - times[0]


def _uneven(i: int) -> float:
    return i / FPS + (0.5 if i > 20 else 0.0) + 0.01 * (i % 3)  # a gap of half a second and a jitter


_X264 = {"x264-params": "keyint=12:scenecut=0:b-pyramid=normal:bframes=3"}
_OPEN = {"x264-params": "keyint=12:scenecut=0:open-gop=1:b-pyramid=normal:bframes=3"}
_X265 = {"x265-params": "keyint=12:log-level=none"}

SPECIMENS = [
    Specimen("H.264 in MP4", "plain.mp4", "libx264", options=_X264),
    Specimen("H.264, open GOP", "open_gop.mp4", "libx264", options=_OPEN),
    Specimen("H.264, open GOP, Matroska", "open_gop.mkv", "libx264", options=_OPEN),
    Specimen("HEVC, x265 defaults", "hevc.mp4", "libx265", options=_X265),
    Specimen("HEVC, 10 bits", "hevc10.mp4", "libx265", options=_X265, pixels="yuv420p10le"),
    Specimen("H.264 cut by an edit list", "edit_list.mp4", "libx264", options=_X264, cut=17),
    Specimen("H.264 that starts at 1.5 s", "late.mp4", "libx264", options=_X264, stamps=lambda i: 1.5 + i / FPS),
    Specimen("H.264 that starts at 5 s, Matroska", "late.mkv", "libx264", options=_X264, stamps=lambda i: 5 + i / FPS),
    Specimen("H.264, fragmented MP4", "fragmented.mp4", "libx264", options=_X264, muxer={"movflags": "frag_keyframe+empty_moov"}),
    Specimen("H.264 in MPEG-TS", "stream.ts", "libx264", options=_X264),
    Specimen("H.264 without a container", "raw.h264", "libx264", options=_X264, format="h264"),
    Specimen("H.264 with B-frames in AVI", "bframes.avi", "libx264", options=_X264),
    Specimen("MPEG-4 with B-frames in AVI", "asp.avi", "mpeg4", bframes=2),
    Specimen("MPEG-2 in MPEG-PS", "program.mpg", "mpeg2video", bframes=2, format="vob"),
    Specimen("WMV2", "windows.wmv", "wmv2"),
    Specimen(
        "VP8 with hidden frames",
        "vp8.webm",
        "libvpx",
        options={"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "5"},
    ),
    Specimen("VP9", "vp9.webm", "libvpx-vp9", options={"cpu-used": "8"}),
    Specimen("AV1", "av1.mp4", "libsvtav1", options={"preset": "12", "svtav1-params": "lp=1"}),
    Specimen("H.264 turned by 90 degrees", "turn90.mp4", "libx264", options=_X264, turn=90),
    Specimen("H.264 turned by 180 degrees", "turn180.mp4", "libx264", options=_X264, turn=180),
    Specimen("H.264 turned by 270 degrees", "turn270.mp4", "libx264", options=_X264, turn=270),
    Specimen("variable rate, MP4", "uneven.mp4", "libx264", options=_X264, stamps=_uneven),
    Specimen("variable rate, Matroska", "uneven.mkv", "libx264", options=_X264, stamps=_uneven),
    Specimen("one frame", "one.mp4", "libx264", frames=1),
    Specimen("odd size, 4:4:4", "odd.mp4", "libx264", options=_X264, size=(131, 97), pixels="yuv444p"),
    Specimen("16 pixels high", "tiny.mp4", "libx264", options=_X264, size=(48, 16)),
    Specimen("1280 x 720", "large.mp4", "libx264", frames=30, options=_X264, size=(1280, 720)),
]


def picture(number: int, width: int, height: int) -> np.ndarray:
    """A frame whose central square shows the eight bits of `number`. Shapes: uint8 [height, width, 3]."""
    side = min(width, height)
    frame = np.full((height, width, 3), 128, np.uint8)
    top, left = (height - side) // 2, (width - side) // 2
    for bit in range(_COLUMNS * _ROWS):
        row, column = divmod(bit, _COLUMNS)
        y = slice(top + row * side // _ROWS, top + (row + 1) * side // _ROWS)
        x = slice(left + column * side // _COLUMNS, left + (column + 1) * side // _COLUMNS)
        frame[y, x] = _LIGHT if number >> bit & 1 else _DARK
    return frame


def number(square: np.ndarray) -> int:
    """The number in a decoded square. Shapes: uint8 [S, S, 3]."""
    size, number = len(square), 0
    for bit in range(_COLUMNS * _ROWS):
        row, column = divmod(bit, _COLUMNS)
        y = slice(int(size * (row + 0.3) / _ROWS), int(size * (row + 0.7) / _ROWS))
        x = slice(int(size * (column + 0.3) / _COLUMNS), int(size * (column + 0.7) / _COLUMNS))
        number |= int(square[y, x].mean() > (_DARK + _LIGHT) / 2) << bit
    return number


def make(specimen: Specimen, folder: Path) -> Path:
    """Encode one clip. av's UnknownCodecError when FFmpeg was built without the encoder."""
    os.environ.setdefault("SVT_LOG", "0")  # its encoder prints a page otherwise
    path = folder / specimen.file
    with _scheduled_as_before(), av.open(str(path), "w", format=specimen.format, options=specimen.muxer) as container:
        stream: Any = container.add_stream(specimen.codec, rate=FPS, options=dict(specimen.options))
        stored = specimen.size if specimen.turn % 180 == 0 else specimen.size[::-1]
        stream.width, stream.height = stored
        stream.pix_fmt = specimen.pixels
        stream.codec_context.time_base = Fraction(1, 1000) if specimen.stamps(1) != 1 / FPS else Fraction(1, FPS)
        stream.codec_context.thread_count = 1
        if specimen.bframes is not None:
            stream.codec_context.max_b_frames = specimen.bframes
            stream.codec_context.gop_size = 12
        for i in range(specimen.frames):
            rgb = np.rot90(picture(i, *specimen.size), specimen.turn // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame.time_base = stream.codec_context.time_base
            frame.pts = round(specimen.stamps(i) / frame.time_base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if specimen.turn:
        _turn(path, specimen.turn)
    if specimen.cut:
        _cut(path, specimen.cut)
    return path


@contextmanager
def _scheduled_as_before() -> Iterator[None]:
    """SVT-AV1 gives whoever may (root) the highest real-time priority: this thread, and all it starts later, would starve the machine."""
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameters)


def folder_of_frames(folder: Path, frames: int = 30) -> Path:
    """A folder of numbered pictures."""
    place = folder / "pictures"
    place.mkdir()
    for i in range(frames):
        Image.fromarray(picture(i, WIDTH, HEIGHT)).save(place / f"frame_{i + 1}.png")
    return place


def _turn(path: Path, clockwise: int) -> None:
    """Write a display matrix into the track header: muxers offer no way to set one."""
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    struct.pack_into(">9i", data, place, cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def _cut(path: Path, frames: int) -> None:
    """Move the start of the edit list `frames` on, as `ffmpeg -ss -c copy` does."""
    data = bytearray(path.read_bytes())
    place = data.index(b"elst") + 4
    scale = struct.unpack_from(">I", data, data.index(b"mdhd") + 16)[0]
    movie = struct.unpack_from(">I", data, data.index(b"mvhd") + 16)[0]
    length, start = struct.unpack_from(">II", data, place + 8)
    struct.pack_into(">II", data, place + 8, length - frames * movie // FPS, start + frames * scale // FPS)
    path.write_bytes(data)
