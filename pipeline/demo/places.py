"""The backgrounds of the demo world: wide procedural textures that a camera pans over."""

from __future__ import annotations

import numpy as np

Canvas = np.ndarray


def _noise(rng: np.random.Generator, height: int, width: int, cell: int) -> Canvas:
    """Smooth noise in 0..1, bilinear between random values on a grid of `cell` pixels, seamless in x."""
    rows, columns = height // cell + 2, max(2, width // cell)
    grid = rng.random((rows, columns + 1))
    grid[:, -1] = grid[:, 0]
    y, x = np.arange(height) / cell, np.arange(width) * columns / width
    i, j = y.astype(int), x.astype(int)
    fy, fx = (y - i)[:, None], (x - j)[None]
    top = grid[i][:, j] * (1 - fx) + grid[i][:, j + 1] * fx
    low = grid[i + 1][:, j] * (1 - fx) + grid[i + 1][:, j + 1] * fx
    return top * (1 - fy) + low * fy


def _mix(low: tuple[int, int, int], high: tuple[int, int, int], share: Canvas) -> Canvas:
    return np.asarray(low, np.float32) + (np.asarray(high, np.float32) - np.asarray(low, np.float32)) * share[..., None].astype(np.float32)


def texture(place: str, rng: np.random.Generator, height: int, width: int) -> Canvas:
    """The texture of a place.

    Shapes: [height, width, 3] float32, 0..255. ValueError for an unknown place.
    """
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    soft, fine = _noise(rng, height, width, 16), _noise(rng, height, width, 5)
    share = y / height
    if place == "sky":
        return _mix((105, 165, 225), (190, 215, 240), np.clip(share * 0.5 + (soft + 0.4 * fine > 0.85) * (soft - 0.3), 0, 1))
    if place == "sea":
        return _mix((20, 85, 120), (80, 175, 185), 0.5 + 0.35 * np.sin(y / 2.2 + 1.5 * np.sin(x / 9 + 6 * soft)) * (0.4 + share))
    if place == "forest":
        trunks = _noise(rng, 1, width, 6)[0][None] > 0.62
        return np.where(
            trunks[..., None], _mix((70, 48, 30), (98, 70, 45), fine), _mix((22, 62, 30), (66, 112, 50), 0.5 * soft + 0.5 * fine)
        )
    if place == "desert":
        dunes = np.sin(y / 6 + 2.5 * np.sin(x / 23 + 4 * soft[:1]))
        return _mix((198, 152, 92), (238, 205, 145), np.clip(0.5 + 0.4 * dunes + 0.2 * (fine - 0.5), 0, 1))
    if place == "night":
        stars = rng.random((height, width)) > 0.988
        return _mix((8, 10, 34), (34, 30, 74), soft) + 190 * stars[..., None].astype(np.float32) * rng.random(
            (height, width, 1), dtype=np.float32
        )
    if place == "city":
        lit = rng.random((height // 6 + 1, width // 6 + 1))[(y // 6).astype(int), (x // 6).astype(int)]
        window = ((y % 6) > 1.5) & ((x % 6) > 2.5)
        walls = _mix((88, 90, 98), (128, 126, 130), _noise(rng, 1, width, 24)[0][None] * np.ones_like(y))
        return np.where(window[..., None], _mix((52, 58, 72), (224, 206, 138), (lit > 0.55) * 0.8), walls)
    if place == "snow":
        flakes = rng.random((height, width)) > 0.985
        return _mix((206, 214, 226), (236, 240, 246), 0.6 * soft + 0.4 * fine) - 60 * flakes[..., None]
    if place == "wall":
        row = (y // 7).astype(int)
        mortar = ((y % 7) < 1.2) | (((x + 7 * (row % 2)) % 14) < 1.4)
        shade = rng.random((height // 7 + 1, width // 14 + 2))[row, ((x + 7 * (row % 2)) // 14).astype(int)]
        return np.where(mortar[..., None], _mix((168, 160, 150), (186, 178, 168), fine), _mix((128, 62, 48), (168, 88, 66), shade))
    raise ValueError(f"no place {place!r}")


DARK = frozenset({"night", "forest", "sea", "wall", "city"})
"""Places where a light outline sets a subject off."""
