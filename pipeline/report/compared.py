"""How the models of a group differ: the table of means, paired tests against the best, and shares of queries won and lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.evaluation import significance
from pipeline.evaluation.markdown import spread
from pipeline.evaluation.published import COLUMNS, beside
from pipeline.ranking.cutoffs import CUTOFFS
from pipeline.report import pick
from pipeline.report.pick import cut
from pipeline.report.runs import ZERO_SHOT, Bench, Model

TESTED = 12  # models; each test draws 9,999 times
PUBLISHED = 40  # rows of other people's numbers


def rows(bench: Bench, kind: str) -> list[dict[str, Any]]:
    """The result table: models best first, zero-shot, chance, and what was published on a gallery of this size."""
    made = [_row(model, best=model is bench.best) for model in bench.models[: pick.ROWS]]
    if (zero_shot := bench.zero_shot_recalls) is not None:
        made.append(_other(ZERO_SHOT, "frozen encoder, max over rows", "reference", zero_shot))
    made.append(_other("chance", f"1 of {bench.videos:,} videos", "reference", bench.best.first["chance"]))
    for line in beside(kind, bench.videos)[:PUBLISHED]:
        values = dict(zip(COLUMNS, line.values, strict=True))
        made.append(_other(f"published: {line.method}", line.features, "published", values))
    return made


def _row(model: Model, *, best: bool) -> dict[str, Any]:
    inside = [run.metrics["moments"]["frame"]["inside"] for run in model.runs if run.metrics["moments"]]
    return {
        "name": model.name,
        "note": cut(f"{model.first['model']}; {' + '.join(model.first['features'])}", 120),
        "class": "best" if best else "",
        "seeds": len(model.runs),
        "inside": spread(inside) if inside else "",
        **_cells([run.metrics["recalls"]["fused"] for run in model.runs]),
    }


def _other(name: str, note: str, kind: str, recalls: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": name, "note": note, "class": kind, "seeds": "", "inside": "", **_cells([recalls])}


def _cells(recalls: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"cells": [spread([of[column] for of in recalls]) for column in COLUMNS]}


def tests(bench: Bench) -> list[dict[str, Any]]:
    """Every other model, and zero-shot, against the best one: difference in SumR, p-value, the same corrected, queries won and lost."""
    others = {model.name: model.ranks for model in bench.models[1:TESTED]}
    if bench.zero_shot is not None:
        others[ZERO_SHOT] = bench.zero_shot
    ours = significance.sumr_of_queries(bench.best.ranks).mean(0)
    values = {name: significance.sumr_of_queries(ranks).mean(0) for name, ranks in others.items()}
    raw = [significance.randomisation(ours, theirs, bench.videos_of) for theirs in values.values()]
    return [
        {
            "name": name,
            "difference": f"{float((theirs - ours).mean()):+.1f}",
            "p": probability(p),
            "holm": probability(corrected),
            "better": int((ours > theirs).sum()),
            "worse": int((ours < theirs).sum()),
        }
        for (name, theirs), p, corrected in zip(values.items(), raw, significance.holm(raw), strict=True)
    ]


def probability(p: float) -> str:
    """A p-value as it is printed; never 0, which no number of draws can show."""
    least = 1 / (significance.DRAWS + 1)
    return "-" if np.isnan(p) else f"≤ {2 * least:.4f}" if p <= 2 * least else f"{p:.4f}"


def won_and_lost(bench: Bench) -> tuple[str, list[dict[str, Any]]]:
    """The reference, and per model the percent of queries that only it, or only the reference, has within each cut-off; over seeds.

    No model where nothing can be lost: of one video every query's is the first.
    """
    name, other = pick.reference(bench)
    if other is None or bench.videos <= min(CUTOFFS):
        return name if other is not None else "", []
    made = []
    for model in bench.models[: pick.MODELS]:
        if model.name == name:
            continue
        shares = {}
        for k in CUTOFFS:
            if k >= bench.videos:
                continue
            ours, theirs = (model.ranks <= k).mean(0), (other <= k).mean(0)
            shares[k] = (100 * float((ours * (1 - theirs)).mean()), 100 * float((theirs * (1 - ours)).mean()))
        made.append({"name": model.name, "shares": shares})
    return name, made
