"""The container: round trips, refusals, and no partial file whatever happens to the writer."""

from __future__ import annotations

import hashlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import StoreDamaged, StoreForeign, StoreMissing, StoreSchema
from pipeline.core.store import Ragged, create, open_store

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=8)


@settings(max_examples=25, deadline=None)
@given(lengths=LENGTHS, dim=st.integers(1, 5))
def test_ragged_round_trip(tmp_path_factory: pytest.TempPathFactory, lengths: list[int], dim: int) -> None:
    path = tmp_path_factory.mktemp("store") / "a.h5"
    rng = np.random.default_rng(0)
    values = {f"vidéo/{i}": rng.standard_normal((n, dim)).astype(np.float16) for i, n in enumerate(lengths)}
    with create(path, stage="features", recipe={"dim": dim}) as writer:
        for item, array in values.items():
            writer.append("features", item, array, {"start": np.arange(len(array), dtype=float)}, {"duration": 1.5, "key": item})
    with open_store(path, stage="features") as store:
        data = store.ragged("features")
    assert data.ids == list(values)
    assert data.values.dtype == np.float16
    for item, array in values.items():
        np.testing.assert_array_equal(data[item], array)
        np.testing.assert_array_equal(data.columns["start"][data.rows(item)], np.arange(len(array)))
    assert list(data.items["key"]) == list(values)
    assert "absent" not in data


def test_whole_ragged_equals_appended(tmp_path: Path) -> None:
    data = Ragged(["a", "b"], np.array([0, 2, 3]), np.ones((3, 2), np.float32), {"end": np.arange(3.0)}, {"n": np.array([2, 1])})
    with create(tmp_path / "a.h5", stage="x") as writer:
        writer.ragged("g", data)
    with open_store(tmp_path / "a.h5") as store:
        back = store.ragged("g", lazy=True)
        np.testing.assert_array_equal(back["b"], data["b"])
        assert back.items["n"].tolist() == [2, 1]


def test_tables_arrays_and_attributes(tmp_path: Path) -> None:
    frame = pd.DataFrame({"query": ["ein Hund", "un chien"], "start": [0.0, np.nan], "good": [True, False]})
    with create(tmp_path / "a.h5", stage="annotations", recipe={"b": [1, 2]}, source="own") as writer:
        writer.table("queries", frame)
        writer.table("empty", frame.iloc[:0])
        writer.array("model/block.weight", np.eye(3, dtype=np.float32))
        writer.attrs(dims={"video": 7})
    with open_store(tmp_path / "a.h5") as store:
        pd.testing.assert_frame_equal(store.table("queries"), frame, check_dtype=False)
        assert len(store.table("empty")) == 0
        assert store.names("model") == ["model/block.weight"]
        assert store.attrs["recipe"] == {"b": [1, 2]}
        assert store.attrs["dims"] == {"video": 7}
        with pytest.raises(StoreSchema, match="no array 'absent'"):
            store.array("absent")


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name in ("a.h5", "b.h5"):
        with create(tmp_path / name, stage="features") as writer:
            writer.append("features", "v", np.ones((3, 2), np.float16), {}, {"key": "k"})
        digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
        time.sleep(1.1)  # HDF5 keeps times in whole seconds
    assert len(digests) == 1


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="written twice"), create(tmp_path / "a.h5", stage="x") as writer:
        writer.append("g", "v", np.ones((1, 2)))
        writer.append("g", "v", np.ones((1, 2)))
    with pytest.raises(ValueError, match="rows of"), create(tmp_path / "a.h5", stage="x") as writer:
        writer.append("g", "v", np.ones((1, 2)))
        writer.append("g", "w", np.ones((1, 3)))
    assert list(tmp_path.iterdir()) == []


def test_typed_errors(tmp_path: Path) -> None:
    good = tmp_path / "good.h5"
    with create(good, stage="features") as writer:
        writer.append("features", "v", np.zeros((4000, 8), np.float32))
    with pytest.raises(StoreMissing, match="run the workflow"), open_store(tmp_path / "none.h5"):
        pass
    for size in (0, 100, good.stat().st_size // 2, good.stat().st_size - 1):
        short = tmp_path / f"short{size}.h5"
        short.write_bytes(good.read_bytes()[:size])
        with pytest.raises(StoreDamaged, match="delete the file"), open_store(short):
            pass
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(StoreDamaged), open_store(tmp_path / "text.h5"):
        pass
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = [1]
    with pytest.raises(StoreForeign, match="prvr import"), open_store(tmp_path / "foreign.h5"):
        pass
    with pytest.raises(StoreSchema, match="'features' file where 'clips'"), open_store(good, stage="clips"):
        pass
    with h5py.File(good, "r+") as file:
        file.attrs["prvr_schema"] = 99
    with pytest.raises(StoreSchema, match="schema 99"), open_store(good):
        pass


WRITE = """
import sys, numpy as np
from pipeline.core.store import create
for version in range(10**6):
    with create(sys.argv[1], stage="features", version=version) as writer:
        for i in range(20):
            writer.append("features", f"v{i}", np.full((200, 16), version % 100, np.float16))
"""


def test_killed_at_any_moment_leaves_a_whole_file_or_none(tmp_path: Path, root: Path) -> None:
    path, pause = tmp_path / "a.h5", random.Random(3)
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], cwd=root)
        started = time.monotonic()
        while not path.exists() and time.monotonic() - started < 60:
            time.sleep(0.01)
        time.sleep(pause.random() * 0.2)
        child.send_signal(signal.SIGKILL)
        child.wait()
        with open_store(path, stage="features") as store:
            data = store.ragged("features")
            assert len(data) == 20
            assert (data.values == store.attrs["version"] % 100).all()
