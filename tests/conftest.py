"""What every test may use."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two pytest workers on two cores
# As jobs have it (pipeline/cli/opening.py): threads that wait do not spin.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
# A script that starts the tests in its background has Ctrl-C ignored, `nohup` has SIGHUP; every command a test starts would inherit it.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
settings.register_profile("prvr", deadline=None, derandomize=True)  # the same examples every time, on a machine of any speed
settings.load_profile("prvr")
ROOT = Path(__file__).resolve().parent.parent
USERS = ("results", "weights")  # folders of the checkout that hold what its user computed and fetched
NO_SHARED = "no ../shared"  # how the reason of every skip for the folder's sake begins


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of golden arrays, annotation files and sample videos beside the project; the test is skipped without it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"{NO_SHARED} folder (golden arrays, annotations, sample videos)")
    return path


def skipped_for_shared(terminal: pytest.TerminalReporter) -> int:
    """How many tests were skipped because ../shared, or a part of it, is not there."""
    reasons = (report.longrepr for report in terminal.stats.get("skipped", []))
    return sum(isinstance(reason, tuple) and str(reason[2]).removeprefix("Skipped: ").startswith(NO_SHARED) for reason in reasons)


def users_files() -> dict[Path, tuple[int, int]]:
    """When each file in the user's folders was changed, and its size."""
    files = (path for name in USERS for path in (ROOT / name).rglob("*"))
    return {path: (stat.st_mtime_ns, stat.st_size) for path in files if path.is_file() and (stat := path.stat())}


_BEFORE = pytest.StashKey[dict[Path, tuple[int, int]]]()
_TOUCHED = pytest.StashKey[list[Path]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):
        session.config.stash[_BEFORE] = users_files()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tests that left something in the user's folders have failed.

    In CI a run that could not compare with the released code's arrays, annotations and videos is no pass either.
    """
    before = session.config.stash.get(_BEFORE, None)
    if before is not None:
        after = users_files()
        touched = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        session.config.stash[_TOUCHED] = touched
        if touched and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None and skipped_for_shared(terminal) and os.environ.get("CI") == "true" and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what tests left in the user's folders, and how many need what a clone does not carry."""
    for path in terminalreporter.config.stash.get(_TOUCHED, []):
        terminalreporter.write_line(f"{path} changed while the tests ran (a failure): they write to tmp_path only", red=True, bold=True)
    if count := skipped_for_shared(terminalreporter):
        failed = ": a failure, because CI=true" if os.environ.get("CI") == "true" else "; tests/golden/own covers the method without it"
        terminalreporter.write_line(f"{count} tests skipped for want of ../shared{failed}", yellow=True, bold=True)
