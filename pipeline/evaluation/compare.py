"""All methods of a configuration in one table: mean and spread over seeds, a paired test against the best, branches, costs, published rows.

Rows stand in one table only where they can be compared: same split, gallery, queries, features and words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.schema import Config
from pipeline.core import install
from pipeline.core.atomic import write_json, write_text
from pipeline.core.errors import StoreMissing
from pipeline.core.layout import Layout
from pipeline.evaluation import comparison_text, significance
from pipeline.evaluation.formats import plain
from pipeline.evaluation.methods import Comparison, Key, Method, read
from pipeline.evaluation.published import COLUMNS, Published, beside
from pipeline.evaluation.table import benchmark


def run_comparison(config: Config, layout: Layout) -> str:
    """Write compare.md, .csv and .json from the runs' measures and the methods' costs; returns the text.

    Errors: StoreMissing when nothing has been evaluated; ConfigError when a method does not fit the configuration.
    """
    config.check_target("compare")
    methods, absent = read(config, layout)
    if not methods:
        fix = f"run `{install.run_command(config.source, 'compare')}`"
        raise StoreMissing("no method has been evaluated", where=layout.root / "runs", fix=fix)
    tables = compared(methods)
    kind = benchmark(config.dataset.kind, {method.name: method.runs for method in methods})
    text = comparison_text.render(tables, kind, absent)
    path = layout.table("compare")
    write_text(path, text + "\n")
    flat = pd.DataFrame([{"table": i, **row} for i, table in enumerate(tables, start=1) for row in table.rows])
    published = [_published(line) for line in beside(kind, tables[0].videos)]
    write_text(path.with_suffix(".csv"), pd.concat([flat, pd.DataFrame(published)]).to_csv(index=False))
    each = [{"key": table.key, "best": table.best, "rows": table.rows} for table in tables]
    write_json(path.with_suffix(".json"), plain({"tables": each, "published": published, "test": comparison_text.TEST, "absent": absent}))
    return text


def _published(line: Published) -> dict[str, Any]:
    what = {"method": line.method, "features": line.features, "words": line.words, "gallery": line.gallery}
    return {**what, **dict(zip(COLUMNS, line.values, strict=True)), "source": line.source, "protocol": line.protocol}


def compared(methods: Sequence[Method]) -> list[Comparison]:
    """The methods in as many tables as they need, each with its rows, best first."""
    groups: dict[Key, list[Method]] = {}
    for method in methods:
        groups.setdefault(method.key, []).append(method)
    return [_comparison(key, sorted(group, key=lambda m: -m.mean("SumR"))) for key, group in groups.items()]


def _comparison(key: Key, methods: list[Method]) -> Comparison:
    best, *others = methods
    values = {method.name: significance.sumr_of_queries(method.ranks).mean(0) for method in methods}
    raw = [significance.randomisation(values[best.name], values[other.name], best.video) for other in others]
    corrected = dict(zip([other.name for other in others], zip(raw, significance.holm(raw), strict=True), strict=True))
    rows = [row for method in methods for row in _rows(method, best, corrected.get(method.name))]
    return Comparison(key, methods, best.name, rows)


def _rows(method: Method, best: Method, p: tuple[float, float] | None) -> list[dict[str, Any]]:
    """The fused row of a method, with its test and costs, and one of each of its branches."""
    rows = []
    for branch in ["fused", *(name for name in method.runs[0]["branches"] if name in method.runs[0]["recalls"])]:
        row: dict[str, Any] = {**_what(method), "branch": branch, "seeds": len(method.runs)}
        for column in COLUMNS:
            values = [run["recalls"][branch][column] for run in method.runs]
            row[column] = float(np.mean(values))
            row[f"{column} std"] = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
        if branch == "fused":
            row["SumR against best"] = method.mean("SumR") - best.mean("SumR")
            row["p"], row["p Holm"] = p or (float("nan"), float("nan"))
            row |= _groups(method) | flat_cost(method.cost)
        rows.append(row)
    return rows


def _what(method: Method) -> dict[str, Any]:
    """What a reader must know of a row before comparing it."""
    run = method.runs[0]
    name, videos = run["gallery"]["name"], run["gallery"]["videos"]
    return {
        "method": method.name,
        "model": run["model"],
        "variant": run["variant"],
        "split": run["split"],
        "selection": run["selection_split"],
        "gallery": f"{name}, {videos:,}" if name else f"{videos:,}",
        "features": "+".join(run["features"]),
        "words": f"{run['text']}, {run['words']}",
    }


def _groups(method: Method) -> dict[str, float]:
    return {
        f"SumR {group}": float(np.mean([run["groups"][group]["fused"]["SumR"] for run in method.runs]))
        for group in method.runs[0]["groups"]
        if all(group in run["groups"] for run in method.runs)
    }


def flat_cost(cost: Mapping[str, Any]) -> dict[str, Any]:
    """The cost columns of a row; empty where nothing was measured."""
    if not cost:
        return {}
    return {
        "parameters training": cost["parameters"]["training"],
        "parameters inference": cost["parameters"]["inference"],
        "seconds per epoch": cost["epoch_seconds"],
        "peak MB": cost["peak_mb"],
        "vectors per video": cost["vectors"],
        "bytes per video": cost["bytes"],
        **{f"ms at {int(videos):,}": value for videos, value in cost["latency_ms"].items()},
        "device": cost["device"],
        "threads": cost["threads"],
    }
