"""Whether what is stored is what the configuration, code and data of today would give: said wherever an old answer could be served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.core.errors import StoreError
from pipeline.core.provenance import flat
from pipeline.core.store import open_store
from pipeline.jobs.dag import Dag
from pipeline.jobs.products import Product, product, products


def stale_run(dag: Dag, experiment: str, seed: int) -> str:
    """What of a run is of another time, in one line; empty when all of it is current or nothing is there."""
    of = {"experiment": experiment, "seed": str(seed)}
    name, layout = f"{experiment}, seed {seed}", dag.layout
    if layout.checkpoint(experiment, seed).exists() and not dag.imported_run(experiment, seed) and not _current(dag, "train", of):
        return f"{name}, was trained by another configuration, code or data than today's{_differences(dag, experiment, seed)}"
    if layout.metrics(experiment, seed).exists() and not _current(dag, "evaluate", of):
        return f"{name}: its measures are of another checkpoint, configuration, code or data than today's"
    return ""


def stale_runs(dag: Dag, target: str = "table") -> list[str]:
    """The same for every run of a target, and for its table."""
    lines = [line for name, seed in dag.config.group(target) if (line := stale_run(dag, name, seed))]
    if not lines and dag.layout.table(target).exists() and not _current(dag, "table", {"target": target}):
        lines.append(f"{dag.layout.table(target)} is not of today's runs")
    return lines


def stale_features(dag: Dag, paths: Sequence[Path]) -> list[str]:
    """Which of these feature stores, or folders of them, the jobs of today would make otherwise."""
    wanted = {path.resolve() for path in paths}
    if not any(path.is_relative_to(dag.layout.root.resolve()) for path in wanted):
        return []
    features = (made for made in products(dag) if made.stage == "features")
    compared = [made for made in features if wanted & {path.resolve() for path in (made.files[0], made.files[0].parent)}]
    stale = [made.files[0] for made in compared if not _is_current(dag, made)]
    return [f"{file} was made by another configuration, code or data than today's" for file in stale]


def _current(dag: Dag, stage: str, of: dict[str, str]) -> bool:
    return _is_current(dag, product(dag, stage, **of))


def _is_current(dag: Dag, made: Product) -> bool:
    read = made.read()
    return read is not None and made.whole(read) and read.get("trace") == dag.trace(made.stage, **made.of)


def _differences(dag: Dag, experiment: str, seed: int) -> str:
    """The values of the experiment that were others when it was trained."""
    try:
        with open_store(dag.layout.checkpoint(experiment, seed), stage="checkpoint") as store:
            before = flat(store.attrs["config"])
    except (StoreError, KeyError):
        return ""
    now = flat(dag.experiment(experiment).model_dump(mode="json"))
    changed = [f"{key} was {before[key]}, is {now[key]}" for key in now if key in before and before[key] != now[key]]
    return f" ({'; '.join(changed[:5])}{'; ...' if len(changed) > 5 else ''})" if changed else ""
