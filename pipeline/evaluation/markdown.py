"""Numbers as cells, and rows as an aligned Markdown table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Row = list[str]
WORDS = ("model", "features", "method", "branch", "variant", "split", "words", "published", "source", "protocol")  # to the left


def spread(values: Iterable[float | None], digits: int = 1) -> str:
    """Mean, and the sample standard deviation when there are several values; a dash when there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    mean = f"{round(float(np.mean(known)), digits) + 0.0:.{digits}f}"  # no minus zero
    return f"{mean} ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else mean


def markdown(header: Row, rows: Sequence[Row]) -> str:
    """A Markdown table with padded columns, words to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    left = [header[i] in WORDS for i in range(len(header))]

    def line(cells: Row) -> str:
        padded = (cell.ljust(w) if keep else cell.rjust(w) for cell, w, keep in zip(cells, widths, left, strict=True))
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * w}" if keep else f"{'-' * (w - 1)}:" for w, keep in zip(widths, left, strict=True)]
    return "\n".join([line(header), line(rule), *map(line, rows)])
