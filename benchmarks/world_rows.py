"""Rows of world-1 as files, so that methods run elsewhere, or on another day, stand in one table (docs/world.md).

python -m benchmarks.world_rows save measure table --configfile config/world.yaml [--experiments msc ...] [--seeds 1 2]

`save` and `measure` (a minute a row) read a run; `table` needs none.

A row is benchmarks/results/<world>/<experiment>.json: of every seed its measures and the rank of each query's video, what it cost, and
once measured what of the paper's claims holds for its first seed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import prvr
from benchmarks.world import difficulty
from benchmarks.world_claims import claims, measured, table
from pipeline.config.models import Ral
from pipeline.config.schema import Config
from pipeline.core.atomic import write_text
from pipeline.core.store import open_store, recipe_hash
from pipeline.demo.world import world
from pipeline.evaluation import comparison_text
from pipeline.evaluation.compare import compared
from pipeline.evaluation.markdown import spread
from pipeline.evaluation.methods import Method
from pipeline.evaluation.significance import holm, randomisation, sumr_of_queries
from pipeline.jobs.dag import Dag
from pipeline.jobs.stage import Job
from pipeline.models.checkpoint import load_model

ROWS = Path(__file__).parent / "results"
# What CBVA adds to merged clips, naive and adaptive, and ten times as much; to equal clips without the layer between. What motion adds.
CAUSES = (("op-tome", "no-cbva"), ("msc", "no-cbva"), ("cbva-strong", "msc"), ("cbva-direct", "tcpl"), ("msc", "no-motion"))
CLEAN = "world-1"  # beside which rows of a noisy variant are set


def asked(config: Config) -> list[str]:
    """The queries of the split that is reported, as the generator lists them: the order of a row's ranks."""
    return [query.query_id for video in world(config.demo) if video.split == config.evaluation.split for query in video.queries]


def recipe(config: Config, experiment: str) -> str:
    """12 hex digits of everything an experiment sets: seeds of one row share them."""
    return recipe_hash(config.experiment(experiment).model_dump(mode="json"))


def check(config: Config, experiment: str, row: dict[str, Any]) -> None:
    """Errors: SystemExit when the row is of an experiment that has this name and other settings."""
    if experiment in config.models and row["recipe"] != recipe(config, experiment):
        raise SystemExit(f"{experiment}: its saved row was made with other settings: remove {experiment}.json, or give it another name")


def saved(config: Config, experiment: str, seeds: Sequence[int], before: dict[str, Any] | None) -> dict[str, Any]:
    """The row of an experiment: these seeds beside those it had, if they are of the same recipe. Errors: StoreError, SystemExit."""
    layout, queries = config.layout, asked(config)
    row = {"recipe": recipe(config, experiment), "runs": {}, "ranks": {}, **(before or {})}
    check(config, experiment, row)
    for seed in seeds:
        trained = {"experiment": config.experiment(experiment).model_dump(exclude={"evaluation"}), "seed": seed}
        load_model(layout.checkpoint(experiment, seed), experiment=experiment, seed=seed, recipe=trained)  # refuses one of other settings
        with open_store(layout.evaluation(experiment, seed), stage="evaluation") as store:
            found = store.table("queries").set_index("query_id")
        row["runs"][str(seed)] = json.loads(layout.metrics(experiment, seed).read_text())
        row["ranks"][str(seed)] = found.loc[queries, "rank_fused"].astype(int).tolist()
    if Dag.of(config).done(Job("cost", {"experiment": experiment})):
        row["cost"] = json.loads(layout.cost(experiment).read_text())
    return row


def as_text(row: dict[str, Any]) -> str:
    """JSON with the ranks of a seed on one line."""
    head = json.dumps({**row, "ranks": None}, indent=1, sort_keys=True)
    ranks = ",\n".join(f'  "{seed}": {json.dumps(values, separators=(",", ":"))}' for seed, values in sorted(row["ranks"].items()))
    return head.replace('"ranks": null', '"ranks": {\n' + ranks + "\n }") + "\n"


def read(config: Config, path: Path, queries: Sequence[str]) -> tuple[Method, list[str] | None]:
    """A saved row as a method of a comparison, and its measurements, if there are.

    Errors: SystemExit when it is of other queries, or of another experiment of that name.
    """
    row = json.loads(path.read_text())
    check(config, path.stem, row)
    seeds = sorted(row["runs"], key=int)
    if any(len(row["ranks"][seed]) != len(queries) for seed in seeds):
        raise SystemExit(f"{path}: its ranks are not of the {len(queries)} queries of this world")
    ranks = np.array([row["ranks"][seed] for seed in seeds])
    owner = [query.partition("#")[0] for query in queries]
    return Method(path.stem, [row["runs"][seed] for seed in seeds], ranks, list(queries), owner, row.get("cost", {})), row.get("measured")


def steps(methods: Sequence[Method], pairs: Sequence[tuple[str, str]]) -> list[str]:
    """What each first adds to each second in SumR: the mean and spread of its seeds' differences, and the paired test over queries.

    p is corrected by Holm for the pairs. Seeds that only one of the two has are left out; a pair without a common seed is.
    """
    values = {
        method.name: dict(zip([run["seed"] for run in method.runs], sumr_of_queries(method.ranks), strict=True)) for method in methods
    }
    rows, raw = [], []
    for new, old in pairs:
        if common := sorted(values[new].keys() & values[old].keys()):
            ours, theirs = (np.stack([values[name][seed] for seed in common]) for name in (new, old))
            rows.append([new, old, str(len(common)), spread((ours - theirs).mean(1).tolist())])
            raw.append(randomisation(ours.mean(0), theirs.mean(0), methods[0].video))
    said = map(comparison_text.p_value, holm(raw))
    return table(["", "over", "seeds", "SumR", "p"], [[*row, p] for row, p in zip(rows, said, strict=True)])


def plugged(config: Config, names: Sequence[str]) -> list[tuple[str, str]]:
    """The plug-ins among these experiments, each with the one whose model it is plugged into."""
    models = {name: config.experiment(name).model for name in names}
    hosts = {model.kind: name for name, model in reversed(models.items())}
    return [(name, hosts[model.base.kind]) for name, model in models.items() if isinstance(model, Ral) and model.base.kind in hosts]


def beside_clean(methods: Sequence[Method], folder: Path) -> list[str]:
    """SumR of a noisy world's rows and of the rows of the same name and recipe in the clean one, over the seeds that both have."""
    rows = []
    for method in methods:
        ours, clean = folder / f"{method.name}.json", folder.parent / CLEAN / f"{method.name}.json"
        if folder.name == CLEAN or not clean.exists():
            continue
        here, there = (json.loads(path.read_text()) for path in (ours, clean))
        common = sorted(here["runs"].keys() & there["runs"].keys(), key=int)
        if not common or here["recipe"] != there["recipe"]:
            continue
        after, before = ([row["runs"][seed]["recalls"]["fused"]["SumR"] for seed in common] for row in (here, there))
        lost = [b - a for a, b in zip(after, before, strict=True)]
        rows.append([method.name, str(len(common)), spread(before), spread(after), spread(lost)])
    return table(["", "seeds", f"SumR, {CLEAN}", f"SumR, {folder.name}", "lost"], rows) if rows else []


def tables(config: Config, folder: Path) -> str:
    """Everything the saved rows say: the methods compared, how far they are from the oracle, what was measured; then other experiments."""
    queries = asked(config)
    rows = {path.stem: read(config, path, queries) for path in sorted(folder.glob("*.json"))}
    if not rows:
        raise SystemExit(f"no row lies in {folder}")
    bench = [name for name in config.compared if name in rows]
    ablation = [name for name in (*config.ablations, "msc") if name in rows] if config.ablations.keys() & rows.keys() else []
    others = [name for name in rows if name not in {*bench, *ablation}]
    best = max(bench, key=lambda name: rows[name][0].mean("SumR"), default=None)
    groups = (
        ("", bench, plugged(config, bench)),
        ("The paper's ablation here; `msc` has all parts", ablation, [(new, old) for old, new in pairwise(ablation)]),
        (
            "Other rows, beside the best above",
            [best, *others] if best and others else others,
            [pair for pair in CAUSES if {*pair} <= {*rows}],
        ),
    )
    parts = []
    for head, names, pairs in groups:
        if names:
            methods = [rows[name][0] for name in names]
            parts += [f"## {head}"] if head else []
            parts.append(comparison_text.render(compared(methods), config.dataset.kind))
            parts += ["\n".join(steps([method for method, _ in rows.values()], pairs))] if pairs else []
            parts += ["\n".join(told)] if (told := beside_clean(methods, folder)) else []
            parts.append("\n".join(difficulty(config, {method.name: method.runs for method in methods})))
            known = {name: values for name in names if (values := rows[name][1])}
            parts += ["\n".join(claims(known))] if known else []
    return "\n\n".join(parts)


def write(what: str, config: Config, folder: Path, experiment: str, seeds: Sequence[int]) -> str:
    """`save` the row of an experiment, or `measure` the first seed of a saved one; returns why that could not be done, or nothing."""
    path = folder / f"{experiment}.json"
    row = json.loads(path.read_text()) if path.exists() else None
    seeds = [seed for seed in seeds if config.layout.metrics(experiment, seed).exists()]
    if not seeds:
        return "none of its seeds was evaluated"
    if what == "save":
        write_text(path, as_text(saved(config, experiment, seeds, row)))
    elif row is None:
        return "its row was not saved yet"
    else:
        check(config, experiment, row)
        write_text(path, as_text({**row, "measured": measured(config, experiment, seeds[0])}))
    print(f"{path}: {what}, seeds {', '.join(map(str, seeds))}", flush=True)
    return ""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="+", choices=("save", "measure", "table"))
    parser.add_argument("--configfile", default="config/world.yaml")
    parser.add_argument("--experiments", nargs="+", help="by default all that were evaluated")
    parser.add_argument("--seeds", type=int, nargs="+", help="by default all that were evaluated")
    parser.add_argument("--rows", type=Path, default=ROWS, help="where the folder of the world lies")
    return parser


def main() -> None:
    given = arguments().parse_args()
    config = prvr.load_config(given.configfile)
    folder = given.rows / str(config.demo.world)
    seeds = given.seeds or sorted({*config.seeds, *(config.compare.seeds or ()), *config.ablation_seeds})
    for what in given.what:
        if what == "table":
            print(tables(config, folder))
        else:
            why = {name: write(what, config, folder, name, seeds) for name in given.experiments or config.models}
            if missed := {name: reason for name, reason in why.items() if reason and (given.experiments or all(why.values()))}:
                raise SystemExit("\n".join(f"{name}: {reason}" for name, reason in missed.items()))


if __name__ == "__main__":
    main()
