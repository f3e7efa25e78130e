"""Whatever lies in the folder of videos, no file stops or hangs the others: each that cannot be used is one line of the quarantine."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.core.errors import VideoError
from pipeline.core.provenance import UNUSABLE, FileCache, fingerprint
from pipeline.video import lengths
from pipeline.video.probe import probe
from pipeline.video.quarantine import read, write
from pipeline.video.specimens import SPECIMENS, make
from tests.workflow.workspace import ROOT, demo_config

LATIN = b"caf\xe9.mp4"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plain")
    make(next(specimen for specimen in SPECIMENS if specimen.file == "plain.mp4"), folder)
    return folder / "plain.mp4"


def lying(plain: Path, path: Path, *, ticks: int, delta: int) -> Path:
    """The file with other ticks a second and another duration of its frames (0: as they are)."""
    data = bytearray(plain.read_bytes())
    for box, value in ((data.find(b"mdhd"), ticks), (data.find(b"stts"), delta)):
        if value:
            data[box + 16 : box + 20] = struct.pack(">I", value)
    path.write_bytes(data)
    return path


def special(folder: Path, plain: Path) -> dict[str, str]:
    """One file of each kind; the code each should get."""
    os.mkfifo(folder / "pipe.mp4")
    (folder / "away.mp4").symlink_to("annex/object.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket.mp4"))
    with (folder / "sparse.mp4").open("wb") as file:
        file.truncate(1 << 40)
    shutil.copy(plain, os.path.join(os.fsencode(folder), LATIN))
    lying(plain, folder / "weeks.mp4", ticks=1, delta=0x7FFFFFFF)
    lying(plain, folder / "one bit.mp4", ticks=0, delta=_delta(plain) | 1 << 27)
    return {
        "pipe": "NOT_VIDEO",
        "away": "MISSING",
        "loop": "MISSING",
        "device": "NOT_VIDEO",
        "socket": "NOT_VIDEO",
        "sparse": "NOT_VIDEO",
        "caf\\xe9": "BAD_NAME",
        "weeks": "DECODE_ERROR",
        "one bit": "DECODE_ERROR",
    }


def _delta(path: Path) -> int:
    data = path.read_bytes()
    box = data.find(b"stts")
    return int(struct.unpack(">I", data[box + 16 : box + 20])[0])


@pytest.mark.timeout(200)
def test_each_is_one_line_of_the_quarantine(tmp_path: Path, plain: Path) -> None:
    """A folder that is called as a video, and a name of several lines, are none of them."""
    folder = tmp_path / "videos"
    (folder / "folder.mp4").mkdir(parents=True)
    good = {"folder.mp4/inside": folder / "folder.mp4" / "inside.mp4", "two\nlines\t'quoted\"": folder / "two\nlines\t'quoted\".mp4"}
    for path in good.values():
        shutil.copy(plain, path)
    codes = special(folder, plain)
    config = {**demo_config(), "dataset": {"name": "odd", "kind": "own", "videos": "videos", "annotations": ""}}
    config.pop("demo")
    config["video"] = {"max_bad_fraction": 1.0, "timeout": 30}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "pipeline.cli", "frames", "--shard", "000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((tmp_path / "results/odd/frames/000.json").read_text())
    assert {row["id"]: row["code"] for row in manifest["quarantine"]} == codes
    assert set(manifest["videos"]) == set(good)
    write(tmp_path / "quarantine.tsv", [{**row, "when": ""} for row in manifest["quarantine"]])
    assert {row["id"] for row in read(tmp_path / "quarantine.tsv")} == set(codes)


def test_init_lists_what_can_be_named(tmp_path: Path, plain: Path) -> None:
    (tmp_path / "videos").mkdir()
    shutil.copy(plain, tmp_path / "videos" / "plain.mp4")
    special(tmp_path / "videos", plain)
    command = [sys.executable, "-m", "pipeline.cli", "init", "videos", "--to", "made"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    lines = next((tmp_path / "made").glob("*.queries.csv")).read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1 + 9, "the header, and all but the name that is no text"


@pytest.fixture
def locked(plain: Path) -> Iterator[Path]:
    """A file that may not be read, where an ordinary user looks at it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "locked.mp4"
        shutil.copy(plain, path)
        os.chmod(name, 0o755)
        path.chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)
        yield path
        os.seteuid(user)


def test_a_file_that_may_not_be_read(locked: Path) -> None:
    assert fingerprint(locked, FileCache(None)) == f"{UNUSABLE}EACCES"
    with pytest.raises(VideoError) as caught:
        probe(str(locked))
    assert caught.value.code == "MISSING"
    assert "permission" in caught.value.fix


def test_fingerprints_open_no_pipe(tmp_path: Path, plain: Path) -> None:
    special(tmp_path, plain)
    cache = FileCache(tmp_path / "cache.json")
    marks = {path.name: fingerprint(path, cache) for path in sorted(tmp_path.iterdir())}
    cache.save()
    assert {name: mark for name, mark in marks.items() if mark.startswith(UNUSABLE)} == {
        "away.mp4": f"{UNUSABLE}ENOENT",
        "device.mp4": f"{UNUSABLE}special",
        "loop.mp4": f"{UNUSABLE}ELOOP",
        "pipe.mp4": f"{UNUSABLE}special",
        "socket.mp4": f"{UNUSABLE}special",
    }
    shutil.copy(plain, tmp_path / "away.mp4.new")
    (tmp_path / "away.mp4.new").rename(tmp_path / "away.mp4")
    assert not fingerprint(tmp_path / "away.mp4", FileCache(tmp_path / "cache.json")).startswith(UNUSABLE)


SECOND = np.arange(0, 3, 1 / 12)
TALK = np.arange(0, 3600, 120.0)  # a slide every two minutes


@pytest.mark.parametrize(
    ("times", "last", "stated"),
    [
        (SECOND, 1 / 12, 3.0),
        (SECOND, 1 / 12, 0.0),  # a raw stream says nothing
        (np.arange(0, 7200, 1 / 25), 1 / 25, 2.0),  # a recording whose header was never updated
        (TALK, 120.0, 3600.0),
        (TALK, 120.0, 0.0),
        (np.zeros(1), 600.0, 0.0),  # a picture with ten minutes of sound
        (np.arange(0, 5 * 86400, 60.0), 60.0, 5 * 86400.0),  # a picture a minute, for days
    ],
)
def test_lengths_that_are_believed(times: np.ndarray, last: float, stated: float) -> None:
    lengths.check("x", times, last, stated)


@pytest.mark.parametrize(
    ("times", "last", "stated", "why"),
    [
        (SECOND, 10922.0, 3.0, "its header says 3 s"),
        (SECOND, 10922.0, 0.0, "one picture stands for 3 h"),
        (np.append(SECOND, 10000.0 + SECOND), 1 / 12, 6.0, "its header says 6 s"),  # a gap in the middle
        (SECOND * 12 * 10922, 10922.0, 0.0, "a picture stands for 3 h on average"),  # header and stamps of one clock
        (SECOND, 1e9, 0.0, "no video is as long"),
        (np.asarray([0.0, np.inf]), 1.0, 0.0, "no video is as long"),
        (np.zeros(1), 7200.0, 0.0, "one picture stands for 2 h"),
    ],
)
def test_lengths_that_are_damage(times: np.ndarray, last: float, stated: float, why: str) -> None:
    with pytest.raises(VideoError, match=why) as caught:
        lengths.check("x", times, last, stated)
    assert caught.value.code == "DECODE_ERROR"
