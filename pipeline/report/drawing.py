"""matplotlib's drawings as SVG inside the page: small, the same bytes for the same numbers, in the page's font and colours."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from pipeline.core.figures import figure

# Colours that stand for a variable of the page's style sheet, which knows light from dark.
INK, MUTED, LINE = "#0a0a01", "#0a0a02", "#0a0a03"
SERIES = ("#0b0b01", "#0b0b02", "#0b0b03", "#0b0b04", "#0b0b05", "#0b0b06")
GOOD, BAD = "#0c0c01", "#0c0c02"
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", GOOD: "good", BAD: "bad", **{c: f"s{i}" for i, c in enumerate(SERIES, 1)}}
WIDTH, HEIGHT = 5.6, 3.2  # inches
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "prvr",
    "text.parse_math": False,  # a name with two dollar signs is no formula
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
}


@contextmanager
def drawn(width: float = WIDTH, height: float = HEIGHT, columns: int = 1) -> Iterator[tuple[Figure, Any, list[Markup]]]:
    """A figure, its axes, and a list that holds its SVG when the block has ended."""
    with mpl.rc_context(_STYLE):
        made, result = figure(width, height), list[Markup]()
        made.patch.set_alpha(0)
        axes = made.subplots(1, columns)
        for one in axes if columns > 1 else [axes]:
            one.patch.set_alpha(0)
        yield made, axes, result
        result.append(_svg(made))


def decades(axes: Axes, highest: int) -> None:
    """A logarithmic axis of whole numbers from 1 on, named at round ones only; below ten at each."""
    axes.set_xscale("log")
    round_ones = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000) if k <= highest]
    if len(round_ones) > 7:
        round_ones = [k for k in round_ones if str(k)[0] in "15"]
    ticks = list(range(1, highest + 1)) if highest < 10 else round_ones
    axes.set_xticks(ticks, [f"{k:,}" for k in ticks])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()


def logarithmic(axes: Axes) -> None:
    """A logarithmic axis upwards, named in plain numbers: at 1, 2 and 5, within one decade as on a linear one."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if high > 10 * low else MaxNLocator(6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _svg(made: Figure) -> Markup:
    """The drawing's own elements: no prologue, no metadata, no addresses, no fixed size."""
    file = io.StringIO()
    made.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}, transparent=True)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<style type=\"text/css\">.*?</style>", "", text, flags=re.S)
    head, _, body = text.partition(">")
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", body)
    body = re.sub(r"#0[abc]0[abc]0\d", lambda match: f"var(--{VARIABLES.get(match[0], 'ink')})", body)
    body = re.sub(r"\n\s*", "\n", body).replace("xlink:href", "href")
    return Markup(f'<svg {box[0]} class="plot" aria-hidden="true">{body}')
