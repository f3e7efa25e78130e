"""The picture of a training: where hard negatives begin is marked, and no legend lies over the curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.training import plot


@pytest.mark.parametrize(("hard", "marked"), [(6, True), (31, False), (None, False)])
def test_hard_negatives_are_marked_and_the_legend_is_beside(monkeypatch: pytest.MonkeyPatch, hard: int | None, marked: bool) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(plot, "save", lambda figure, path: drawn.append(figure))
    terms = {f"term_{i}": 0.1 * (i + 1) for i in range(9)}
    history = [{"epoch": e, "loss": 2.0 / e, "gradient_norm": 1.0, **terms, "R@1": 1.0, "SumR": 2.0 + e} for e in range(1, 11)]
    plot.learning_curves(Path("training.png"), history, 9, "val", "title", hard)
    drawn[0].canvas.draw()
    for axes in drawn[0].axes:
        legend = axes.get_legend()
        assert not legend.get_window_extent().overlaps(axes.get_window_extent())
        assert ("hard negatives from epoch 6" in [text.get_text() for text in legend.get_texts()]) is marked
        assert drawn[0].bbox.containsx(legend.get_window_extent().x1)
        assert drawn[0].bbox.containsy(legend.get_window_extent().y0)
