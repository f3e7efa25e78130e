"""What a job wants its user to know: said in its log, and kept beside it until the job runs again, for the end of the run."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterable
from pathlib import Path

SUFFIX = ".notices"
_MARKED = re.compile(r"(?:warning|note): (.*)", re.DOTALL)
_file: Path | None = None


def begin(log: Path) -> None:
    """Keep what this process says from here on beside the log of its job; what the job said when it last ran goes."""
    global _file
    _file = log.with_suffix(SUFFIX)
    with contextlib.suppress(OSError):
        _file.unlink(missing_ok=True)


def say(line: str) -> None:
    """Print a line on stderr; one that begins with `warning: ` or `note: ` is also kept for the end of the run."""
    print(line, file=sys.stderr, flush=True)
    if _file is not None and (marked := _MARKED.fullmatch(line)):
        with contextlib.suppress(OSError):  # the log has it
            _file.parent.mkdir(parents=True, exist_ok=True)
            with _file.open("a", encoding="utf-8") as kept:
                kept.write(" ".join(marked[1].split()) + "\n")


def kept(logs: Path) -> dict[Path, tuple[int, int]]:
    """What jobs keep below a folder of logs, with time and size: what a run added is what differs from before."""
    found = {}
    for path in logs.rglob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError):
            status = path.stat()
            found[path] = (status.st_mtime_ns, status.st_size)
    return found


def gathered(files: Iterable[Path]) -> list[str]:
    """Every notice once, the most frequent first; those that differ in their numbers or paths alone count as one."""
    groups: dict[str, list[tuple[str, Path]]] = {}
    for file in sorted(files):
        with contextlib.suppress(OSError):
            for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
                groups.setdefault(re.sub(r"\S*/\S*|\d+", "#", line), []).append((line, file.with_suffix(".log")))
    lines = []
    for same in sorted(groups.values(), key=len, reverse=True):
        (line, log), jobs = same[0], len({log for _, log in same})
        like = " this or alike" if len({line for line, _ in same}) > 1 else ""
        lines.append(f"{line} ({f'{jobs} jobs say{like}, first ' if jobs > 1 else ''}{log})")
    return lines
