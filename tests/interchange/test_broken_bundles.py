"""Bundles that cannot be meant: each is refused by its file's name and a reason, nothing is run or written."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from pipeline.config.schema import Config
from pipeline.core.errors import PrvrError
from pipeline.interchange.captioned import open_captioned
from pipeline.interchange.exporting import export_captioned, export_npz
from pipeline.interchange.importing import import_bundle
from pipeline.interchange.npz import open_npz
from tests.interchange.conftest import Made

ROWS = np.random.default_rng(0).standard_normal((5, 6)).astype("f4")


class Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ("touch PWNED",)


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(config: Config, opened: Callable[[], Any], *parts: str) -> None:
    """The import ends in a typed error that says these words; the store stays empty and nothing of the bundle ran."""
    with pytest.raises(PrvrError) as caught, opened() as bundle:
        import_bundle(bundle, config, config.layout, video="clip", text="clip")
    assert caught.value.code in ("BUNDLE", "DATASET", "STORE_DAMAGED", "STORE_FOREIGN")
    assert caught.value.fix
    for part in parts:
        assert part in str(caught.value)
    assert not list(config.layout.root.rglob("*.h5"))
    assert not list(Path.cwd().rglob("PWNED*"))


HDF5: dict[str, tuple[Callable[[h5py.File, str], Any], str]] = {
    "strings": (
        lambda f, v: f.create_dataset(v, data=np.array([["x"] * 6] * 5, dtype=object), dtype=h5py.string_dtype()),
        "of type object",
    ),
    "compound": (lambda f, v: f.create_dataset(v, data=np.zeros((5, 6), dtype=[("a", "f4"), ("b", "S5")])), "values of type"),
    "references": (lambda f, v: f.create_dataset(v, shape=(5, 6), dtype=h5py.ref_dtype), "values of type"),
    "complex": (lambda f, v: f.create_dataset(v, data=np.ones((5, 6), "c8")), "complex64"),
    "scalar": (lambda f, v: f.create_dataset(v, data=3.0), "shape ()"),
    "no values": (lambda f, v: f.create_dataset(v, data=h5py.Empty("f4")), "shape ()"),
    "four axes": (lambda f, v: f.create_dataset(v, data=np.ones((2, 2, 2, 6), "f4")), "rows [n, D] expected"),
    "no rows": (lambda f, v: f.create_dataset(v, shape=(0, 6), dtype="f4"), "without rows"),
    "claims 24 GB": (lambda f, v: f.create_dataset(v, shape=(10**9, 6), dtype="f4", chunks=(1000, 6)), "more than any video"),
    "too large for float32": (lambda f, v: f.create_dataset(v, data=np.full((5, 6), 1e300)), "not numbers"),
    "link to a file": (lambda f, v: f.__setitem__(v, h5py.ExternalLink("/nowhere.h5", "/x")), "link to another file"),
    "link to itself": (lambda f, v: f.__setitem__(v, h5py.SoftLink(f"/{v}")), "without features"),
    "values in a file": (lambda f, v: f.create_dataset(v, shape=(5, 6), dtype="f4", external=[("/etc/passwd", 0, 120)]), "another file"),
}


@pytest.mark.parametrize("kind", HDF5)
def test_hdf5(made: Made, config: Config, kind: str) -> None:
    make, said = HDF5[kind]
    root = made.msc()
    with h5py.File(root / "FeatureData" / "activitynet_clip_L14.h5", "a") as file:
        del file["a_b"]
        make(file, "a_b")
    refused(config, lambda: open_captioned(root), said)


BIG = {
    "three numbers": ("shape.txt", "13 6 1", "two numbers expected"),
    "one number": ("shape.txt", "13", "two numbers expected"),
    "words": ("shape.txt", "a b", "two numbers expected"),
    "negative": ("shape.txt", "-13 -6", "two numbers expected"),
    "another shape": ("shape.txt", "6 13", "shape.txt says 6 x 13"),
    "huge": ("shape.txt", f"13 {'9' * 5000}", "two numbers expected"),
    "nothing": ("shape.txt", "", "two numbers expected"),
    "code": ("video2frames.txt", "__import__('os').system('touch PWNED')", "not a dictionary literal"),
    "a list": ("video2frames.txt", "[1, 2]", "holds a list"),
    "a set": ("video2frames.txt", "{'v_a_b', 'v_d'}", "holds a set"),
    "numbers": ("video2frames.txt", "{'v_a_b': 5}", "without a list of frame ids"),
    "lists of lists": ("video2frames.txt", "{'v_a_b': [['a']]}", "without a list of frame ids"),
    "one text": ("video2frames.txt", "{'v_a_b': 'v_a_b_0'}", "without a list of frame ids"),
    "deep": ("video2frames.txt", "[" * 5000 + "]" * 5000, "not a dictionary literal"),
    "a product": ("video2frames.txt", "'a' * 10**10", "not a dictionary literal"),
    "ids twice": ("id.txt", " ".join(["v_a_b_0"] * 13), "given twice"),
}


@pytest.mark.parametrize("kind", BIG)
def test_big_file(made: Made, config: Config, kind: str) -> None:
    name, text, said = BIG[kind]
    root = made.mssl()
    (root / "FeatureData" / "i3d" / name).write_text(text)
    refused(config, lambda: open_captioned(root), said, name if name != "id.txt" else "id")


def header(shape: str, kind: str = "'<f4'") -> bytes:
    """The beginning of an npy file."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * ((64 - (10 + len(text) + 1) % 64) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def zipped(path: Path, content: bytes, repeats: int = 1, block: bytes = b"") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("features.npy", "w", force_zip64=True) as file:
        file.write(content)
        for _ in range(repeats if block else 0):
            file.write(block)


NPZ: dict[str, Callable[[Path], Any]] = {
    "objects": lambda p: np.savez(p, features=np.array([Hostile()], dtype=object)),
    "a pickle": lambda p: p.write_bytes(pickle.dumps(Hostile())),
    "a pickle in an npy": lambda p: p.write_bytes(header("(1,)", "'|O'") + pickle.dumps(Hostile())),
    "claims terabytes": lambda p: zipped(p, header("(1000000000000, 8)")),
    "negative": lambda p: zipped(p, header("(-1, 8)")),
    "overflow": lambda p: zipped(p, header("(4611686018427387904, 8)")),
    "code in the header": lambda p: zipped(p, header("(__import__('os').system('touch PWNED'),)")),
    "a header of a megabyte": lambda p: zipped(p, b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 20) + b"(" * (1 << 20)),
    "texts": lambda p: np.savez(p, features=np.array([["a"] * 3] * 5)),
    "another name": lambda p: np.savez(p, rows=np.ones((4, 3))),
    "no zip": lambda p: p.write_bytes(b"hello"),
    "empty": lambda p: p.write_bytes(b""),
    "unpacks to 256 MB": lambda p: zipped(p, header("(8388608, 8)"), 16, b"\0" * (1 << 24)),
}


@pytest.mark.parametrize("kind", NPZ)
def test_npz(made: Made, config: Config, kind: str) -> None:
    given = made.npz()
    NPZ[kind](made.root / "clip" / "z_0.0_4.0.npz")
    refused(config, lambda: open_npz(**given), "z_0.0_4.0")


def test_a_pipe_among_the_files_does_not_hang(made: Made, config: Config) -> None:
    given = made.npz()
    (made.root / "clip" / "z_0.0_4.0.npz").unlink()
    os.mkfifo(made.root / "clip" / "z_0.0_4.0.npz")
    refused(config, lambda: open_npz(**given), "videos without features", "z_0.0_4.0")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("hello", "no JSON"),
        ("{}", "no qid, query, vid"),
        ("[1]", "no object"),
        ("[" * 5000 + "]" * 5000, "no JSON"),
        ('{"qid": 0, "query": "q", "vid": "v", "duration": 10, "relevant_windows": [["a"]]}', "pairs of seconds"),
        ('{"qid": 0, "query": "q", "vid": "v", "duration": 10, "relevant_windows": [[NaN, Infinity]]}', "pairs of seconds"),
        ('{"qid": 0, "query": "q", "vid": "v", "duration": "x"}', "a number of seconds"),
        ('{"qid": 0, "query": {"en": "q"}, "vid": "v"}', "query is a dict"),
    ],
)
def test_lines_of_annotations(made: Made, config: Config, line: str, said: str) -> None:
    given = made.npz()
    with (made.root / "val.jsonl").open("a") as file:
        file.write(line + "\n")
    refused(config, lambda: open_npz(**given), "val.jsonl", "line 4: ", said)


@pytest.mark.parametrize("line", ["{bad", json.dumps({"vid_name": "v_d"}), json.dumps({"vid": "v_d", "query": "q"})])
def test_lines_of_a_release_file(made: Made, config: Config, line: str) -> None:
    root = made.msc()
    (root / "activitynet_val_release.jsonl").write_text(line + "\n")
    refused(config, lambda: open_captioned(root), "activitynet_val_release.jsonl", "line 1")


@pytest.mark.parametrize("video", ["../../../ESCAPED", "/tmp/ESCAPED_prvr", "a/../../b"])
def test_ids_that_leave_the_folder_are_refused_at_import(made: Made, config: Config, video: str) -> None:
    root = made.msc()
    with (root / "TextData" / "activitynettrain.caption.txt").open("a") as file:
        file.write(f"{video}#enc#0 words\n")
    refused(config, lambda: open_captioned(root), "ids that lead out of a folder", video)


def test_exports_write_only_below_their_folder(made: Made, config: Config, tmp_path: Path) -> None:
    """Ids with folders make folders; an id of an older store that leads out is refused before anything is written."""
    made.features = {name.replace("v_d", "trips/beach"): rows for name, rows in made.features.items()}
    made.captions["val"] = [(cap.replace("v_d", "trips/beach"), text) for cap, text in made.captions["val"]]
    made.tokens = {cap.replace("v_d", "trips/beach"): rows for cap, rows in made.tokens.items()}
    with open_captioned(made.msc()) as bundle:
        import_bundle(bundle, config, config.layout, video="clip", text="clip")
    export_npz(config.layout, tmp_path / "out" / "npz", video=["clip"], text="clip")
    assert (tmp_path / "out" / "npz" / "text" / "qidtrips" / "beach#enc#0.npz").is_file()
    splits = {split: tmp_path / "out" / "npz" / f"{split}.jsonl" for split in ("train", "val")}
    with open_npz(splits, [tmp_path / "out" / "npz" / "clip"], tmp_path / "out" / "npz" / "text") as back:
        assert np.array_equal(back.videos["trips/beach"], made.features["trips/beach"])
        assert np.array_equal(back.texts["qidtrips/beach#enc#0"], made.tokens["trips/beach#enc#0"])
    for collection in ("../x", "a/b"):
        with pytest.raises(PrvrError, match="cannot be part of a file's name"):
            export_captioned(config.layout, tmp_path / "out" / "msc", video=["clip"], text="clip", collection=collection)
    _rename(config, "trips/beach", "../../ESCAPED")
    for export in (
        lambda target: export_npz(config.layout, target, video=["clip"], text="clip"),
        lambda target: export_captioned(config.layout, target, video=["clip"], text="clip", collection="tvr"),
        lambda target: export_captioned(config.layout, target, video=["clip"], text="clip", collection="tvr", kind="mssl"),
    ):
        with pytest.raises(PrvrError, match=r"lead out of the folder:\n  \.\./\.\./ESCAPED"):
            export(tmp_path / "out" / "again")
    assert not (tmp_path / "out" / "again").exists()
    assert not list(tmp_path.rglob("ESCAPED*"))


def _rename(config: Config, old: str, new: str) -> None:
    """The annotations as they would be, had an import let the id through."""
    from pipeline.datasets import table

    known = table.load(config.layout.annotations)
    videos = known.videos.replace({"video_id": {old: new}})
    queries = known.queries.replace({"video_id": {old: new}})
    table.save(config.layout.annotations, table.Annotations(videos, queries, known.moments), dataset="x", kind="bundle")
