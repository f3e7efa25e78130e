"""Nothing wrong is used without a word: changed bytes, changed structure, other people's storage, another file under this name."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from pipeline.core.errors import StoreDamaged, StoreError, StoreForeign, StoreSchema, StoreValues
from pipeline.core.store import Ragged, contained, content_digest, create, create_foreign, open_foreign, open_store

RNG = np.random.default_rng(0)
FEATURES = {f"v{i}": RNG.standard_normal((n, 24)).astype(np.float16) for i, n in enumerate((3, 0, 7, 12))}
FRAMES = {f"v{i}": RNG.integers(0, 255, (n, 40, 40, 3), dtype=np.uint8) for i, n in enumerate((90, 2))}  # 90 rows are two pieces


def write(path: Path, **attrs: Any) -> Path:
    with create(path, stage="features", recipe={"a": 1}, encoder="one", **attrs) as writer:
        for item, values in FEATURES.items():
            times = np.arange(len(values) + 1.0)
            writer.append("features", item, values, {"start": times[:-1], "end": times[1:]}, {"key": f"k-{item}", "duration": 2.5})
        for item, values in FRAMES.items():
            writer.append("frames", item, values)
        writer.ragged("moments", Ragged(["q", "r"], np.array([0, 1, 3]), np.arange(6.0).reshape(3, 2)))
        writer.table("videos", pd.DataFrame({"video_id": ["α", "β"], "duration": [1.0, np.nan]}))
        writer.array("model/weight", np.eye(5, dtype=np.float32))
    return path


def everything(path: Path) -> list[Any]:
    """All that can be read of a file, lazily too, in a form that compares."""
    with open_store(path, stage="features", recipe_hash=None) as store:
        read: list[Any] = [store.attrs, store.names()]
        for name in ("features", "frames", "moments"):
            lazy, whole = store.ragged(name, lazy=True), store.ragged(name)
            read += [whole.ids, whole.offsets.tolist(), whole.values.tobytes(), [lazy[item].tobytes() for item in lazy.ids]]
            read += [{k: v.tolist() for k, v in (whole.columns | whole.items).items()}]
        return [*read, store.table("videos").to_json(), store.array("model/weight").tobytes()]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("good") / "000.h5")


def flip(path: Path, content: bytes, place: int, bit: int = 0) -> Path:
    path.write_bytes(content[:place] + bytes([content[place] ^ (1 << bit)]) + content[place + 1 :])
    return path


@pytest.mark.parametrize(
    "values", [FEATURES["v2"], FRAMES["v1"], np.arange(7.0), np.eye(5, dtype=np.float32), np.array([0, 3, 3, 10, 22]), "β"]
)
def test_a_flipped_bit_of_a_value_is_noticed(good: Path, tmp_path: Path, values: Any) -> None:
    content, chosen = good.read_bytes(), random.Random(1)
    stored = values.encode() if isinstance(values, str) else values.tobytes()
    for place in chosen.sample(range(len(stored)), min(3, len(stored))):
        with pytest.raises(StoreDamaged):
            everything(flip(tmp_path / "000.h5", content, content.index(stored) + place, chosen.randrange(8)))


def test_a_flipped_bit_of_the_structure_is_noticed_or_changes_nothing(good: Path, tmp_path: Path) -> None:
    before, content, chosen = everything(good), good.read_bytes(), random.Random(2)
    structure = [i for i, byte in enumerate(content[:9000]) if byte]  # mostly zeros; what is not counts for something
    noticed = 0
    for place in chosen.sample(structure, 50):
        try:
            assert everything(flip(tmp_path / "000.h5", content, place, chosen.randrange(8))) == before, (
                f"byte {place}: another content, silently"
            )
        except StoreError:
            noticed += 1
    assert noticed > 25


def _shifted_ids(file: h5py.File) -> None:
    file["features/ids"][...] = np.roll(file["features/ids"][...], 1)


def _offset(value: int) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        file["features/offsets"][2] = value

    return edit


def _random_weights(file: h5py.File) -> None:
    file["model/weight"][...] = RNG.standard_normal((5, 5))


def _replaced(**how: Any) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        old = file["model/weight"]
        shape, dtype = old.shape, old.dtype
        del file["model/weight"]
        if "link" in how:
            file["model/weight"] = how["link"]
        elif "source" in how:
            layout = h5py.VirtualLayout(shape, dtype)
            layout[:] = h5py.VirtualSource(how["source"], "x", shape)
            file.create_virtual_dataset("model/weight", layout)
        else:
            file.create_dataset("model/weight", shape, dtype, external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)])

    return edit


def _deleted(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def _variable(file: h5py.File) -> None:
    """The same ids, in strings of variable length."""
    texts = file["features/ids"].asstr()[...]
    del file["features/ids"]
    file.create_dataset("features/ids", data=texts, dtype=h5py.string_dtype())


def _attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: file.attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    "edit",
    [
        _shifted_ids,
        *map(_offset, (5, 10**9, -7)),
        _random_weights,
        _attribute("complete", False),
        _attribute("recipe_hash", "deadbeef0000"),
        _attribute("encoder", "two"),
        _attribute("digest", "0" * 32),
        lambda file: file.attrs.__delitem__("digest"),
        lambda file: file.attrs.__delitem__("stage"),
        _deleted("features/checksums"),
        _deleted("features/items"),
        _deleted(".contents"),
        lambda file: file.move("features/columns/start", "features/columns/begin"),
        lambda file: file.__setitem__("features/columns/extra", np.zeros(22)),
        _variable,
        _replaced(link=h5py.SoftLink("/moments/values")),
        _replaced(link=h5py.ExternalLink("/nowhere.h5", "/x")),
        _replaced(source="/nowhere.h5"),
        _replaced(),
    ],
)
def test_an_edited_file_is_refused(good: Path, tmp_path: Path, edit: Callable[[h5py.File], None]) -> None:
    path = tmp_path / "000.h5"
    path.write_bytes(good.read_bytes())
    with h5py.File(path, "r+") as file:
        edit(file)
    with pytest.raises(StoreDamaged, match="to do: delete the file and run"):
        everything(path)


def test_nothing_is_of_variable_length(good: Path) -> None:
    """Nothing HDF5 finds by way of a heap, and every part of the structure with HDF5's own checksum."""
    content = good.read_bytes()
    assert content[8] == 3  # the version of the first block
    assert not [mark for mark in (b"GCOL", b"HEAP", b"SNOD", b"TREE") if mark in content]  # parts without one


def test_text_of_any_kind_comes_back(tmp_path: Path) -> None:
    texts = ["", "β", "x" * 5000, "ein Hund\n", "\udce9t\udce9.mp4", *(f"row {i}" for i in range(3000))]  # 15 MB in fields of one width
    with create(tmp_path / "a.h5", stage="text", note="", place="\udce9", long="é" * 50_000, values=[1, "β"]) as writer:
        writer.table("t", pd.DataFrame({"text": texts}))
    assert (tmp_path / "a.h5").stat().st_size < 400_000
    with open_store(tmp_path / "a.h5") as store:
        assert list(store.table("t")["text"]) == texts
        assert [store.attrs[name] for name in ("note", "place", "long", "values")] == ["", "\udce9", "é" * 50_000, [1, "β"]]
    with pytest.raises(StoreValues, match="NUL"), create(tmp_path / "b.h5", stage="text") as writer:
        writer.array("ids", np.asarray(["a\0b"]))
    with pytest.raises(StoreValues, match="NUL"), create(tmp_path / "b.h5", stage="text", note="a\0"):
        pass
    with pytest.raises(TypeError, match="text expected"), create(tmp_path / "b.h5", stage="text") as writer:
        writer.array("ids", np.asarray(["a", None], dtype=object))


@pytest.mark.parametrize("schema", [2, "two"])
def test_a_file_of_an_earlier_version_is_told_before_hdf5_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schema: Any) -> None:
    """In its format a damaged structure can be searched for ever."""
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["prvr_schema"] = schema
        file.attrs["recipe"] = "a string of variable length"
    monkeypatch.setattr("pipeline.core.store.reader.h5py.File", None)
    with pytest.raises(StoreSchema, match="earlier version"), open_store(tmp_path / "old.h5"):
        pass


@pytest.mark.timeout(20)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    for opened in (open_store, open_foreign):
        for path in (tmp_path, tmp_path / "pipe.h5"):
            with pytest.raises(StoreDamaged, match="a pipe"), opened(path):
                pass


def test_one_damaged_item_leaves_the_others(good: Path, tmp_path: Path) -> None:
    path, content = tmp_path / "000.h5", bytearray(good.read_bytes())
    content[content.index(FRAMES["v0"][70].tobytes())] ^= 1  # in the second piece of v0
    path.write_bytes(content)
    with open_store(path) as store:
        lazy = store.ragged("frames", lazy=True)
        assert lazy.damaged() == ["v0"]
        np.testing.assert_array_equal(lazy["v1"], FRAMES["v1"])
        np.testing.assert_array_equal(lazy.values[3:9], FRAMES["v0"][3:9])
        with pytest.raises(StoreDamaged):
            lazy.values[60:75]
        with pytest.raises(StoreDamaged):
            store.ragged("frames")
        with pytest.raises(StoreDamaged):
            store.verify()
        assert len(store.ragged("features")) == 4
    with open_store(good) as store:
        store.verify()


def test_a_whole_file_under_another_ones_name_is_refused(good: Path, tmp_path: Path) -> None:
    shard = write(tmp_path / "001.h5", shard="001")
    for expected in ({"shard": "000"}, {"encoder": "two"}, {"recipe_hash": "deadbeef0000"}, {"stage": "clips"}):
        with pytest.raises(StoreSchema, match="expected"), open_store(shard, **expected):
            pass
    with open_store(shard, stage="features", shard="001", encoder="one") as store:
        assert "features" in store


def test_content_digest_is_of_the_content(good: Path, tmp_path: Path) -> None:
    assert content_digest(write(tmp_path / "other-name.h5")) == content_digest(good)
    assert content_digest(write(tmp_path / "attribute.h5", more=1)) != content_digest(good)
    FEATURES["v0"][0, 0] += 1
    try:
        assert content_digest(write(tmp_path / "value.h5")) != content_digest(good)
    finally:
        FEATURES["v0"][0, 0] -= 1


def test_infinite_values_are_not_stored(tmp_path: Path) -> None:
    with pytest.raises(StoreValues, match="1 infinite"), create(tmp_path / "a.h5", stage="features") as writer:
        writer.append("features", "v", np.zeros((2, 3), np.float16))
        writer.append("features", "w", np.full((1, 3), [1, 70000, 2], np.float32))  # becomes float16, like the item before it
    with pytest.raises(StoreValues), create(tmp_path / "a.h5", stage="text") as writer:
        writer.append("tokens", "q", np.zeros((2, 3)), items={"sentence": np.array([np.inf])})
    with pytest.raises(StoreValues), create(tmp_path / "a.h5", stage="clips") as writer:
        writer.array("frames", np.full(3, np.inf, np.float16), finite=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "put",
    [
        lambda file: file.create_dataset("v1", (5, 8), "f4", external=[("/etc/hostname", 0, 160)]),
        lambda file: file.__setitem__("group/v1", h5py.ExternalLink("/etc/other.h5", "/x")),
        lambda file: file.create_virtual_dataset("v1", h5py.VirtualLayout((5, 8), "f4"), fillvalue=1),
    ],
)
def test_a_strangers_file_that_points_elsewhere_is_refused(tmp_path: Path, put: Callable[[h5py.File], Any]) -> None:
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["fine"] = np.ones(3)
        put(file)
    with pytest.raises(StoreForeign, match=r"v1.* (another file|elsewhere)"), open_foreign(tmp_path / "b.h5"):
        pass


def _for_ever(*_: Any) -> None:
    while True:
        hash("busy")


@pytest.mark.parametrize(
    ("what", "said"), [(_for_ever, "does not end"), (lambda *_: os.kill(os.getpid(), signal.SIGKILL), "ends the process")]
)
def test_a_strangers_file_that_cannot_be_gone_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: Callable[..., None], said: str
) -> None:
    with create_foreign(tmp_path / "b.h5") as put:
        put("a", np.arange(3))
    monkeypatch.setattr(contained, "PATIENCE", 0.2)
    monkeypatch.setattr(contained, "contents", lambda file, each: (each(), what()))
    with pytest.raises(StoreDamaged, match=f"{said}(.|\n)*copy the file again"), open_foreign(tmp_path / "b.h5"):
        pass


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_a_strangers_file_with_a_flipped_bit_is_read_or_refused(tmp_path: Path, libver: str) -> None:
    with h5py.File(tmp_path / "b.h5", "w", libver=libver) as file:
        for i in range(30):
            file[f"group{i % 3}/video{i}"] = np.ones((2, 3))
        file.create_dataset("chunked", data=np.arange(1000), chunks=(10,))
        file.create_dataset("names", data=["a", "b"], dtype=h5py.string_dtype())
    content, chosen = (tmp_path / "b.h5").read_bytes(), random.Random(5)
    structure = [i for i, byte in enumerate(content) if byte and byte not in (0x3F, 0xF0)]
    for place in chosen.sample(structure, 40):
        path = flip(tmp_path / "c.h5", content, place, chosen.randrange(8))
        with contextlib.suppress(StoreError), open_foreign(path) as foreign:
            for name in foreign:
                with contextlib.suppress(StoreError):
                    foreign[name]


def test_a_strangers_file_with_names_and_groups(tmp_path: Path) -> None:
    with create_foreign(tmp_path / "b.h5") as put:
        put("group/a", np.arange(3))
        put("text", np.asarray(["α"], dtype=object))
    with h5py.File(tmp_path / "b.h5", "a") as file:
        file["alias"] = h5py.SoftLink("/group/a")
        file["variable"] = "its place in the file can be anything"
    with open_foreign(tmp_path / "b.h5") as foreign:
        assert sorted(foreign) == ["group/a", "text", "variable"]
        with pytest.raises(StoreForeign, match="variable: values of type object"):
            foreign["variable"]
        assert foreign.peek("group/a") == ((3,), np.dtype(np.int64))
        assert foreign["text"].tolist() == ["α"]
