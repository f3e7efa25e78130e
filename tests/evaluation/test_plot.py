"""The picture of a run's recalls: cut-offs are named as whole numbers, however few videos there are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation import plot


@pytest.mark.parametrize(("videos", "named"), [(3, ["1"]), (7, ["1", "5"]), (60, ["1", "5", "10", "50"])])
def test_the_axis_names_whole_numbers_only(monkeypatch: pytest.MonkeyPatch, videos: int, named: list[str]) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(plot, "save", lambda figure, path: drawn.append(figure))
    plot.recall_curves(Path("recall.png"), {"fused": np.array([1, 2, 3, 1])}, videos, "title")
    drawn[0].canvas.draw()
    axis = drawn[0].axes[0].xaxis
    shown = [tick.label1.get_text() for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]]
    assert [text for text in shown if text] == named
