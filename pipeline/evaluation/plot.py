"""One picture of a run: recall at every cut-off, and how the ranks are spread, per branch and against zero-shot."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.ticker import NullFormatter, PercentFormatter

from pipeline.core.figures import figure, save

_STYLE = {"fused": ("C0", "-"), "clip": ("C1", "-"), "frame": ("C2", "-"), "zero_shot": ("0.45", "--")}


def recall_curves(path: Path, ranks: Mapping[str, np.ndarray], videos: int, title: str) -> None:
    """Write a PNG: left, the share of queries whose video is within the first K, over K; right, the share of queries per range of ranks.

    Shapes: `ranks[branch]` [Q], 1 = best, of `videos` candidates. No display is needed.
    """
    shown = {name: np.asarray(ranks[name]) for name in _STYLE if name in ranks}
    drawn = figure(10, 4)
    left, right = drawn.subplots(1, 2)
    cutoffs = np.unique(np.round(np.geomspace(1, max(videos, 2), 200)).astype(int))
    for name, values in shown.items():
        colour, line = _STYLE[name]
        ordered = np.sort(values)
        left.plot(cutoffs, np.searchsorted(ordered, cutoffs, side="right") / len(ordered), line, color=colour, label=name.replace("_", "-"))
    left.plot(cutoffs, np.minimum(1.0, cutoffs / videos), ":", color="0.7", label="chance")
    left.set(xscale="log", xlabel="K", ylabel="queries with their video within K", ylim=(0, 1.02))
    left.yaxis.set_major_formatter(PercentFormatter(1.0))
    ticks = [k for k in (1, 5, 10, 50, 100, 500, 1000, 5000) if k <= videos]
    left.set_xticks(ticks, [str(k) for k in ticks], minor=False)
    left.xaxis.set_minor_formatter(NullFormatter())  # within one decade the axis would name its minor ticks: 2 x 10^0
    left.legend()
    edges = [edge for edge in (1, 2, 6, 11, 51, 101, 501, 1001) if edge <= videos] + [videos + 1]
    width = 0.8 / max(1, len(shown))
    for i, (name, values) in enumerate(shown.items()):
        share = np.histogram(values, edges)[0] / len(values)
        right.bar(
            np.arange(len(share)) + (i - (len(shown) - 1) / 2) * width, share, width, color=_STYLE[name][0], label=name.replace("_", "-")
        )
    labels = [f"{a}" if b - a == 1 else f"{a}-{b - 1}" for a, b in itertools.pairwise(edges)]
    right.set_xticks(range(len(labels)), labels)
    right.set(xlabel="rank of the query's video", ylabel="queries")
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    drawn.suptitle(title)
    save(drawn, path)
