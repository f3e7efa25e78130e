"""What a job of the workflow shows of itself while it runs: a small record in a file, since its stderr goes to a log.

A thread of the job writes it, at most once a second and only when something changed, so that the work pays nothing for it. The run's
display and `prvr status` read all records of a folder. A record whose process is gone is dropped; one of another host, whose processes
cannot be seen, when it was not written for a while.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pipeline.core.atomic import HOST
from pipeline.core.progress import Meter

EVERY = 1.0  # seconds between two looks at what the job is at
BEAT = 20.0  # seconds after which a record is written again although nothing changed
SILENCE = 120.0  # seconds without a beat after which a job of another host counts as gone: file systems show others' writes late

LONGEST = 24  # letters of a wildcard that are shown


@dataclass(frozen=True)
class Running:
    """One job at work. `done`, `total` and `rate` count `unit`s; `left` seconds at that rate; `label` is empty while it counts nothing."""

    stage: str
    of: dict[str, str]
    began: float  # seconds since 1970
    host: str
    pid: int
    label: str = ""
    unit: str = ""
    done: int = 0
    total: int | None = None
    rate: float = 0.0
    left: float | None = None
    note: str = ""

    @property
    def line(self) -> str:
        """`features clip 000: 120/400 rows, 35.1 rows/s, 0:08 left, 2/7 videos`: the remark last, for a narrow screen cuts the end."""
        name = " ".join([self.stage, *map(_short, self.of.values())])
        if not self.label:
            return f"{name}: {self.note or 'starting'}, {_clock(max(0.0, time.time() - self.began))}"
        unit = _many(self.unit)
        parts = [f"{self.done:,}{'' if self.total is None else f'/{self.total:,}'} {unit}"]
        parts += [f"{self.rate:,.1f} {unit}/s"] if self.rate else []
        parts += [f"{_clock(self.left)} left"] if self.left is not None else []
        parts += [self.note] if self.note else []
        return f"{name}: {', '.join(parts)}"


def _short(value: str) -> str:
    """A wildcard that leaves room on a screen: recipes of clips name all their encoders and end with a digest."""
    return value if len(value) <= LONGEST else f"…{value[1 - LONGEST :]}"


def _many(unit: str) -> str:
    """`videos`, `batches`."""
    return unit if unit.endswith("s") else f"{unit}{'es' if unit.endswith('ch') else 's'}"


def _clock(seconds: float) -> str:
    """`0:40`, `12:05`, `3:20:00`."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


class _Record(threading.Thread):
    """Keeps the record of this process's job."""

    def __init__(self, folder: Path, stage: str, of: Mapping[str, str]) -> None:
        super().__init__(name="record", daemon=True)
        self._about = Running(stage, dict(of), time.time(), HOST, os.getpid())
        self.path = folder / f"{HOST}-{os.getpid()}.json"
        self._over = threading.Event()
        self._written, self._counted = 0.0, False
        self._last: tuple[object, ...] = ()

    def run(self) -> None:
        while True:
            self._write()
            if self._over.wait(EVERY):
                break
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def end(self) -> None:
        self._over.set()
        self.join(timeout=1.0)  # a file system that hangs must not keep the job

    def _write(self) -> None:
        meter = Meter.open[-1] if Meter.open else None
        self._counted |= meter is not None
        said = (meter.label, meter.done, meter.note) if meter else (self._counted,)
        if self._written and said == self._last and time.monotonic() - self._written < BEAT:
            return
        self._written, self._last = time.monotonic(), said
        values = asdict(self._about) | {"note": "finishing" if self._counted else ""}
        if meter is not None:
            shown = {"label": meter.label, "unit": meter.unit, "done": meter.done, "total": meter.total, "note": meter.note}
            values |= {**shown, "rate": meter.rate, "left": meter.left}
        with contextlib.suppress(OSError):  # it is only shown; a full disk is for the job itself to say
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_name(f".{self.path.name}.tmp")
            temporary.write_text(json.dumps(values))
            temporary.replace(self.path)


_mine: _Record | None = None


def begin(folder: Path, stage: str, of: Mapping[str, str]) -> None:
    """Show this process as the job of a stage with these wildcards from here on, until it ends."""
    global _mine
    end()
    _mine = _Record(folder, stage, of)
    _mine.start()
    atexit.register(end)


def end() -> None:
    """Take this process's record away."""
    global _mine
    record, _mine = _mine, None
    if record is not None:
        record.end()


def running(folder: Path, *, tidy: bool = False) -> list[Running]:
    """The jobs at work, the longest first; `tidy` removes the records of those that are gone."""
    jobs = []
    for path in sorted(folder.glob("*.json")):
        try:
            job, quiet = Running(**json.loads(path.read_text())), time.time() - path.stat().st_mtime
        except (OSError, ValueError, TypeError):
            continue  # it ended just now, or another version wrote it
        if _lives(job, quiet):
            jobs.append(job)
        elif tidy:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return sorted(jobs, key=lambda job: job.began)


def _lives(job: Running, quiet: float) -> bool:
    if job.host != HOST:
        return quiet < SILENCE
    try:
        process = psutil.Process(job.pid)
        return bool(process.create_time() <= job.began + 1 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False
