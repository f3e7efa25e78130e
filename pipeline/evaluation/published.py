"""Published numbers of the benchmarks, to stand beside one's own: `published.yaml`, a table a source."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

FILE = Path(__file__).with_name("published.yaml")
COLUMNS = ("R@1", "R@5", "R@10", "R@100", "SumR")
Values = tuple[float | None, ...]
NOTES = {
    "activitynet": "Recalls on the two ActivityNet galleries cannot be compared: the smaller one is easier. The CLIP-L/14 rows do not\n"
    "say which of the two they used (docs/datasets.md).",
    "tvr": "The published test set is TVR's validation set, on which the epoch was chosen too.",
    "qvhighlights": "474 videos, the 150 s clips of one source joined; numbers on un-merged clips (ProPy) are not comparable.",
    "charades": "One text describes several videos, and the published sweep of tau moves by 1.7 SumR without a trend.",
}


class Published(NamedTuple):
    """One line of a paper's table: method, video features, words, R@1, R@5, R@10, R@100, SumR in percent (None: not given), source,
    protocol, and the evaluation set it was measured on: the sizes it may have had, and its name where there are several."""

    method: str
    features: str
    words: str
    values: Values
    source: str
    protocol: str
    videos: tuple[int, ...]
    name: str = ""

    @property
    def gallery(self) -> str:
        sizes = " or ".join(f"{size:,}" for size in self.videos)
        return f"{self.name}, {sizes}" if self.name else sizes


@cache
def _tables() -> list[dict[str, Any]]:
    tables: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return tables


def published(kind: str, target: str = "table") -> list[Published]:
    """What was published on a dataset, CLIP features first; for `ablation` and `sweeps` the paper's own variations, under the names
    pipeline/config/ablations.py gives them.

    Empty where nothing was, and for datasets that are no benchmark.
    """
    return [
        Published(
            method, table["features"], table["words"], _five(values), table["source"], table["protocol"], tuple(table["videos"]), name
        )
        for table in _tables()
        if (table["dataset"], table.get("target", "table")) == (kind, target)
        for name in [table.get("gallery", "")]
        for method, *values in table["rows"]
    ]


def beside(kind: str, videos: int, target: str = "table") -> list[Published]:
    """Those of a gallery of as many videos: recalls on a smaller one are higher, whatever the method."""
    return [line for line in published(kind, target) if videos in line.videos]


def elsewhere(kind: str, videos: int, target: str = "table") -> str:
    """A line about published numbers that do not stand beside a gallery of another size; empty where all do."""
    others = sorted({size for line in published(kind, target) if videos not in line.videos for size in line.videos}, reverse=True)
    sizes = " or ".join(f"{size:,}" for size in others)
    return f"Published numbers on a gallery of {sizes} videos are not shown beside one of {videos:,}." if others else ""


def _five(values: list[float]) -> Values:
    return (*[None] * (len(COLUMNS) - len(values)), *values)
