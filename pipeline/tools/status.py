"""What a run did: where the time went, what is finished, and where the results lie."""

from __future__ import annotations

import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from pipeline.config.schema import Config
from pipeline.core import install, notices
from pipeline.core.layout import Layout
from pipeline.core.running import running
from pipeline.jobs.dag import Dag
from pipeline.jobs.interruption import run_at_work, written_logs
from pipeline.jobs.stages import STAGES
from pipeline.jobs.timings import Timing, stage_times
from pipeline.video.quarantine import read

SILENCE = 120.0  # seconds without a line in its log after which a job that no process here belongs to counts as failed
LINES = 5
WATCH_EVERY = 2.0  # seconds between two looks of `--watch`


def summary(config: Config, layout: Layout) -> str:
    """The result table, the time each stage took, and the paths a reader wants next."""
    lines = [f"Results of {config.dataset.name!r}", ""]
    table = layout.root / "table.md"
    lines += [table.read_text().rstrip() if table.exists() else f"No result table yet: run `{install.run_command(config.source)}`.", ""]
    times = stage_times(layout)
    if times:
        lines += ["Where the time went (jobs run side by side, so the wall time is shorter):", "", _aligned(times), ""]
    quarantined = _lines(layout.quarantine) - 1
    if quarantined > 0:
        lines += [f"{quarantined} videos were unusable and are left out: {layout.quarantine}", ""]
    places = {
        "table": table,
        "runs (checkpoint, ranks, metrics, plots)": layout.root / "runs",
        "features": layout.root / "features",
        "job logs": layout.logs,
    }
    lines += [f"{name}: {path}" for name, path in places.items() if path.exists()]
    # Last, where a reader's eye is.
    lines += [f"report, in a browser: {layout.report}"] if layout.report.exists() else []
    lines += [f"search page: {install.serve_command(config.source)}"]
    return "\n".join(lines)


@dataclass(frozen=True)
class Traces:
    """What one job of the workflow leaves: its result, which Snakemake removes before it runs again, its log, and how long it took."""

    result: Path
    log: Path
    benchmark: Path

    def state(self, held: set[Path]) -> str:
        """done, running, failed or waiting; `held` are the logs some process here writes to.

        A job on another host is seen by its log alone: progress is written every few seconds.
        """
        if self.result.exists():
            return "done"
        if not self.log.exists() or self._ended_well():
            return "waiting"
        quiet = time.time() - self.log.stat().st_mtime
        return "running" if self.log.resolve() in held or (quiet < SILENCE and not self.complains()) else "failed"

    def _ended_well(self) -> bool:
        """Whether the log is of a job that came to its end, whose result is gone since: Snakemake times no other."""
        return self.benchmark.exists() and self.benchmark.stat().st_mtime >= self.log.stat().st_mtime

    def tail(self) -> list[str]:
        """The last lines of the log."""
        return self.log.read_text(errors="replace").splitlines()[-LINES:] or ["(it said nothing: killed?)"]

    def complains(self) -> bool:
        return any(line.startswith(("prvr: ", "Traceback")) for line in self.log.read_text(errors="replace").splitlines())


def traces(dag: Dag) -> dict[str, list[Traces]]:
    """stage -> what each of its jobs leaves."""
    layout = dag.layout
    left = {
        s.name: [Traces(s.manifest(layout, of), s.log(layout, of), s.benchmark(layout, of)) for of in s.jobs(dag)] for s in STAGES.values()
    }
    return {stage: jobs for stage, jobs in left.items() if jobs}


def status(dag: Dag, *, times: bool = True) -> str:
    """Per stage what is done, runs, failed or waits; how far the running jobs are; the last lines of every failed job's log; what jobs
    want known; the quarantine; where the time went."""
    layout, jobs_now = dag.layout, running(dag.layout.running)
    shown = {STAGES[job.stage].log(layout, job.of): job.line for job in jobs_now if job.stage in STAGES}
    held = written_logs(Path()) | {log.resolve() for log in shown}
    videos = sum(len(members) for members in dag.shards.values())
    codes = Counter(row["code"] for row in read(layout.quarantine))
    listed = f" ({', '.join(f'{code} {count}' for code, count in sorted(codes.items()))}): {layout.quarantine}" if codes else ""
    lines = [f"{videos} videos in {len(dag.shard_names)} shards; {codes.total()} quarantined{listed}", ""]
    lines.append(f"{'stage':12}{'done':>12}{'running':>9}{'failed':>8}")
    said: list[str] = []
    for stage, jobs in traces(dag).items():
        states = [job.state(held) for job in jobs]
        count = Counter(states)
        lines.append(f"{stage:12}{count['done']:>6}/{len(jobs):<5}{count['running'] or '':>9}{count['failed'] or '':>8}")
        for job in (job for job, state in zip(jobs, states, strict=True) if state == "failed"):
            said += ["", f"failed: {job.log}", *(f"    {line}" for line in job.tail())]
    lines += ["", *shown.values()] if shown else []
    known = notices.gathered(notices.kept(layout.logs))
    said += ["", "To know:", *(f"  - {line}" for line in known)] if known else []
    took: list[Timing] = stage_times(layout) if times else []
    spent = ["", "Where the time went (jobs run side by side, so the wall time is shorter):", "", _aligned(took)] if took else []
    return "\n".join([*lines, *said, *spent])


def watch(dag: Dag, every: float = WATCH_EVERY) -> None:
    """Print the status again and again until no run and none of its jobs is at work here, in place where stdout is a terminal.

    A job on another host is seen by its record.
    """
    before, in_place = "", sys.stdout.isatty()
    while True:
        at_work = run_at_work(Path()) or bool(running(dag.layout.running))
        text = status(dag, times=not at_work)
        if text != before:
            print(f"\x1b[H\x1b[J{text}" if in_place else f"{text}\n", flush=True)
        if not at_work:
            print("nothing runs here", flush=True)
            return
        before = text
        time.sleep(every)


def _aligned(times: list[Timing]) -> str:
    frame = pd.DataFrame(times, columns=["stage", "jobs", "seconds", "processor seconds", "peak MB"])
    return frame.to_string(index=False, float_format=lambda value: f"{value:.1f}")


def _lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0
