"""What a user keeps in a checkout: tests leave it alone, git does not see it, and `make clean` removes none of it."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TEST = """
from pathlib import Path

def test_writes():
    root = Path(__file__).parents[1]
    {body}
"""
WRITES = {
    "adds": 'root.joinpath("results", "new.json").write_text("{}")',
    "changes": 'root.joinpath("weights", "clip.pt").write_bytes(b"12")',
    "removes": 'root.joinpath("weights", "clip.pt").unlink()',
    "leaves them": 'root.joinpath("other").write_text("")',
}


@pytest.mark.slow
@pytest.mark.parametrize(("what", "workers"), [("adds", "2"), ("changes", "0"), ("removes", "0"), ("leaves them", "0")])
def test_a_test_that_writes_there_fails_the_run(root: Path, tmp_path: Path, what: str, workers: str) -> None:
    tests = tmp_path / "clone" / "tests"
    for folder in (tests, tmp_path / "clone" / "results", tmp_path / "clone" / "weights"):
        folder.mkdir(parents=True)
    (tmp_path / "clone" / "weights" / "clip.pt").write_bytes(b"1")
    shutil.copy(root / "tests" / "conftest.py", tests)
    (tests / "test_one.py").write_text(TEST.format(body=WRITES[what]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", workers, "-p", "no:cacheprovider", str(tests)],
        cwd=tests,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (0 if what == "leaves them" else 1), done.stdout + done.stderr
    assert done.stdout.count("changed while the tests ran") == (0 if what == "leaves them" else 1)


def test_git_ignores_them_and_not_the_demos_weights(root: Path) -> None:
    def ignored(name: str) -> bool:
        return subprocess.run(["git", "check-ignore", "--quiet", "--no-index", name], cwd=root).returncode == 0

    assert ignored("results/own/table.md")
    assert ignored("weights/ViT-B-16.pt")
    assert not ignored("pipeline/demo/weights/demo-clip-b16/open_clip_config.json")


CACHES = (
    ".pytest_cache/x",
    ".mypy_cache/x",
    ".ruff_cache/x",
    ".hypothesis/x",
    "pipeline/__pycache__/x.pyc",
    "build/x",
    "site/x",
    "prvr.egg-info/x",
)
KEPT = ("results/own/runs/main/seed1/checkpoint.h5", "weights/clip.pt", "my.yaml", ".snakemake/metadata/x", ".venv/lib/__pycache__/x.pyc")


@pytest.fixture
def checkout(root: Path, tmp_path: Path) -> Path:
    """A folder with the Makefile, caches, and what must stay."""
    for name in (*CACHES, *KEPT):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * 3000)
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(root / name, tmp_path)
    return tmp_path


def make(folder: Path, *words: str, typed: str | None = None) -> tuple[int, str]:
    """The exit code and output of make; `typed`: what is answered on a terminal."""
    if typed is None:
        done = subprocess.run(["make", *words], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr
    ours, its = pty.openpty()
    os.write(ours, f"{typed}\n".encode())
    done = subprocess.run(["make", *words], cwd=folder, stdin=its, capture_output=True, text=True)
    os.close(ours)
    os.close(its)
    return done.returncode, done.stdout + done.stderr


def test_make_clean_removes_caches_only(checkout: Path) -> None:
    code, said = make(checkout, "clean")
    assert code == 0, said
    assert [name for name in CACHES if (checkout / name).exists()] == []
    assert [name for name in KEPT if not (checkout / name).exists()] == []


@pytest.mark.parametrize(
    ("words", "typed", "code", "gone"),
    [
        ((), None, 2, False),
        (("YES=",), None, 2, False),
        ((), "n", 2, False),
        ((), "", 2, False),
        ((), "yes", 0, True),
        (("YES=1",), None, 0, True),
    ],
)
def test_results_go_only_when_asked_for(checkout: Path, words: tuple[str, ...], typed: str | None, code: int, gone: bool) -> None:
    done, said = make(checkout, "clean-results", *words, typed=typed)
    assert done == code, said
    assert "results/own" in said  # with its size
    assert (checkout / "results").exists() is not gone
    assert (checkout / ".snakemake").exists() is not gone
    assert (checkout / "weights" / "clip.pt").exists()
    if typed is None and not gone:
        assert "make clean-results YES=1" in said


def test_there_may_be_no_results(checkout: Path) -> None:
    shutil.rmtree(checkout / "results")
    code, said = make(checkout, "clean-results")
    assert (code, "nothing to remove" in said) == (0, True)
    assert (checkout / ".snakemake").exists()
