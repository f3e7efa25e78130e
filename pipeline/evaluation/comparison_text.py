"""The comparison of methods as Markdown: recalls and test, branches, groups, costs, and what was published on the same gallery."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pipeline.evaluation import judged_text
from pipeline.evaluation.markdown import markdown
from pipeline.evaluation.methods import Comparison
from pipeline.evaluation.published import COLUMNS, NOTES, beside, elsewhere

TEST = (
    "p: two-sided paired randomisation test of SumR against the best row, over queries, each query's value a mean over seeds; the queries\n"
    "of one video change sign together; 9,999 draws; corrected by Holm for the rows of a table. It speaks of these queries, not of\n"
    "further seeds: those are the ±, one sample standard deviation."
)
COST = (
    "Costs were measured once a method on random weights, alone on the machine. Parameters: all that are trained, and those ranking\n"
    "reads. Memory: peak of the whole process, libraries included (of the GPU, where there is one). Latency: one query encoded and\n"
    "scored against every video, best 100 kept, on galleries made up of real videos over and over; -: over two minutes."
)
_WHAT = ("method", "variant", "split", "gallery", "features", "words")


def render(tables: Sequence[Comparison], kind: str, absent: Sequence[str] = ()) -> str:
    """Every table with its branches, groups and costs; below them what both have in common."""
    sections = []
    for number, table in enumerate(tables, start=1):
        fused = [row for row in table.rows if row["branch"] == "fused"]
        if len(tables) > 1:
            sections.append(f"## Table {number} of {len(tables)}: not to be compared with the others")
        sections += [_head(table), _main(fused), _branches(table.rows), _groups(fused), _costs(fused)]
        sections.append(judged_text.section({method.name: method.runs for method in table.methods}))
        sections.append(_published(kind, table.videos))
    if any(len(table.methods) > 1 for table in tables):
        sections.append(TEST)
    if any("parameters training" in row for table in tables for row in table.rows):
        sections.append(COST)
    if absent:
        sections.append(f"Not evaluated yet: {', '.join(absent)}.")
    return "\n\n".join(section for section in sections if section)


def _head(table: Comparison) -> str:
    run = table.methods[0].runs[0]
    chosen = sorted({str(method.runs[0]["selection_split"]) for method in table.methods})
    chance, asked = run["chance"], run["gallery"]["queries"]
    return (
        f"{run['dataset']}: {asked} queries of the {run['split']} split against {table.videos} videos; epochs chosen on "
        f"{', '.join(chosen)}. Percent; chance R@1 {chance['R@1']:.1f}, SumR {chance['SumR']:.1f}."
    )


def _main(rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        [
            *(str(row[key]) for key in _WHAT),
            str(row["seeds"]),
            *(_spread(row, column) for column in COLUMNS),
            _gap(row),
            p_value(row["p Holm"]),
        ]
        for row in rows
    ]
    return markdown([*_WHAT, "seeds", *COLUMNS, "to the best", "p"], cells)


def _branches(rows: Sequence[dict[str, Any]]) -> str:
    chosen = [row for row in rows if row["branch"] != "fused"]
    cells = [[row["method"], row["branch"], *(_spread(row, column) for column in COLUMNS)] for row in chosen]
    return "Each branch alone:\n\n" + markdown(["method", "branch", *COLUMNS], cells) if cells else ""


def _groups(rows: Sequence[dict[str, Any]]) -> str:
    names = list(
        dict.fromkeys(key for row in rows for key in row if key.startswith("SumR ") and key not in ("SumR std", "SumR against best"))
    )
    cells = [[row["method"], *(_number(row.get(name), 1) for name in names)] for row in rows]
    header = ["method", *(name.removeprefix("SumR ") for name in names)]
    return "SumR by group of queries:\n\n" + markdown(header, cells) if names else ""


def _costs(rows: Sequence[dict[str, Any]]) -> str:
    measured = [row for row in rows if "parameters training" in row]
    if not measured:
        return ""
    latencies = list(dict.fromkeys(key for row in measured for key in row if key.startswith("ms at ")))
    cells = [
        [
            row["method"],
            f"{row['parameters training']:,}",
            f"{row['parameters inference']:,}",
            _number(row["seconds per epoch"], 2),
            _number(row["peak MB"], 0),
            f"{row['vectors per video']:g}",
            f"{row['bytes per video'] / 1000:.1f}",
            *(_number(row.get(key), 1) for key in latencies),
        ]
        for row in measured
    ]
    header = ["method", "trained", "for ranking", "s an epoch", "peak MB", "vectors", "kB a video", *latencies]
    machines = sorted({f"{row['device']}, {row['threads']} threads" for row in measured})
    return f"Cost ({'; '.join(machines)}):\n\n{markdown(header, cells)}"


def _published(kind: str, videos: int) -> str:
    """What was published on a gallery as large; a line about the rest."""
    rows = [
        [line.method, line.features, line.words, line.gallery, *(_number(value, 1) for value in line.values), line.source, line.protocol]
        for line in beside(kind, videos)
    ]
    parts = []
    if rows:
        header = ["published", "features", "words", "gallery", *COLUMNS, "source", "protocol"]
        parts.append("Published on a gallery of this size:\n\n" + markdown(header, rows))
        parts.append(NOTES.get(kind, ""))
    return "\n\n".join(filter(None, [*parts, elsewhere(kind, videos)]))


def _spread(row: dict[str, Any], column: str) -> str:
    deviation = row[f"{column} std"]
    return f"{row[column]:.1f}" + ("" if math.isnan(deviation) else f" ± {deviation:.1f}")


def _gap(row: dict[str, Any]) -> str:
    return "best" if row["SumR against best"] == 0 and math.isnan(row["p"]) else f"{row['SumR against best']:+.1f}"


def p_value(value: float) -> str:
    """A p-value as the tables print it; nothing where there is none."""
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
