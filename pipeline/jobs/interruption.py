"""Ends and locks of a run: a signal ends the jobs too, and a folder left locked by a run that is gone is explained and unlocked."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import Any

import psutil

from pipeline.core.atomic import write_json
from pipeline.core.errors import LockedError
from pipeline.core.signals import ENDING, attend

STATE = Path(".snakemake")
PATIENCE = 10.0  # seconds a job gets to end before it is killed


def note_run(local: bool, state: Path = STATE) -> None:
    """Leave a note of who runs the workflow here, and whether its jobs are children of it. Snakemake's locks name files, not processes."""
    me = psutil.Process()
    note = {"host": socket.gethostname(), "pid": me.pid, "started": me.create_time(), "local": local}
    write_json(state / "prvr-run.json", note)


def end_on_signals(local: bool, at_once: Callable[[], None] = lambda: None) -> None:
    """Make Ctrl-C, SIGTERM and a closed terminal end the run within seconds. After SIGTERM Snakemake alone waits for the running jobs,
    which may take hours; a closed terminal ends it with its lock held.

    `local`: the jobs are children of this process and are ended; else all are as Ctrl-C, on which an executor cancels its jobs.
    `at_once` is called first, in a thread.
    """
    graceful: Any = signal.getsignal(signal.SIGTERM)
    terminal = [descriptor for descriptor in range(3) if os.isatty(descriptor)]

    def begin(number: int) -> None:
        if number == signal.SIGHUP:
            _let_go(terminal)
        at_once()
        if local:
            Thread(target=_end_children, daemon=True).start()
            if number != signal.SIGINT and callable(graceful):
                graceful(number, None)  # no new jobs

    def interrupt(number: int) -> None:
        if number == signal.SIGINT or not local:
            raise KeyboardInterrupt

    attend(ENDING, interrupt, at_once=begin)


def _let_go(terminal: list[int]) -> None:
    """Write into nothing from here on: a closed terminal answers with an error, which would end the run before it has tidied up."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in terminal:
        os.dup2(nothing, descriptor)


def _end_children() -> None:
    """End the jobs among this process's children, those too that are only starting when the run is told to end.

    Only the jobs themselves: their shells then end with them, so that nothing is left when Snakemake ends. They are not waited for, as
    `_end` does: how a child ended is for Snakemake to hear.
    """
    asked: dict[psutil.Process, float] = {}
    while True:
        with contextlib.suppress(psutil.Error):  # they come and go
            for job in filter(_is_job, psutil.Process().children(recursive=True)):
                if job not in asked:
                    asked[job] = time.monotonic()
                    job.terminate()
                elif time.monotonic() - asked[job] > PATIENCE:
                    job.kill()
        time.sleep(0.2)


def unlock(folder: Path, *, stop: bool = False, force: bool = False) -> str:
    """Take away the lock a killed run left on `folder`; returns what was found and done.

    `stop` first ends jobs that outlived their Snakemake; `force` believes the user about a run on another host.
    Errors: LockedError while a run holds the folder, or jobs of a killed one still write into it.
    """
    state = folder / STATE
    locked = any((state / "locks").glob("*.lock"))
    note = json.loads((state / "prvr-run.json").read_text()) if (state / "prvr-run.json").exists() else {}
    here = [process for process in psutil.process_iter() if _in(process, folder)]
    runs = [process for process in here if _argument(process, lambda word: Path(word).name == "snakemake")] or _noted(note)
    if runs and locked:
        raise LockedError(
            f"a run is at work here: {_named(runs)}", where=folder.resolve(), fix="wait for it, or end it with Ctrl-C or `kill`"
        )
    if locked and note and note["host"] != socket.gethostname() and not force:
        raise LockedError(
            f"the lock is of {_held(note)}, which cannot be seen from {socket.gethostname()}",
            where=folder.resolve(),
            fix="look there whether it still runs; if not: `prvr unlock --force`",
        )
    jobs = [process for process in here if _is_job(process)]
    if jobs and not runs:
        if not stop:
            raise LockedError(
                f"jobs of a killed run still compute: {_named(jobs)}",
                where=folder.resolve(),
                fix="wait for them, or end them with `prvr unlock --stop`; what they finished is kept",
            )
        _end(jobs)
    said = [f"ended {_named(jobs)}"] if jobs and not runs else []
    if not locked:
        return "\n".join([*said, "not locked"])
    shutil.rmtree(state / "locks")
    held = f"it was held by {_held(note)}" if note else "nothing says by whom it was held"
    cluster = ["jobs it gave to a scheduler are not seen from here: wait for them or cancel them (squeue, scancel) before you run again"]
    return "\n".join([*said, f"unlocked; {held}, which is gone", *([] if note.get("local") else cluster)])


def written_logs(folder: Path) -> set[Path]:
    """The files that jobs at work in `folder` on this host have open: their logs are among them."""
    opened: set[Path] = set()
    for process in psutil.process_iter():
        if _in(process, folder):
            with contextlib.suppress(psutil.Error, OSError):
                opened |= {Path(file.path) for file in process.open_files()}
    return opened


def run_at_work(folder: Path, state: Path = STATE) -> bool:
    """Whether the last run that was started in a folder is still at work on this host."""
    note = folder / state / "prvr-run.json"
    return note.exists() and bool(_noted(json.loads(note.read_text())))


def _noted(note: dict[str, Any]) -> list[psutil.Process]:
    """The run of the note if it is alive on this host; another user's process shows no folder, but it has a number and a start."""
    with contextlib.suppress(psutil.Error, KeyError):
        process = psutil.Process(note["pid"])
        if note["host"] == socket.gethostname() and abs(process.create_time() - note["started"]) < 1:
            return [process]
    return []


def _held(note: dict[str, Any]) -> str:
    return f"process {note['pid']} on {note['host']}, started {datetime.fromtimestamp(note['started']):%Y-%m-%d %H:%M:%S}"


def _in(process: psutil.Process, folder: Path) -> bool:
    """Whether a process, other than this one, works in the folder."""
    try:
        return process.pid != os.getpid() and Path(process.cwd()) == folder.resolve()
    except (psutil.Error, OSError):
        return False


def _argument(process: psutil.Process, holds: Callable[[str], bool]) -> bool:
    """Whether the program or module a Python process runs is the one looked for."""
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return any(map(holds, words[:4])) and not {"--dry-run", "-n", "--unlock"} & set(words)


def _is_job(process: psutil.Process) -> bool:
    return _argument(process, lambda word: word == "pipeline.cli")


def _named(processes: list[psutil.Process]) -> str:
    return ", ".join(f"process {process.pid} ({_words(process)})" for process in processes)


def _words(process: psutil.Process) -> str:
    try:
        words = [Path(word).name if word.startswith("/") else word for word in process.cmdline()]
    except psutil.Error:
        return "gone"
    return " ".join(words)[:80]


def _end(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=PATIENCE)
