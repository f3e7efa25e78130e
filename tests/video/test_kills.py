"""Extraction killed at random moments, whole or only its decoding process, and finished: the bytes of an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import yaml

from pipeline.video.specimens import SPECIMENS, make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
KILLS = int(os.environ.get("PRVR_KILLS", "5"))
ENCODERS = ("demo-clip-b16", "demo-slowfast")
# Finished features go to disk every 0.1 s instead of every 20, so that kills fall between the parts of this small shard.
STAGES = """
import sys
from pathlib import Path
from pipeline.cli.main import app
from pipeline.encoders import stage
stage.FLUSH_EVERY = 0.1
shard = Path("results/kills")
for done, *command in (
    (shard / "frames/000.json", "frames"),
    *((shard / f"features/{name}/000.json", "features", "--encoder", name) for name in sys.argv[1:]),
):
    if not done.exists():
        app([*command, "--shard", "000", "--config", "config.yaml"], standalone_mode=False)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Path:
    """Specimens of every kind, four times, two broken files, and a configuration; all in one shard."""
    folder = tmp_path_factory.mktemp("kills")
    (folder / "videos").mkdir()
    for specimen in SPECIMENS:
        path = make(specimen, folder / "videos")
        for number in range(3):
            shutil.copy(path, path.with_name(f"again {number} {path.name}"))
    (folder / "videos" / "empty.mp4").touch()
    (folder / "videos" / "note.mp4").write_text("not a video\n" * 40)
    demo = yaml.safe_load((root / "config.yaml").read_text())
    encoders = {name: {**demo["encoders"][name], "weights": str(root / demo["encoders"][name]["weights"])} for name in ENCODERS}
    for encoder in encoders.values():
        encoder["sampling"] = {"every": 0.2}  # work enough for kills to fall into it, and not into the imports
    config = {
        "dataset": {"name": "kills", "kind": "own", "videos": "videos"},
        "video": {"shard_size": 128, "max_bad_fraction": 0.5},
        "encoders": encoders,
        "features": list(ENCODERS),
        "text": ENCODERS[0],
        "experiments": {"main": {}},
        "runtime": {"device": "cpu"},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def start(folder: Path, root: Path) -> subprocess.Popen:
    """The frames and features stages of the shard, those that are not finished, in a process group of their own."""
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    with (folder / "log").open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-c", STAGES, *ENCODERS], cwd=folder, env=environment, start_new_session=True, stdout=log, stderr=log
        )


def contents(folder: Path) -> dict[str, bytes]:
    """Every store and manifest; of the features' manifests all but the timings."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in sorted((folder / "results").rglob("*.h5"))}
    for path in sorted((folder / "results").rglob("000.json")):
        manifest = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("stats", "computed")}
        found[str(path.relative_to(folder))] = json.dumps(manifest).encode()
    return found


def kill(run: subprocess.Popen, child_only: bool) -> str:
    """Kill the decoding process alone if asked and if there is one, else everything; returns what was killed ("" if all had ended)."""
    try:
        workers = [p for p in psutil.Process(run.pid).children() if "pipeline.video.worker" in p.cmdline()] if child_only else []
        if workers:
            workers[0].kill()
            return "decoding process"
        if run.poll() is None:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            return "everything"
    except (psutil.NoSuchProcess, ProcessLookupError):
        pass
    return ""


@pytest.mark.long
def test_killed_extraction_ends_with_the_same_bytes(folder: Path, root: Path) -> None:
    started = time.monotonic()
    assert start(folder, root).wait() == 0, (folder / "log").read_text()
    seconds = time.monotonic() - started
    calm = contents(folder)
    assert sum(name.endswith(".h5") for name in calm) == 4
    shutil.rmtree(folder / "results")

    moment, killed, left, finished = random.Random(5), Counter[str](), 0, 0
    while sum(killed.values()) < KILLS or not left:  # until one fell into decoding or encoding
        run = start(folder, root)
        # Most of the time from the start of an unfinished shard; later starts have less to do, so the shorter ones reach all of it.
        wait = seconds * moment.uniform(0.05, 0.95)
        time.sleep(wait * moment.choice((0.4, 1.0)))
        what = kill(run, child_only=moment.random() < 0.5)
        killed.update([what] if what else [])
        if what == "everything":
            left += any(next((folder / "results").rglob(pattern), None) for pattern in (".000.spool/*", ".000.parts/*.h5"))
        else:
            assert run.wait(timeout=300) == 0, (folder / "log").read_text()
            assert contents(folder) == calm
            shutil.rmtree(folder / "results")
            finished += 1
        assert finished < 5 * KILLS
    assert start(folder, root).wait() == 0, (folder / "log").read_text()
    assert contents(folder) == calm
    assert [path for path in (folder / "results").rglob(".*") if path.name.endswith((".tmp", ".parts", ".spool"))] == []
    print(f"undisturbed {seconds:.1f} s; killed {dict(killed)}, {left} of them with unfinished work on disk; all bytes equal")
    assert killed["everything"] > 0
