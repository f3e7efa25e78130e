"""From a decoded picture to an encoder's square: exactly what the encoder's own library does to the same RGB picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from av import VideoFrame
from av.video.reformatter import VideoReformatter
from PIL import Image

from pipeline.video.grids import centre, scaled

CUT_FIRST, SEEK = 2.0, 12  # pictures so many times too large are cut before they are resized, within SEEK pixels of the square
TINY = 16  # pixels: below it swscale's filters run over the edge
_PILLOW = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_COLOURS, _SIZES = VideoReformatter(), VideoReformatter()  # each keeps its tables from picture to picture


def colours(frame: Any) -> np.ndarray:
    """A decoded frame as RGB, as `frame.to_ndarray(format="rgb24")` makes it. Shapes: -> uint8 [H, W, 3]. Errors: ValueError."""
    return np.asarray(_COLOURS.reformat(frame, format="rgb24", threads=1).to_ndarray())


def square(
    rgb: np.ndarray,
    size: int,
    *,
    exact: bool = True,
    resize: str = "shortest",
    side: int = 0,
    interpolation: str = "bicubic",
    corner: str = "nearest",
) -> np.ndarray:
    """A picture as a square, antialiased: its short side to `side` (0: `size`), then the centre; or (`squash`) all of it.

    `exact` is Pillow's resizing, to the last bit what open_clip does. Otherwise it is swscale's, two to four times as fast and on
    average 0.1 to 0.5 of 255 off. Windows, of many frames, are made so.

    Shapes: uint8 [H, W, 3] RGB as displayed -> uint8 [size, size, 3]. Source: torchvision Resize and CenterCrop on a Pillow image, and with
    corner `floor` the image processors of transformers.
    """
    tall, wide = rgb.shape[:2]
    width, height = (size, size) if resize == "squash" else scaled(wide, tall, side or size)
    left, top = centre(width, height, size, corner)
    if exact or min(wide, tall) < TINY:
        whole = np.asarray(Image.fromarray(rgb).resize((width, height), _PILLOW[interpolation]))
        return np.ascontiguousarray(whole[top : top + size, left : left + size])
    across, down = wide / width, tall / height
    if min(across, down) >= CUT_FIRST:
        (left, width, columns), (top, height, lines) = _cut(left, size, width, across), _cut(top, size, height, down)
        rgb = rgb[lines, columns]
    frame = VideoFrame.from_numpy_buffer(np.ascontiguousarray(rgb), format="rgb24")
    # Into planes: there swscale's vector code applies, and packed RGB would cost three times as much.
    planes = _SIZES.reformat(frame, width=width, height=height, format="gbrp", interpolation=interpolation.upper(), threads=1).planes
    result = np.empty((size, size, 3), np.uint8)
    for channel, plane in zip((1, 2, 0), planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
        result[..., channel] = rows[top : top + size, left : left + size]
    return result


def _cut(first: int, size: int, length: int, scale: float) -> tuple[int, int, slice]:
    """Where to cut one side of a picture before resizing it, so that the rest is resized as it would be within the whole.

    Of the places within SEEK pixels outside the square, those are taken that fall best between two pixels of the picture: a cut in
    the middle of one would shift the result. Returns where the square begins in the resized rest, the rest's length, and the cut.
    """
    starts, stops = range(first, max(-1, first - SEEK), -1), range(first + size, min(length, first + size + SEEK) + 1)
    start, stop = (min(places, key=lambda place: abs(place * scale - round(place * scale))) for places in (starts, stops))
    return first - start, stop - start, slice(round(start * scale), round(stop * scale))


def turned(rgb: np.ndarray, clockwise: int) -> np.ndarray:
    """The picture turned by a multiple of 90 degrees."""
    return np.ascontiguousarray(np.rot90(rgb, -clockwise // 90)) if clockwise else rgb
