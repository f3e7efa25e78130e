"""Queries that several videos answer, as they are printed after an evaluation and in the table."""

from __future__ import annotations

from typing import Any

from pipeline.evaluation.markdown import Row, markdown, spread

COLUMNS = ("R@1", "SumR", "any R@1", "any R@5", "any R@10", "any R@100", "any SumR", "coverage@1", "coverage@10", "coverage@100", "mAP")


def lines(about: dict[str, Any] | None) -> list[str]:
    """What is printed of the queries that several videos answer."""
    if not about:
        return []
    said = [
        f"  {about['file']}: {about['queries']} queries, {about['mean']:.2f} relevant videos each, {about['several']} with several; "
        f"{about['own_not_relevant']} whose own video is not among them, {about['without']} without any in the gallery"
    ]
    for branch, values in about["measures"].items():
        said.append(f"  {branch:<17}" + "".join(f"{key} {values[key]:6.2f}  " for key in ("any R@1", "any SumR", "coverage@10", "mAP")))
    return said


def section(runs: dict[str, list[dict[str, Any]]]) -> str:
    """The queries several videos answer: recall of the own video, of any relevant one, the share of them found, average precision."""
    measured = {name: [run for run in seeds if (run.get("relevance") or {}).get("measures")] for name, seeds in runs.items()}
    tables: dict[tuple[Any, ...], list[Row]] = {}
    for experiment, seeds in measured.items():
        for run in seeds[:1]:
            about = run["relevance"]
            key = (about["file"], about["queries"], about["mean"], about["own_not_relevant"])
            of_file = [other["relevance"]["measures"]["fused"] for other in seeds if other["relevance"]["file"] == about["file"]]
            row = [experiment, *(spread(values[column] for values in of_file) for column in COLUMNS)]
            tables.setdefault(key, []).append(row)
    parts = []
    for (file, queries, mean, without), rows in tables.items():
        head = (
            f"Several videos may answer a query ({file}: {queries} queries, {mean:.2f} videos each; the own video of {without} is not "
            "among them):"
        )
        parts.append(f"{head}\n\n{markdown(['model', *COLUMNS], rows)}")
    if parts:
        parts.append(
            "R@K and SumR: the own video alone; any: the best relevant one; coverage@K: share of a query's relevant videos in the first K."
        )
    return "\n\n".join(parts)
