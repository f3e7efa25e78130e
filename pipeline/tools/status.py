"""What a run did: where the time went, what is finished, and where the results lie."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.config.schema import Config
from pipeline.core import install
from pipeline.core.layout import Layout
from pipeline.jobs.dag import Dag
from pipeline.jobs.interruption import written_logs
from pipeline.video.quarantine import read

SILENCE = 120.0  # seconds without a line in its log after which a job that no process here belongs to counts as failed
LINES = 5
STAGES = ["world", "annotations", "frames", "features", "text", "quarantine", "clips", "train", "evaluate", "table"]


def stage_times(layout: Layout) -> pd.DataFrame:
    """Seconds, processor seconds and peak memory (MB) of every stage, summed over its jobs' `benchmark:` files."""
    rows = []
    for stage in STAGES:
        folder, single = layout.benchmarks / stage, layout.benchmarks / f"{stage}.tsv"
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
    lines += [table.read_text().rstrip() if table.exists() else f"No result table yet: run `{install.run_command(config.source)}`.", ""]
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


@dataclass(frozen=True)
class Job:
    """One job of the workflow by what it leaves: its result, which Snakemake removes before it runs again, and its log."""

    result: Path
    log: Path

    def state(self, held: set[Path]) -> str:
        """done, running, failed or waiting; `held` are the logs some process here writes to.

        A job on another host is seen by its log alone: progress is written every few seconds.
        """
        if self.result.exists():
            return "done"
        if not self.log.exists():
            return "waiting"
        quiet = time.time() - self.log.stat().st_mtime
        return "running" if self.log.resolve() in held or (quiet < SILENCE and not self.complains()) else "failed"

    def tail(self) -> list[str]:
        """The last lines of the log."""
        return self.log.read_text(errors="replace").splitlines()[-LINES:] or ["(it said nothing: killed?)"]

    def complains(self) -> bool:
        return any(line.startswith(("prvr: ", "Traceback")) for line in self.log.read_text(errors="replace").splitlines())


def jobs(dag: Dag) -> dict[str, list[Job]]:
    """stage -> its jobs."""
    layout, shards = dag.layout, list(dag.shards)
    logs, runs = layout.root / "logs", [(e, s) for e in dag.config.experiments for s in dag.config.seeds]
    encoders = [e for e in dag.video_encoders if not dag.imported(e)]
    texts = sorted({t for e in dag.config.experiments for t in dag.texts(e) if not dag.imported(t)})
    recipes = sorted({dag.clips(e) for e in dag.config.experiments})
    found = {
        "annotations": [Job(layout.annotations_manifest, logs / "annotations.log")],
        "frames": [Job(layout.frames_manifest(s), logs / "frames" / f"{s}.log") for s in shards if encoders],
        "features": [Job(layout.features_manifest(e, s), logs / "features" / e / f"{s}.log") for e in encoders for s in shards],
        "text": [Job(layout.text_manifest(t), logs / "text" / f"{t}.log") for t in texts],
        "clips": [Job(layout.clips_manifest(r, s), logs / "clips" / r / f"{s}.log") for r in recipes for s in shards],
        "quarantine": [Job(layout.quarantine_checked, logs / "quarantine.log")],
        "train": [Job(layout.checkpoint_manifest(e, s), logs / "train" / e / f"seed{s}.log") for e, s in runs],
        "evaluate": [Job(layout.evaluation_manifest(e, s), logs / "evaluate" / e / f"seed{s}.log") for e, s in runs],
        "table": [Job(layout.table_manifest(), logs / "table.log")],
    }
    if dag.config.dataset.kind == "demo":
        found = {"world": [Job(layout.world / "world.json", logs / "world.log")], **found}
    return {stage: made for stage, made in found.items() if made}


def status(dag: Dag) -> str:
    """Per stage what is done, runs, failed or waits; the last lines of every failed job's log; the quarantine; where the time went."""
    layout, held = dag.layout, written_logs(Path())
    videos = sum(len(members) for members in dag.shards.values())
    codes = Counter(row["code"] for row in read(layout.quarantine))
    listed = f" ({', '.join(f'{code} {count}' for code, count in sorted(codes.items()))}): {layout.quarantine}" if codes else ""
    lines = [f"{videos} videos in {len(dag.shards)} shards; {codes.total()} quarantined{listed}", ""]
    lines.append(f"{'stage':12}{'done':>12}{'running':>9}{'failed':>8}")
    said: list[str] = []
    for stage, members in jobs(dag).items():
        states = [job.state(held) for job in members]
        count = Counter(states)
        lines.append(f"{stage:12}{count['done']:>6}/{len(members):<5}{count['running'] or '':>9}{count['failed'] or '':>8}")
        for job in (job for job, state in zip(members, states, strict=True) if state == "failed"):
            said += ["", f"failed: {job.log}", *(f"    {line}" for line in job.tail())]
    times = stage_times(layout)
    spent = ["", "Where the time went (jobs run side by side, so the wall time is shorter):", "", _aligned(times)] if len(times) else []
    return "\n".join([*lines, *said, *spent])


def _aligned(frame: pd.DataFrame) -> str:
    return frame.to_string(index=False, float_format=lambda value: f"{value:.1f}")


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0
