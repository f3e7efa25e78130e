"""The wheel in an environment of its own, away from the checkout: from a folder of videos to a search result."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.datasets.miniature import encode
from tests.datasets.test_own_videos_doc import small_encoder
from tests.search.served import get, read
from tests.workflow.workspace import ROOT

SOURCES = ("pipeline", "prvr", "workflow", "profiles", "config", "envs")
FILES = ("Snakefile", "config.yaml", "pyproject.toml", "README.md", "LICENSE")
SPLITS = {"a": "train", "b": "train", "c": "train", "d": "train", "e": "val", "f": "val", "g": "test", "h": "test"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy: setuptools leaves its build folder in the sources."""
    project = tmp_path_factory.mktemp("project")
    for name in SOURCES:
        shutil.copytree(ROOT / name, project / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        shutil.copy(ROOT / name, project / name)
    pip(project, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(project / "dist"), ".")
    return next((project / "dist").glob("*.whl"))


def pip(folder: Path, *words: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


class Installed:
    """An environment that holds the wheel, and everything else through a path to this one's libraries (but not its editable install)."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.bin = folder / "bin"
        here = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
        (Path(here) / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
        pip(folder, "--python", str(self.bin / "python"), "install", "--ignore-installed", "--no-deps", "--no-index", str(wheel))
        self.env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.env |= {"PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run(self, folder: Path, *words: str, code: int = 0) -> str:
        """What a command prints there."""
        done = subprocess.run(words, cwd=folder, env=self.env, capture_output=True, text=True, timeout=900)
        assert done.returncode == code, f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return Installed(tmp_path_factory.mktemp("environment"), wheel)


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_project(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    package = {str(path.relative_to(ROOT)) for path in (ROOT / "pipeline").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert package - held == set()
    places = [ROOT / "Snakefile", ROOT / "config.yaml", *(p for name in SOURCES[2:] for p in (ROOT / name).rglob("*") if p.is_file())]
    shipped = {f"prvr/project/{path.relative_to(ROOT)}" for path in places}
    assert shipped - held == set()
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == {"pipeline", "prvr"}
    for path in places:
        assert zipfile.ZipFile(wheel).read(f"prvr/project/{path.relative_to(ROOT)}") == path.read_bytes()


@pytest.mark.slow
def test_only_links_stand_in_for_the_files_in_git() -> None:
    assert {path.name: path.resolve() for path in (ROOT / "prvr" / "project").iterdir()} == {
        name: ROOT / name for name in ("Snakefile", "config.yaml", *SOURCES[2:])
    }


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, installed: Installed) -> Path:
    """A folder that holds a configuration and videos, as `prvr init` and a reader leave it."""
    folder = tmp_path_factory.mktemp("own")
    for i, name in enumerate(SPLITS):
        encode(folder / "my-videos" / f"{name}.mp4", 3, i)
    said = installed.run(folder, "prvr", "init", "my-videos")
    assert "  prvr run --configfile my-videos.yaml" in said.splitlines()
    rows = [f"{name}.mp4,{what} {name},{split}" for name, split in SPLITS.items() for what in ("a thing of kind", "the colours of")]
    (folder / "my-videos.queries.csv").write_text("\n".join(["path,query,split", *rows]) + "\n")
    config = folder / "my-videos.yaml"
    small_encoder(config, Path())  # weights by the name config.yaml has for them: they come with the package
    assert yaml.safe_load(config.read_text())["encoders"]["clip-b16"]["weights"].startswith("pipeline/demo/weights")
    return folder


@pytest.mark.long
def test_a_folder_of_videos_to_a_search_result(installed: Installed, own: Path) -> None:
    where = installed.run(own, "python", "-c", "import pipeline, prvr; print(pipeline.__file__, prvr.__file__)")
    assert all(Path(path).is_relative_to(installed.bin.parent) for path in where.split())
    assert "prvr run --configfile my-videos.yaml" in installed.run(own, "prvr", "run", code=2)
    assert "prvr run --configfile my-videos.yaml" in installed.run(own, "prvr", "search", "x", "--config", "my-videos.yaml", code=2)
    (own / "random.py").write_text("raise SystemExit('a user file stands in for a library')\n")
    installed.run(own, "prvr", "run", "--configfile", "my-videos.yaml")
    hits = installed.run(own, "prvr", "search", "the colours of g", "--config", "my-videos.yaml", "--top", "3")
    assert len([line for line in hits.splitlines() if line.split()[:1] in (["1"], ["2"], ["3"])]) == 3, hits
    assert "Nothing to be done" in installed.run(own, "prvr", "run", "--config", "my-videos.yaml")
    # The SlowFast that the configuration names too has no weights here; nothing uses it, so it is not judged.
    assert "✓ Snakefile" in installed.run(own, "prvr", "doctor", "--config", "my-videos.yaml")
    assert "up to date" in installed.run(own, "prvr", "plan", "--config", "my-videos.yaml").lower()


@pytest.mark.long
def test_a_folder_without_a_caption_to_the_page(installed: Installed, tmp_path: Path) -> None:
    """`prvr index`, `prvr serve`, one query over HTTP: the page's own files come with the wheel."""
    for i, name in enumerate("abc"):
        encode(tmp_path / "clips" / f"{name}.mp4", 3, i)
    installed.run(tmp_path, "prvr", "init", "clips")
    small_encoder(tmp_path / "clips.yaml", Path())
    assert "ask it: prvr search" in installed.run(tmp_path, "prvr", "index", "clips")
    command, said = ["prvr", "serve", "--config", "clips.yaml", "--port", "0"], tmp_path / "said"
    with said.open("w") as stderr:
        page = subprocess.Popen(command, cwd=tmp_path, env=installed.env, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        assert page.stdout is not None
        address = next((line.split()[0] for line in page.stdout if "shows the search page" in line), "")
        assert address, said.read_text()
        port = int(address.strip("/").rpartition(":")[2])
        assert {hit["id"] for hit in read(port, "/api/search?q=a+red+box")["hits"]} == {"a", "b", "c"}
        kinds = {"/": "text/html", "/static/page.js": "text/javascript", "/api": "text/html", "/still/0?t=1": "image/webp"}
        for path, kind in kinds.items():
            status, headers, _ = get(port, path)
            assert (status, headers["content-type"].split(";")[0]) == (200, kind), path
        page.send_signal(signal.SIGINT)
        assert page.wait(120) == 130  # as every command that Ctrl-C ends (pipeline/cli/main.py)
        assert said.read_text() == ""
    finally:
        page.kill()
        page.wait()


@pytest.fixture
def at_work(installed: Installed, own: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen, Path]]:
    """A run in an own folder, its first job started, in a process group of its own as a terminal has it."""
    shutil.copytree(own, tmp_path / "again", ignore=shutil.ignore_patterns("results", ".snakemake", "random.py"))
    command = ["prvr", "run", "--configfile", "my-videos.yaml"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=tmp_path / "again", env=installed.env, stdout=said, stderr=said, start_new_session=True)
        try:
            deadline = time.monotonic() + 60
            while not list((tmp_path / "again" / "results").glob("*/logs/**/*.log")) and time.monotonic() < deadline:
                time.sleep(0.05)
            yield process, tmp_path / "said"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.mark.long
def test_ctrl_c_ends_it_as_it_ends_snakemake(at_work: tuple[subprocess.Popen, Path]) -> None:
    process, said = at_work
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=30) == 1, said.read_text()
    # An interpreter that is only starting says where it was; behind the start of `prvr` no line of ours is named.
    assert not re.findall(r'File ".*/site-packages/(?:pipeline|prvr)/(?!cli/__main__).*', said.read_text())
    with pytest.raises(ProcessLookupError):  # nothing of the group is left
        os.killpg(process.pid, 0)
