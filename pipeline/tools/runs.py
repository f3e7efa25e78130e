"""`prvr runs`: the runs that are there and those they took the place of, listed, set side by side, and removed."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.schema import Config
from pipeline.core import kept
from pipeline.core.errors import ConfigError, StoreError
from pipeline.core.layout import KeptLayout, Layout
from pipeline.core.provenance import canonical, flat
from pipeline.core.store import open_store
from pipeline.evaluation.significance import randomisation, sumr_of_queries

MEASURES = ("R@1", "R@5", "R@10", "R@100", "SumR")
SHOWN, LONGEST = 3, 40  # differences in a line of the list; characters of a value
# What `experiment` says already, and names of the run rather than its settings.
_REPEATED = ("clips.clips.", "teacher_clips.clips.")


@dataclass(frozen=True)
class Run:
    """One run, present or kept, and where its files lie."""

    experiment: str
    seed: int
    hash: str
    layout: Layout

    @property
    def present(self) -> bool:
        return not isinstance(self.layout, KeptLayout)

    @property
    def folder(self) -> Path:
        return self.layout.run(self.experiment, self.seed)

    @property
    def name(self) -> str:
        return f"{self.experiment}, seed {self.seed}, {self.hash}"

    @property
    def trained(self) -> str:
        """When its checkpoint was written."""
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(self.layout.checkpoint(self.experiment, self.seed).stat().st_mtime))

    @property
    def bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """Its measures; empty where those that are there are of another run, or there are none."""
        try:
            read = json.loads(self.layout.metrics(self.experiment, self.seed).read_text())
        except (OSError, ValueError):
            return {}
        return read if isinstance(read, dict) and read.get("run") == self.hash else {}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Everything it was made by, under dotted keys."""
        with open_store(self.layout.checkpoint(self.experiment, self.seed), stage="checkpoint") as store:
            made_by = store.attrs["recipe"] or {"imported": store.attrs.get("imported", ""), "experiment": store.attrs["config"]}
        return named(made_by)

    @property
    def queries(self) -> pd.DataFrame:
        """The ranks of every query. Errors: StoreError."""
        with open_store(self.layout.evaluation(self.experiment, self.seed), stage="evaluation") as store:
            return store.table("queries")


def named(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A training's recipe under dotted keys, those of the experiment as the configuration has them."""
    plain = json.loads(canonical(recipe))
    return {key.removeprefix("experiment."): value for key, value in flat(plain).items() if not key.startswith(_REPEATED)}


def all_runs(layout: Layout) -> list[Run]:
    """The present runs with the kept ones of the same experiment and seed behind each, and kept ones of experiments that are gone."""
    found = [(path.parent.parent.name, path.parent.name.removeprefix("seed")) for path in layout.root.glob("runs/*/seed*/checkpoint.h5")]
    runs = [
        Run(experiment, int(seed), run, layout)
        for experiment, seed in found
        if seed.isdecimal() and (run := kept.hash_of(layout, experiment, int(seed)))
    ]
    runs += [Run(former.experiment, former.seed, former.run, former.layout) for former in kept.formers(layout)]
    return sorted(runs, key=lambda run: (run.experiment, run.seed, not run.present))  # stable: the latest kept one first


def find(layout: Layout, run: str) -> Run:
    """The run whose hash begins so. Errors: ConfigError when there is none, or several."""
    matching = [known for known in all_runs(layout) if known.hash.startswith(run)] if run else []
    # A run that was trained twice, with another between, is there and kept.
    present = [known for known in matching if known.present and all(known.hash == other.hash for other in matching)]
    if len(matching) != 1 and not present:
        several = ", ".join(known.name for known in matching)
        raise ConfigError(
            f"several runs begin with {run}: {several}" if matching else f"there is no run {run!r}",
            where=layout.root,
            fix="give the hash of one, as `prvr runs` shows it",
        )
    return (present or matching)[0]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`key: before -> now` of every value that differs; `-` where there is none."""
    keys = [key for key in {**now, **before} if before.get(key, ...) != now.get(key, ...)]
    keys.sort(key=lambda key: key.endswith(".code"))  # settings first
    return [f"{key}: {_short(before, key)} -> {_short(now, key)}" for key in keys]


def _short(values: Mapping[str, Any], key: str) -> str:
    text = canonical(values[key]).strip('"') if key in values else "-"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def listing(layout: Layout) -> list[dict[str, Any]]:
    """One entry a run: when it was trained, what it is, its SumR, its size, and what the present run of its name differs in."""
    runs = all_runs(layout)
    present = {(run.experiment, run.seed): run for run in runs if run.present}
    entries = []
    for run in runs:
        other = present.get((run.experiment, run.seed), run)
        measured = run.metrics
        entries.append(
            {
                "trained": run.trained,
                "experiment": run.experiment,
                "seed": run.seed,
                "run": run.hash,
                "present": run.present,
                "split": measured.get("split"),
                "SumR": measured["recalls"]["fused"]["SumR"] if measured else None,
                "bytes": run.bytes,
                "differs": differences(run.settings, other.settings),
            }
        )
    return entries


def text(entries: list[dict[str, Any]]) -> str:
    """The listing as aligned lines."""
    if not entries:
        return "no run is trained yet"
    rows = [["trained", "experiment", "seed", "run", "", "SumR", "MB", "the present run differs in"]]
    for entry in entries:
        measured = "-" if entry["SumR"] is None else f"{entry['SumR']:.1f} {entry['split']}"
        differs = entry["differs"]
        more = f"; and {len(differs) - SHOWN} more" if len(differs) > SHOWN else ""
        said = "" if entry["present"] else ("; ".join(differs[:SHOWN]) or "nothing that is known") + more
        here = "present" if entry["present"] else "kept"
        size = f"{entry['bytes'] / 1e6:.1f}"
        rows.append([entry["trained"], entry["experiment"], str(entry["seed"]), entry["run"], here, measured, size, said])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    former = [entry["bytes"] for entry in entries if not entry["present"]]
    return "\n".join([*lines, "", f"{len(former)} kept, {sum(former) / 1e6:.1f} MB (runtime.keep_runs says how many of each)"])


def compare(a: Run, b: Run) -> str:
    """Two runs side by side: their settings, their recalls, and whether the difference is more than chance over the queries."""
    lines = [f"A  {a.name}, trained {a.trained}", f"B  {b.name}, trained {b.trained}", "", "settings, A -> B:"]
    lines += [f"  {line}" for line in differences(a.settings, b.settings)] or ["  all alike"]
    absent = [name for name, run in (("A", a), ("B", b)) if not run.metrics]
    if absent:
        return "\n".join([*lines, "", f"no measures of {' and '.join(absent)}"])
    left, right = (run.metrics["recalls"]["fused"] for run in (a, b))
    lines += ["", f"{'':8}{'A':>8}{'B':>8}{'B - A':>8}"]
    lines += [f"{key:8}{left[key]:8.2f}{right[key]:8.2f}{right[key] - left[key]:+8.2f}" for key in MEASURES]
    return "\n".join([*lines, "", _tested(a, b)])


def _tested(a: Run, b: Run) -> str:
    """The paired test of SumR, or why there is none."""
    galleries = [(run.metrics["split"], run.metrics["gallery"]["videos"]) for run in (a, b)]
    try:
        ours, theirs = (run.queries.set_index("query_id") for run in (b, a))
    except StoreError as error:
        return f"no test: {error.what}"
    if galleries[0] != galleries[1] or set(ours.index) != set(theirs.index):
        return "no test: they were not measured on the same queries and videos"
    theirs = theirs.loc[ours.index]
    if not np.array_equal(ours["video_id"], theirs["video_id"]):
        return "no test: some queries are about other videos in the one than in the other"
    ranks = [sumr_of_queries(side["rank_fused"].to_numpy()) for side in (ours, theirs)]
    return f"SumR of {len(ours)} queries, paired by video: p = {randomisation(ranks[0], ranks[1], list(ours['video_id'])):.4f}"


def as_configured(config: Config, run: Run) -> Config:
    """The configuration with the run's own experiment in place of all others: what it is searched with."""
    with open_store(run.layout.checkpoint(run.experiment, run.seed), stage="checkpoint") as store:
        settings = store.attrs["config"]
    values = config.model_dump(exclude={"preset", "ablations", "sweeps", "compare", *settings})
    made = Config.model_validate({**values, **settings, "experiments": {run.experiment: {}}, "ablations": {}, "sweeps": {}})
    made._source = config.source
    return made
