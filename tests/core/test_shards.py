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

from pipeline.core.shards import (
    FRAME_BYTES,
    MOST,
    MOST_LONG,
    USUAL,
    ShardStore,
    assign,
    extended,
    names,
    shard_names,
    shard_size,
)
from pipeline.core.store import open_store, recipe_hash


@given(st.sets(st.text(min_size=1, max_size=6), max_size=60), st.integers(1, 9))
def test_every_video_has_one_shard(ids: set[str], size: int) -> None:
    shards = assign(ids, size)
    assert sorted(i for members in shards.values() for i in members) == sorted(ids)
    assert list(shards) == shard_names(len(ids), size)


def test_a_renamed_video_stays_in_its_shard() -> None:
    content = {f"video{i}": f"content{i}" for i in range(90)}
    renamed = {("other" if i == "video7" else i): found for i, found in content.items()}
    before, after = assign(content, 16, content), assign(renamed, 16, renamed)
    assert {name: sorted("other" if i == "video7" else i for i in ids) for name, ids in before.items()} == after


def test_one_more_video_moves_no_other() -> None:
    ids = [f"video{i}" for i in range(90)]
    before, after = assign(ids, 16), assign([*ids, "new"], 16)
    changed = [name for name in after if before[name] != after[name]]
    assert len(changed) == 1
    assert set(after[changed[0]]) - set(before[changed[0]]) == {"new"}


DIVIDED = assign([f"video{i}" for i in range(400)], 20)


def _grown(*, without: int = 0, new: int = 0, size: int = 20, former: dict[str, list[str]] = DIVIDED) -> dict[str, list[str]] | None:
    ids = sorted(i for members in former.values() for i in members)[without:] + [f"new{i:03d}" for i in range(new)]
    return extended(former, {i: i for i in ids}, size)


def test_few_more_videos_change_few_shards() -> None:
    """Where a new division would spread them, they are together."""
    spread = assign([i for members in DIVIDED.values() for i in members] + [f"new{i:03d}" for i in range(4)], 20)
    assert sum(spread[name] != DIVIDED[name] for name in DIVIDED) > 2
    after = _grown(new=4)
    assert after is not None
    assert [name for name in after if after[name] != DIVIDED.get(name)] == ["031"]
    assert sorted(set(after["031"]) - set(DIVIDED["031"])) == [f"new{i:03d}" for i in range(4)]


def test_full_shards_are_followed_by_further_ones() -> None:
    after = _grown(new=60)
    assert after is not None
    assert list(after)[:32] == list(DIVIDED)
    assert [after[name] for name in names(31)] == [DIVIDED[name] for name in names(31)]
    free = 20 - len(DIVIDED["031"])
    assert [len(after[name]) for name in list(after)[31:]] == [20, 20, 20, 60 - free - 40]
    again = extended(after, {i: i for members in after.values() for i in members}, 20)
    assert again == after


def test_names_of_further_shards_change_no_other() -> None:
    former = {name: [f"{name} {i}" for i in range(2)] for name in names(1000)}
    after = _grown(new=3, size=2, former=former)
    assert after is not None
    assert list(after) == names(1002, hashed=1000)
    assert list(after)[-3:] == ["999", "1000", "1001"]


@given(st.integers(0, 400), st.integers(0, 500), st.integers(1, 40))
def test_every_video_has_one_shard_when_it_grows(without: int, new: int, size: int) -> None:
    after = _grown(without=without, new=new, size=size)
    if after is None:
        assert new > 400 - without or 32 + -(-new // size) > 2 * len(shard_names(400 - without + new, size))
        return
    members = [i for ids in after.values() for i in ids]
    assert len(members) == len(set(members)) == 400 - without + new
    assert all(ids == sorted(ids) for ids in after.values())
    assert all([i for i in after[name] if i in DIVIDED[name]] == [i for i in after[name] if not i.startswith("new")] for name in DIVIDED)


def test_another_collection_is_divided_anew() -> None:
    assert _grown(without=400, new=400) is None
    assert _grown(new=400) is not None
    assert _grown(new=401) is None  # most are new
    assert _grown(without=239) is not None
    assert _grown(without=240) is None  # 160 videos make 8 shards of 20, and there are 32


def test_two_videos_of_one_content_share_a_shard() -> None:
    former = {"000": ["a"], "001": ["b"]}
    after = extended(former, {"one": "a", "two": "a", "b": "b", "x": "c", "y": "c"}, 1)
    assert after == {"000": ["one", "two"], "001": ["b"], "002": ["x", "y"]}


def test_a_new_division_is_what_it_always_was() -> None:
    """Collections that former versions divided stay as they are."""
    content = {f"video{i:04d}": f"content {i}" for i in range(300)}
    place = {i: name for name, ids in assign(content, 10, content).items() for i in ids}
    assert recipe_hash(place) == "eeec6a04438c"


GIGA = 1e9


def test_videos_of_a_shard_follow_their_number_and_length() -> None:
    assert shard_size(50, 0.01 * GIGA) == USUAL
    assert shard_size(MOST * USUAL, 0.0) == USUAL
    assert shard_size(MOST * USUAL + 1, 0.0) == 2 * USUAL
    assert len(shard_names(10_000_000, shard_size(10_000_000, 0.0))) <= MOST
    assert shard_size(50, 26 * GIGA) == 1  # films of three hours, at SlowFast's rate
    assert len(shard_names(1_000_000, shard_size(1_000_000, 26 * GIGA))) <= MOST_LONG
    assert shard_size(4000, 0.36 * GIGA) * 0.36 * GIGA <= FRAME_BYTES < 2 * (1 + shard_size(4000, 0.36 * GIGA)) * 0.36 * GIGA


@given(st.integers(1, 3_000_000), st.floats(0, 30 * GIGA))
def test_a_collection_that_grows_stays_on_its_step(videos: int, frames: float) -> None:
    size, grown = (shard_size(number, frames) for number in (videos, videos + videos // 100))
    assert grown in (size, 2 * size, 2 * size + 1)


def _store(path: Path, recipe: int = 1) -> ShardStore:
    return ShardStore(path, stage="features", recipe={"v": recipe}, group="features")


def _add(store: ShardStore, item: str, key: str, value: float) -> None:
    store.add(item, key, np.full((3, 4), value, np.float16), {"start": np.arange(3.0)}, {"duration": 1.0})


def test_unchanged_items_are_kept_and_changed_ones_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "000.h5"
    store = _store(path)
    _add(store, "a", "k1", 1)
    _add(store, "b", "k2", 2)
    assert store.finish({"a": "k1", "b": "k2"}, dim=4) == 6
    store = _store(path)
    wanted = {"a": "k1", "b": "k4", "c": "k3"}
    assert store.missing(wanted) == ["b", "c"]
    _add(store, "b", "k4", 9)
    _add(store, "c", "k3", 3)
    assert store.missing(wanted) == []
    store.finish(wanted)
    with open_store(path) as file:
        data = file.ragged("features")
    assert [data[i][0, 0] for i in "abc"] == [1, 9, 3]
    assert not _store(path, recipe=2).has("k1")


def test_renamed_item_is_copied_byte_for_byte(tmp_path: Path) -> None:
    for name, first, second in (("renamed", "a", "z"), ("never", "z", "z")):
        store = _store(tmp_path / f"{name}.h5")
        _add(store, first, "k1", 1)
        _add(store, "b", "k2", 2)
        store.finish({first: "k1", "b": "k2"})
        store = _store(tmp_path / f"{name}.h5")
        assert store.missing({"b": "k2", second: "k1"}) == []
        store.finish({"b": "k2", second: "k1"})
    assert (tmp_path / "renamed.h5").read_bytes() == (tmp_path / "never.h5").read_bytes()


def test_two_items_of_one_content_are_computed_once(tmp_path: Path) -> None:
    store, wanted = _store(tmp_path / "000.h5"), {"a": "k1", "b": "k1"}
    assert store.missing(wanted) == ["a"]
    _add(store, "a", "k1", 1)
    store.finish(wanted)
    with open_store(tmp_path / "000.h5") as file:
        data = file.ragged("features")
    assert data.ids == ["a", "b"]
    assert (data["a"] == data["b"]).all()


def test_damaged_previous_file_is_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "000.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n but short")
    assert not _store(path).has("k1")


WORK = """
import sys, time, numpy as np, pathlib
from pipeline.core import shards
shards.PART_BYTES = 60
store = shards.ShardStore(pathlib.Path(sys.argv[1]), stage="features", recipe={"v": 1}, group="features")
ids = [f"v{i:02d}" for i in range(60)]
for n, item in enumerate(ids):
    if not store.has(item):
        time.sleep(0.01)
        store.add(item, item, np.full((3, 4), n, np.float16), {"start": np.arange(3.0)}, {"duration": 1.0})
store.finish({item: item for item in ids}, dim=4)
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
