"""Shards: stable assignment, and stores that compute only what is new and survive kills byte for byte."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shards import ShardStore, assign, shard_names
from pipeline.store import open_store


@given(st.sets(st.text(min_size=1, max_size=6), max_size=60), st.integers(1, 9))
def test_every_video_has_one_shard(ids: set[str], size: int) -> None:
    shards = assign(ids, size)
    assert sorted(i for members in shards.values() for i in members) == sorted(ids)
    assert list(shards) == shard_names(len(ids), size)


def test_one_more_video_moves_no_other() -> None:
    ids = [f"video{i}" for i in range(90)]
    before, after = assign(ids, 16), assign([*ids, "new"], 16)
    changed = [name for name in after if before[name] != after[name]]
    assert len(changed) == 1
    assert set(after[changed[0]]) - set(before[changed[0]]) == {"new"}


def _store(path: Path, recipe: int = 1) -> ShardStore:
    return ShardStore(path, stage="features", recipe={"v": recipe}, group="features")


def _add(store: ShardStore, item: str, key: str, value: float) -> None:
    store.add(item, key, np.full((3, 4), value, np.float16), {"start": np.arange(3.0)}, {"duration": 1.0})


def test_unchanged_items_are_kept_and_changed_ones_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "000.h5"
    store = _store(path)
    _add(store, "a", "k1", 1)
    _add(store, "b", "k1", 2)
    assert store.finish(["a", "b"], dim=4) == 6
    store = _store(path)
    assert store.has("a", "k1")
    assert not store.has("a", "k2")
    _add(store, "b", "k2", 9)
    _add(store, "c", "k1", 3)
    store.finish(["a", "b", "c"])
    with open_store(path) as file:
        data = file.ragged("features")
    assert [data[i][0, 0] for i in "abc"] == [1, 9, 3]
    assert not _store(path, recipe=2).known()


def test_damaged_previous_file_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "000.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n but short")
    assert not _store(path).known()


WORK = """
import sys, time, numpy as np, pathlib
from pipeline import shards
shards.PART_BYTES = 60
store = shards.ShardStore(pathlib.Path(sys.argv[1]), stage="features", recipe={"v": 1}, group="features")
ids = [f"v{i:02d}" for i in range(60)]
for n, item in enumerate(ids):
    if not store.has(item, "k"):
        time.sleep(0.01)
        store.add(item, "k", np.full((3, 4), n, np.float16), {"start": np.arange(3.0)}, {"duration": 1.0})
store.finish(ids, dim=4)
"""


def test_killed_and_continued_gives_the_same_bytes(tmp_path: Path, root: Path) -> None:
    command = [sys.executable, "-c", WORK]
    subprocess.run([*command, str(tmp_path / "calm.h5")], cwd=root, check=True)
    pause, killed = random.Random(5), 0
    path = tmp_path / "killed.h5"
    parts, before = tmp_path / ".killed.parts", 0
    while not path.exists():
        child = subprocess.Popen([*command, str(path)], cwd=root)
        while child.poll() is None and len(list(parts.glob("*.h5"))) <= before:
            time.sleep(0.005)
        time.sleep(pause.random() * 0.1)
        if child.poll() is None and killed < 8:
            child.send_signal(signal.SIGKILL)
            killed += 1
        child.wait()
        before = len(list(parts.glob("*.h5")))
    assert killed >= 2
    assert hashlib.sha256(path.read_bytes()).digest() == hashlib.sha256((tmp_path / "calm.h5").read_bytes()).digest()
    assert [p.name for p in tmp_path.iterdir() if "killed" in p.name] == [path.name]
