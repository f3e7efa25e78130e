"""One table of all runs: mean and spread over seeds, beside zero-shot, chance, and what was published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.schema import Config
from pipeline.core import install
from pipeline.core.atomic import write_text
from pipeline.core.errors import StoreError, StoreMissing
from pipeline.core.layout import Layout
from pipeline.datasets import time_line
from pipeline.evaluation import judged_text
from pipeline.evaluation.markdown import Row, markdown, spread
from pipeline.evaluation.published import COLUMNS, NOTES, beside, elsewhere


def run_table(config: Config, layout: Layout, target: str = "table") -> str:
    """Write results/<dataset>/<target>.md and .csv from its runs' metrics.json; returns the text. `target`: table, ablation or sweeps.

    Errors: ConfigError when the target has no model; StoreMissing when no run has been evaluated; StoreError when the runs are not of
    one gallery.
    """
    config.check_target(target)
    runs: dict[str, list[dict[str, Any]]] = {}
    absent: list[str] = []
    for experiment, seed in config.group(target):
        path = layout.metrics(experiment, seed)
        if path.exists():
            runs.setdefault(experiment, []).append(json.loads(path.read_text()))
        else:
            absent.append(f"{experiment} seed {seed}")
    if not runs:
        command = install.run_command(config.source, *([target] if target != "table" else []))
        raise StoreMissing("no run has been evaluated", where=layout.root / "runs", fix=f"run `{command}`")
    _one_gallery(runs, layout)
    kind = benchmark(config.dataset.kind, runs)
    text = render(runs, kind, absent, target)
    write_text(layout.table(target), text + "\n")
    write_text(layout.table(target).with_suffix(".csv"), frame(runs, kind, target).to_csv(index=False))
    return text


def benchmark(kind: str, runs: dict[str, list[dict[str, Any]]]) -> str:
    """The dataset's kind; of a bundle with its own caption lists, the collection it names as its gallery."""
    if kind != "bundle":
        return kind
    collection = next(iter(runs.values()))[0]["gallery"]["name"]
    return {"qvhighlight": "qvhighlights"}.get(collection, collection)


def _one_gallery(runs: dict[str, list[dict[str, Any]]], layout: Layout) -> None:
    """StoreError listing every run, when their galleries have several names: recalls on them cannot stand in one table."""
    named = {f"{name} seed {run['seed']}": run["gallery"]["name"] for name, seeds in runs.items() for run in seeds}
    if len(set(named.values())) > 1:
        listing = "\n".join(f"    {run}: {gallery}" for run, gallery in named.items())
        raise StoreError(
            f"runs of several galleries in one folder:\n{listing}",
            where=layout.root / "runs",
            fix="evaluate them again with one dataset.gallery, and give each gallery its own dataset.name",
        )


def render(runs: dict[str, list[dict[str, Any]]], kind: str, absent: Sequence[str] = (), target: str = "table") -> str:
    """The tables as aligned Markdown, which reads well on a terminal too.

    `runs`: experiment -> the metrics of its seeds. Published numbers: pipeline/evaluation/published.py.
    """
    first = next(iter(runs.values()))[0]
    gallery, sections = first["gallery"], []
    name = f" ({gallery['name']})" if gallery["name"] else ""
    selection = sorted({str(run["selection_split"]) for seeds in runs.values() for run in seeds})
    sections.append(
        f"{first['dataset']}: {gallery['queries']} queries of the {first['split']} split against {gallery['videos']} videos{name}; "
        f"epochs chosen on {', '.join(selection)}. Percent; ± is the standard deviation over seeds."
    )
    sections.append(markdown(["model", "features", "gallery", *COLUMNS], _main_rows(runs, kind, target)))
    if kind in NOTES and beside(kind, gallery["videos"], target):
        sections.append(NOTES[kind])
    sections.append(elsewhere(kind, gallery["videos"], target))
    words = time_line.words(first["moments"]["time_line"]) if first["moments"] else []
    sections.append("\n".join(f"- {line}" for line in [*_comparisons(runs), *words]))
    for group in sorted({group for seeds in runs.values() for run in seeds for group in run["groups"]}):
        count = next(run["groups"][group]["queries"] for seeds in runs.values() for run in seeds if group in run["groups"])
        rows = [
            [label, features, *_cells([run["groups"][group][key] for run in group_runs])]
            for label, features, key, group_runs in _measured(runs, group)
        ]
        sections.append(f"Queries of group {group} ({count}):\n\n" + markdown(["model", "features", *COLUMNS], rows))
    sections.append(judged_text.section(runs))
    sections.append(_details(runs))
    if absent:
        sections.append(f"Not evaluated yet: {', '.join(absent)}.")
    return "\n\n".join(section for section in sections if section)


def _measured(runs: dict[str, list[dict[str, Any]]], group: str | None = None) -> list[tuple[str, str, str, list[dict[str, Any]]]]:
    """(label, features, branch key, runs) of every row that was computed here; zero-shot once per text encoder."""
    rows: list[tuple[str, str, str, list[dict[str, Any]]]] = []
    seen: set[str] = set()
    for experiment, seeds in runs.items():
        measured = [run for run in seeds if group is None or group in run["groups"]]
        if not measured:
            continue
        run = measured[0]
        if "zero_shot" in run["recalls"] and run["text"] not in seen:
            seen.add(run["text"])
            rows.insert(len(seen) - 1, ("zero-shot max-sim", run["text"], "zero_shot", [run]))
        imported = sorted({str(run["imported"]) for run in measured if run.get("imported")})
        marks = [f"{len(measured)} seeds"] * (len(measured) > 1) + [f"imported: {', '.join(imported)}"] * bool(imported)
        rows.append((experiment + (f" ({'; '.join(marks)})" if marks else ""), "+".join(run["features"]), "fused", measured))
    return rows


def _main_rows(runs: dict[str, list[dict[str, Any]]], kind: str, target: str) -> list[Row]:
    rows = [
        [label, features, _gallery(of_row[0]), *_cells([run["recalls"][key] for run in of_row])]
        for label, features, key, of_row in _measured(runs)
    ]
    first = next(iter(runs.values()))[0]
    rows.append(["chance", "", _gallery(first), *_cells([first["chance"]])])
    for line in beside(kind, first["gallery"]["videos"], target):
        values = ("-" if value is None else f"{value:.1f}" for value in line.values)
        rows.append([f"published: {line.method}", line.features, line.gallery, *values])
    return rows


def _gallery(run: dict[str, Any]) -> str:
    """The evaluation set of a run: its name where there are several, and its videos."""
    name, videos = run["gallery"]["name"], run["gallery"]["videos"]
    return f"{name}, {videos:,}" if name else f"{videos:,}"


def _cells(recalls: Sequence[dict[str, float]]) -> Row:
    return [spread([values[column] for values in recalls]) for column in COLUMNS]


def _comparisons(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What a reader asks first: how far above zero-shot, how many times chance, how often the moment is found."""
    lines = []
    for experiment, seeds in runs.items():
        recall = float(np.mean([run["recalls"]["fused"]["R@1"] for run in seeds]))
        parts = [f"R@1 is {recall / seeds[0]['chance']['R@1']:.1f} times chance"]
        if "zero_shot" in seeds[0]["recalls"]:
            gain = float(np.mean([run["recalls"]["fused"]["SumR"] - run["recalls"]["zero_shot"]["SumR"] for run in seeds]))
            parts.append(f"SumR {gain:+.1f} against zero-shot")
        if seeds[0]["moments"]:
            inside = np.mean([run["moments"]["frame"]["inside"] for run in seeds])
            parts.append(f"best frame inside the queried moment {inside:.1f} % (chance {seeds[0]['moments']['frame']['chance']:.1f} %)")
        lines.append(f"{experiment}: {', '.join(parts)}")
    return lines


def _details(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Branches alone, and the collapse measures of Tables 8, 9 and A2."""
    branches = _branches(runs)
    sums = [f"SumR {branch}" for branch in branches]
    header = ["model", *sums, "Diff. Norm text", "Diff. Norm video", "Spearman", "won / lost @1", "won / lost @10"]
    rows = []
    for experiment, seeds in runs.items():
        structure = [run["collapse"] for run in seeds]
        text, video = ([s[side].get("model", {}) for s in structure] for side in ("text", "video"))
        agreement = [s["text"].get("agreement_with_foundation", {}).get("spearman") for s in structure]
        row = [
            experiment,
            *(spread(run["recalls"].get(branch, {}).get("SumR") for run in seeds) for branch in branches),
            spread((s.get("diff_norm") for s in text), 3),
            spread((s.get("diff_norm") for s in video), 3),
            spread(agreement, 3),
        ]
        for cutoff in ("R@1", "R@10"):
            tables = [s["against_zero_shot"][cutoff] for s in structure if "against_zero_shot" in s]
            row.append(f"{spread(t['only_ours'] for t in tables)} / {spread(t['only_reference'] for t in tables)}" if tables else "-")
        rows.append(row)
    note = (
        "Diff. Norm: similarity inside a video against all, (intra - total) / (intra + total); Spearman: with the foundation model's text\n"
        "similarities; won / lost: percent of queries only this model, or only zero-shot, has within the cut-off."
    )
    return f"{markdown(header, rows)}\n\n{note}"


def _branches(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The branches of all models, in the order of their first mention."""
    return list(dict.fromkeys(branch for seeds in runs.values() for run in seeds for branch in run["branches"]))


def frame(runs: dict[str, list[dict[str, Any]]], kind: str, target: str = "table") -> pd.DataFrame:
    """Every row as numbers: the gallery, mean and std columns per measure, `seeds` averaged over, `source` of published rows."""
    rows = []
    for label, features, key, of_row in _measured(runs):
        row: dict[str, Any] = {"model": label.split(" (")[0], "features": features, "seeds": len(of_row), "source": "this run"}
        row["gallery"] = _gallery(of_row[0])
        for column in COLUMNS:
            values = [run["recalls"][key][column] for run in of_row]
            row[column], row[f"{column} std"] = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else np.nan
        if key == "fused":
            row |= _flat(of_row)
        rows.append(row)
    for line in beside(kind, next(iter(runs.values()))[0]["gallery"]["videos"], target):
        values_of = dict(zip(COLUMNS, line.values, strict=True))
        rows.append({"model": line.method, "features": line.features, "source": line.source, "gallery": line.gallery, **values_of})
    return pd.DataFrame(rows)


def _flat(seeds: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means of the measures beside the recalls."""
    picked: dict[str, list[float | None]] = {
        **{f"SumR {branch}": [run["recalls"][branch]["SumR"] for run in seeds] for branch in seeds[0]["branches"]},
        "inside moment": [(run["moments"] or {}).get("frame", {}).get("inside") for run in seeds],
        "text diff norm": [run["collapse"]["text"].get("model", {}).get("diff_norm") for run in seeds],
        "video diff norm": [run["collapse"]["video"].get("model", {}).get("diff_norm") for run in seeds],
        "spearman": [run["collapse"]["text"].get("agreement_with_foundation", {}).get("spearman") for run in seeds],
    }
    for column in judged_text.COLUMNS[2:] if all((run.get("relevance") or {}).get("measures") for run in seeds) else ():
        picked[column] = [run["relevance"]["measures"]["fused"][column] for run in seeds]
    for group in seeds[0]["groups"]:
        picked |= {f"{column} {group}": [run["groups"][group]["fused"][column] for run in seeds] for column in COLUMNS}
    return {name: float(np.mean([v for v in values if v is not None] or [np.nan])) for name, values in picked.items()}
