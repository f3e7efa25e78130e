"""Pictures written without a display, and whole or not at all."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pipeline.core.atomic import replacing


def figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, whose parts make room for each other."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(drawn: Figure, path: Path) -> None:
    """Write it as PNG; the same figure gives the same bytes."""
    with replacing(path) as temporary:
        drawn.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
