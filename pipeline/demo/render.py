"""Draws the scenes of the demo world with numpy and encodes them as H.264."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.core.atomic import replacing
from pipeline.demo.places import DARK, texture
from pipeline.demo.scenes import FPS, Pair, Scene, VideoSpec
from pipeline.demo.vocabulary import COLOURS, MOTIONS

WIDTH, HEIGHT = 96, 72
_REACH = 30  # half side of the patch a subject is drawn in, px

Pose = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _ends(p: np.ndarray) -> np.ndarray:
    """Opacity that fades in and out at the ends of a crossing."""
    return np.clip(np.minimum(p, 1 - p) / 0.1, 0, 1)


def _rest(p: np.ndarray, x: np.ndarray | float = 0.0, y: np.ndarray | float = 0.0, **other: np.ndarray) -> Pose:
    full = np.ones_like(p)
    return full * x, full * y, other.get("scale", full), other.get("angle", 0 * full), other.get("opacity", full)


POSES: dict[str, Callable[[np.ndarray], Pose]] = {
    "still": _rest,
    "cross": lambda p: _rest(p, x=60 * p - 30, opacity=_ends(p)),
    "climb": lambda p: _rest(p, y=20 - 40 * p, opacity=_ends(p)),
    "spin": lambda p: _rest(p, angle=2 * np.pi * p),
    "swell": lambda p: _rest(p, scale=0.55 * np.exp(p * np.log(1.4 / 0.55))),
    "orbit": lambda p: _rest(p, x=15 * np.cos(2 * np.pi * p), y=15 * np.sin(2 * np.pi * p)),
    "blink": lambda p: _rest(p, opacity=np.where(p < 0.5, 1.0, 0.25)),
    "sway": lambda p: _rest(p, x=12 * np.sin(2 * np.pi * p)),
}
"""Phase (cycles, 0..1) -> x, y (px from the centre, y down), scale, angle (rad, clockwise), opacity."""


@dataclass(frozen=True)
class Look:
    """What a scene's words leave open."""

    texture: int
    pan: float
    rate: float
    phase: float
    x: float
    y: float
    radius: float
    tilt: float
    light: float
    side: int
    blobs: tuple[tuple[float, float, float, float, float], ...]


def look(scene: Scene) -> Look:
    """The look of a scene, from its seed alone; `rate` is the signed cycles a second of its motion."""
    rng = np.random.default_rng(scene.look)
    u = rng.random(9)
    low, high = MOTIONS[scene.motion].rate if scene.motion else (0.0, 0.0)
    # a distractor: x, y (px), speed (px/s), radius (px), grey level
    blobs = tuple((96 * b[0], 72 * b[1], 16 * (b[2] - 0.5), 2 + 3 * b[3], 60 + 150 * b[4]) for b in rng.random((int(4 * u[8]), 5)))
    # the mirrored fraction gives opposite motions equal speeds under one seed
    share = u[2] if low >= 0 else 1 - u[2]
    texture, light = int(rng.integers(2**31)), 0.85 + 0.3 * u[7]
    if scene.ground is not None:
        texture, light = scene.ground, 0.85 + 0.3 * np.random.default_rng(scene.ground).random()
    return Look(
        texture=texture,
        pan=8 * (u[0] - 0.5),
        rate=low + (high - low) * share,
        phase=u[1],
        x=8 * (u[3] - 0.5),
        y=6 * (u[4] - 0.5),
        radius=14 + 5 * u[5],
        tilt=0.9 * (u[6] - 0.5),
        light=light,
        side=1 if rng.random() < 0.5 else -1,
        blobs=blobs,
    )


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    sector = 2 * np.pi / 5
    a = np.abs((np.arctan2(x, -y) + sector / 2) % sector - sector / 2)
    r = np.hypot(x, y)
    px, py = r * np.sin(a), r * np.cos(a)  # folded into one half arm, tip at (0, 1.15)
    (ax, ay), (bx, by) = (0.0, 1.15), (0.5 * np.sin(sector / 2), 0.5 * np.cos(sector / 2))
    nx, ny = ay - by, bx - ax
    return ((px - ax) * nx + (py - ay) * ny) / np.hypot(nx, ny)


def _polygon(x: np.ndarray, y: np.ndarray, sides: int) -> np.ndarray:
    angles = 2 * np.pi * np.arange(sides) / sides - np.pi / 2
    return np.max([x * np.cos(a + np.pi / sides) + y * np.sin(a + np.pi / sides) for a in angles], axis=0)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x = np.abs(x)
    lobe = np.hypot(x - 0.45, y + 0.25) - 0.52
    tip = np.maximum(np.maximum(x + y - 0.935, x - y - 0.7) / np.sqrt(2), -y - 0.42)
    return np.minimum(lobe, tip)


SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "ball": lambda x, y: np.hypot(x, y) - 0.95,
    "box": lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.82,
    "triangle": lambda x, y: _polygon(x, y, 3) - 0.55,
    "star": _star,
    "cross": lambda x, y: np.minimum(np.maximum(np.abs(x) - 1.0, np.abs(y) - 0.32), np.maximum(np.abs(y) - 1.0, np.abs(x) - 0.32)),
    "ring": lambda x, y: np.abs(np.hypot(x, y) - 0.75) - 0.25,
    "heart": _heart,
    "crescent": lambda x, y: np.maximum(np.hypot(x, y) - 1.0, 0.78 - np.hypot(x - 0.5, y)),
}
"""Signed distance (in radii) of points given in radii; negative inside. y points down."""


def _paint(frames: np.ndarray, subject: Pair, pose: Pose, radius: float, outline: float) -> None:
    """Blend a subject into frames [T, H, W, 3] float32, one pose a frame, anti-aliased, with a darker side that shows its turning."""
    x, y, scale, angle, opacity = (a.astype(np.float32)[:, None, None] for a in pose)
    corner_x, corner_y = np.floor(x).astype(int), np.floor(y).astype(int)
    grid = np.arange(-_REACH, _REACH, dtype=np.float32)
    dx, dy = grid[None, None] + 0.5 - (x - corner_x), grid[None, :, None] + 0.5 - (y - corner_y)
    size = radius * scale
    u, v = (np.cos(angle) * dx + np.sin(angle) * dy) / size, (np.cos(angle) * dy - np.sin(angle) * dx) / size
    distance = SHAPES[subject[1]](u, v) * size
    body = np.clip(0.5 - distance, 0, 1)
    rim = np.clip(1.9 - distance, 0, 1) * opacity
    shade = 1 - 0.4 * np.clip((u - 0.1) * size + 0.5, 0, 1)
    colour = np.asarray(COLOURS[subject[0]][0], np.float32) * (body * shade)[..., None] + outline * (1 - body)[..., None]
    height, width = frames.shape[1:3]
    for t in range(len(frames)):
        left, top = int(corner_x[t, 0, 0]) - _REACH, int(corner_y[t, 0, 0]) - _REACH
        a, b, c, d = max(0, -top), min(2 * _REACH, height - top), max(0, -left), min(2 * _REACH, width - left)
        if a < b and c < d:
            area = frames[t, top + a : top + b, left + c : left + d]
            area += rim[t, a:b, c:d, None] * (colour[t, a:b, c:d] - area)


def draw(scene: Scene, *, grain: bool = True) -> np.ndarray:
    """The frames of a scene; without `grain` the sensor noise is left out.

    Shapes: [scene.end - scene.start, HEIGHT, WIDTH, 3] uint8 RGB.
    """
    this = look(scene)
    count = scene.end - scene.start
    seconds = np.arange(count) / FPS
    rng = np.random.default_rng(this.texture)
    wide = texture(scene.place, rng, HEIGHT, WIDTH + 2 * 32) * np.float32(this.light)
    shift = np.clip(np.round(32 + this.pan * (seconds - seconds[-1] / 2)), 0, 64).astype(int)
    frames = np.stack([wide[:, s : s + WIDTH] for s in shift])
    outline = 235.0 if scene.place in DARK else 25.0
    for x, y, speed, radius, grey in this.blobs:
        _blob(frames, x + speed * seconds, y, radius, grey)
    if scene.companion:
        corner = np.full(count, WIDTH / 2 + 27.0 * this.side), np.full(count, HEIGHT - 9.0)
        _paint(frames, scene.companion, (*corner, *_rest(seconds)[2:]), 6.0, outline)
    if scene.subject:
        pose = POSES[MOTIONS[scene.motion].pose if scene.motion else "still"]((this.phase + this.rate * seconds) % 1)
        centre = WIDTH / 2 + this.x + pose[0], HEIGHT / 2 + this.y + pose[1]
        _paint(frames, scene.subject, (*centre, pose[2], pose[3] + this.tilt, pose[4]), this.radius, outline)
    if grain:
        frames += _grain(rng, count)
    return np.clip(frames, 0, 255).astype(np.uint8)


def _blob(frames: np.ndarray, x: np.ndarray, y: float, radius: float, grey: float) -> None:
    """A translucent grey distractor that drifts sideways."""
    reach = int(radius) + 2
    top, bottom = max(0, int(y) - reach), min(frames.shape[1], int(y) + reach)
    rows = np.arange(top, bottom)[:, None] + 0.5 - y
    for t, centre in enumerate(x):
        left, right = max(0, int(centre) - reach), min(frames.shape[2], int(centre) + reach)
        if left < right and top < bottom:
            alpha = 0.6 * np.clip(radius - np.hypot(rows, np.arange(left, right)[None] + 0.5 - centre), 0, 1)[..., None]
            frames[t, top:bottom, left:right] += alpha.astype(np.float32) * (grey - frames[t, top:bottom, left:right])


def _grain(rng: np.random.Generator, count: int) -> np.ndarray:
    """Noise for `count` frames, cut at random places from one larger sheet: new noise for every pixel would cost more than the drawing."""
    sheet = rng.normal(0, 4, (HEIGHT + 24, WIDTH + 24, 3)).astype(np.float32)
    at = rng.integers(0, 24, (count, 2))
    return np.stack([sheet[i : i + HEIGHT, j : j + WIDTH] for i, j in at])


def encode(target: Path | BinaryIO, frames: Iterable[np.ndarray], *, quality: int = 23, comment: str = "") -> None:
    """Write frames [H, W, 3] uint8 as H.264 in mp4 with B-frames; the same bytes on every run.

    `quality` is x264's constant rate factor; `comment` goes into the file's metadata.
    """
    import av

    with av.open(str(target) if isinstance(target, Path) else target, "w", format="mp4") as container:
        container.metadata["comment"] = comment
        # One thread, and no macroblock tree: on pictures this small x264's differs from run to run, even within one process.
        options = {"preset": "veryfast", "crf": str(quality), "x264-params": "mbtree=0"}
        stream = container.add_stream("libx264", rate=Fraction(FPS), options=options)
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = WIDTH, HEIGHT, "yuv420p", 1
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def video(spec: VideoSpec, path: Path) -> None:
    """Draw and encode one video; the file appears whole, marked with its fingerprint."""
    with replacing(path) as temporary:
        encode(temporary, (frame for scene in spec.scenes for frame in draw(scene)), comment=spec.fingerprint())


def mark(path: Path) -> str:
    """The fingerprint a rendered file carries; empty when there is no such file, or it is not whole."""
    import av

    try:
        with av.open(str(path)) as container:
            return container.metadata.get("comment", "")
    except (OSError, av.FFmpegError):
        return ""
