"""What a run did: where the time went, what is finished, and where the results lie."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.config import Config
from pipeline.dag import Dag
from pipeline.layout import Layout

STAGES = ["world", "annotations", "frames", "features", "text", "quarantine", "clips", "train", "evaluate", "table"]


def stage_times(layout: Layout) -> pd.DataFrame:
    """Seconds, processor seconds and peak memory (MB) of every stage, summed over its jobs' `benchmark:` files."""
    rows = []
    for stage in STAGES:
        folder, single = layout.root / "benchmarks" / stage, layout.root / "benchmarks" / f"{stage}.tsv"
        files = sorted(folder.rglob("*.tsv")) if folder.is_dir() else [single] if single.exists() else []
        if not files:
            continue
        jobs = pd.concat([pd.read_csv(file, sep="\t", na_values="NA") for file in files])
        rows.append([stage, len(files), jobs["s"].sum(), jobs["cpu_time"].sum(), jobs["max_rss"].max()])
    return pd.DataFrame(rows, columns=["stage", "jobs", "seconds", "processor seconds", "peak MB"])


def summary(config: Config, layout: Layout) -> str:
    """The result table, the time each stage took, and the paths a reader wants next."""
    lines = [f"Results of {config.dataset.name!r}", ""]
    table = layout.root / "table.md"
    lines += [table.read_text().rstrip() if table.exists() else "No result table yet: run `snakemake --cores all --resources gpu=1`.", ""]
    times = stage_times(layout)
    if len(times):
        lines += ["Where the time went (jobs run side by side, so the wall time is shorter):", "", _aligned(times), ""]
    quarantined = _lines(layout.quarantine) - 1
    if quarantined > 0:
        lines += [f"{quarantined} videos were unusable and are left out: {layout.quarantine}", ""]
    places = {
        "table": table,
        "runs (checkpoint, ranks, metrics, plots)": layout.root / "runs",
        "features": layout.root / "features",
        "job logs": layout.root / "logs",
    }
    lines += [f"{name}: {path}" for name, path in places.items() if path.exists()]
    return "\n".join(lines)


def status(dag: Dag) -> str:
    """Per stage: how many results are there of how many, then the last lines of the newest logs of what is missing."""
    layout, shards = dag.layout, list(dag.shards)
    runs = [(e, s) for e in dag.config.experiments for s in dag.config.seeds]
    wanted: dict[str, list[Path]] = {
        "annotations": [layout.annotations],
        "features": [dag.features_file(e, s) for e in dag.video_encoders for s in shards],
        "text": [dag.text_file(t) for t in sorted({t for e in dag.config.experiments for t in dag.texts(e)})],
        "clips": [layout.clips(r, s) for r in sorted({dag.clips(e) for e in dag.config.experiments}) for s in shards],
        "train": [layout.checkpoint(*run) for run in runs],
        "evaluate": [layout.metrics(*run) for run in runs],
    }
    videos = sum(len(members) for members in dag.shards.values())
    lines = [f"{videos} videos in {len(shards)} shards, {len(runs)} runs; {max(0, _lines(layout.quarantine) - 1)} quarantined", ""]
    for stage, files in wanted.items():
        done = sum(file.exists() for file in files)
        lines.append(f"{stage:12} {done:5}/{len(files)}")
        if done == len(files):
            continue
        logs = sorted(
            (layout.root / "logs").glob(f"{stage}*/**/*.log") if (layout.root / "logs" / stage).is_dir() else [],
            key=lambda p: p.stat().st_mtime,
        )
        for log in logs[-2:]:
            tail = log.read_text(errors="replace").splitlines()[-3:]
            lines += [f"    {log}", *(f"      {line}" for line in tail)]
    return "\n".join(lines)


def _aligned(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False, float_format=lambda value: f"{value:.1f}")


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0
