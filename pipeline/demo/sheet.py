"""A picture of one demo video: its whole length on top, and below it every event with what is said about it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.demo.render import HEIGHT, WIDTH, draw
from pipeline.demo.scenes import FPS, Query, Scene, VideoSpec

INK, FAINT, PAPER = (32, 35, 42), (120, 126, 138), (250, 250, 248)
EVENTS = [(46, 117, 182), (198, 92, 52), (70, 140, 86), (146, 88, 158), (190, 148, 40), (60, 140, 150)]
FILLER = (214, 216, 220)
STILLS, STEPS = 10, 6  # pictures along the video, and within a second of an event
MARGIN, GAP, BAR = 28, 6, 16


def sheet(spec: VideoSpec, width: int = 1180) -> Image.Image:
    """The contact sheet of a video: stills along its time, a bar of its events, then six frames (one second) and the caption of each."""
    inner = width - 2 * MARGIN
    scenes = {round(scene.start / FPS, 3): scene for scene in spec.scenes}
    frames = np.concatenate([draw(scene) for scene in spec.scenes])
    still = (inner - (STILLS - 1) * GAP) // STILLS
    small, high = still * HEIGHT // WIDTH, 92
    top = MARGIN + 50 + small + BAR + 40
    page = Image.new("RGB", (width, top + len(spec.queries) * (high + 18) + MARGIN - 18), PAPER)
    pen = ImageDraw.Draw(page)
    title, text, note = (ImageFont.load_default(size) for size in (21, 18, 14))

    pen.text(
        (MARGIN, MARGIN - 6), f"One demo video: {spec.duration:.1f} s, {len(spec.queries)} events, {len(spec.queries)} queries", INK, title
    )
    for i in range(STILLS):
        frame = frames[int((i + 0.5) * len(frames) / STILLS)]
        page.paste(_picture(frame, still, small), (MARGIN + i * (still + GAP), MARGIN + 34))
    bar = MARGIN + 34 + small + 8
    pen.rectangle((MARGIN, bar, MARGIN + inner, bar + BAR), FILLER)
    for second in range(0, int(spec.duration) + 1, 5):
        x = MARGIN + inner * second / spec.duration
        pen.text((x, bar + BAR + 4), f"{second} s", FAINT, note, anchor="ma" if second else "la")
    for i, query in enumerate(spec.queries):
        left, right = (MARGIN + inner * t / spec.duration for t in (query.start, query.end))
        pen.rectangle((left, bar, right, bar + BAR), EVENTS[i % len(EVENTS)])
        _event(page, pen, scenes[query.start], query, EVENTS[i % len(EVENTS)], top + i * (high + 18), high, (text, note))
    return page


def _event(
    page: Image.Image,
    pen: ImageDraw.ImageDraw,
    scene: Scene,
    query: Query,
    colour: tuple[int, int, int],
    top: int,
    high: int,
    fonts: tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, ImageFont.FreeTypeFont | ImageFont.ImageFont],
) -> None:
    """One row: a coloured edge, a second of the event frame by frame, the caption."""
    wide = high * WIDTH // HEIGHT
    pen.rectangle((MARGIN, top, MARGIN + 5, top + high - 1), colour)
    shots = draw(scene)
    first = len(shots) // 3
    for step in range(STEPS):
        shot = shots[min(first + step * (FPS // STEPS), len(shots) - 1)]
        page.paste(_picture(shot, wide, high), (MARGIN + 12 + step * (wide + 2), top))
    x = MARGIN + 12 + STEPS * (wide + 2) + 16
    lines = _wrap(pen, f"\u201c{query.query}\u201d", fonts[0], page.width - MARGIN - x)
    for n, line in enumerate(lines):
        pen.text((x, top + 6 + 24 * n), line, INK, fonts[0])
    kind = {"motion": ", told apart by motion only", "place": ", told apart by the place only"}.get(query.group, "")
    pen.text((x, top + 12 + 24 * len(lines)), f"{query.start:.1f} to {query.end:.1f} s{kind}", FAINT, fonts[1])


def _picture(frame: np.ndarray, width: int, height: int) -> Image.Image:
    return Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS)


def _wrap(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and pen.textlength(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def save(spec: VideoSpec, path: Path) -> None:
    """Write the sheet as a PNG of at most 256 colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet(spec).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
