"""`prvr features compare`: against another store, a published HDF5, npz files, and with something wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.core.errors import StoreMissing
from pipeline.core.store import create, create_foreign
from pipeline.interchange.compare import compare, plot


def features(path: Path, rows: dict[str, np.ndarray], every: float = 2.0) -> Path:
    with create(path, stage="features") as writer:
        for video, values in rows.items():
            start = np.arange(len(values)) * every
            writer.append(
                "features", video, values.astype(np.float16), {"start": start, "end": start + every}, {"key": "k", "duration": 1.0}
            )
    return path


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {f"v{i}": generator.normal(size=(5 + i, 8)).astype(np.float32) for i in range(4)}


def test_equal_stores(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    """One file against two shards of a folder."""
    a = features(tmp_path / "a.h5", rows)
    features(tmp_path / "b" / "000.h5", dict(list(rows.items())[:2]))
    features(tmp_path / "b" / "001.h5", dict(list(rows.items())[2:]))
    found = compare(a, tmp_path / "b")
    assert found.as_dict()["videos"] == 4
    assert not found.only_a
    assert not found.only_b
    assert found.cosines.min() > 0.99999
    assert len(found.cosines) == 26
    assert max(found.times.values()) == 0
    assert "0 videos differ" in str(found)
    assert "differ by at most 0.000 s" in str(found)


def test_differences_are_named(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    a = features(tmp_path / "a.h5", rows)
    other = {**{k: v.copy() for k, v in rows.items()}, "extra": rows["v0"]}
    other["v1"][3] *= -2
    other["v2"] = other["v2"][:-1]
    del other["v3"]
    found = compare(a, features(tmp_path / "b.h5", other, every=2.1))
    values = found.as_dict()
    assert (values["only_a"], values["only_b"], values["uneven"]) == (["v3"], ["extra"], {"v2": [7, 6]})
    assert values["worst"][0] == {"video": "v1", "row": 3, "cosine": pytest.approx(-1, abs=1e-5)}
    assert values["time_difference"] == pytest.approx(0.1 * 6, abs=1e-6)
    assert "v1[3] -1.0000" in str(found)


@pytest.mark.parametrize("kind", ["hdf5", "npz"])
def test_published_bundles(kind: str, rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    a, b = features(tmp_path / "a.h5", rows), tmp_path / "bundle"
    if kind == "hdf5":
        b = b.with_suffix(".hdf5")
        with create_foreign(b) as put:
            for video, values in rows.items():
                put(f"v_{video}", values)
    else:
        b.mkdir()
        for video, values in rows.items():
            np.savez(b / f"{video}.npz", features=values)
    found = compare(a, b)
    assert len(found.rows) == 4
    assert found.cosines.min() > 0.99999
    assert "times       not stored on both sides" in str(found)


def test_other_dimensions_and_nothing_in_common(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    a = features(tmp_path / "a.h5", rows)
    assert "the dimensions differ" in str(compare(a, features(tmp_path / "b.h5", {k: v[:, :4] for k, v in rows.items()})))
    assert "nothing in common" in str(compare(a, features(tmp_path / "c.h5", {"x": rows["v0"]})))


def test_zero_rows(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    one, other = {"v": rows["v0"].copy()}, {"v": rows["v0"].copy()}
    one["v"][:2], other["v"][1] = 0, 0
    found = compare(features(tmp_path / "a.h5", one), features(tmp_path / "b.h5", other))
    np.testing.assert_allclose(found.cosines, [0, 1, 1, 1, 1], atol=1e-3)


def test_plot_is_drawn(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    a = features(tmp_path / "a.h5", rows)
    path = plot(compare(a, a), tmp_path / "plots" / "compare.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 5000
    other = features(tmp_path / "b.h5", {name: values[:-1, :4] for name, values in rows.items()})
    assert plot(compare(a, other), tmp_path / "dims.png").exists()
    assert plot(compare(a, features(tmp_path / "c.h5", {"x": rows["v0"]})), tmp_path / "none.png").exists()


def test_command_line(rows: dict[str, np.ndarray], tmp_path: Path) -> None:
    a = str(features(tmp_path / "a.h5", rows))
    done = CliRunner().invoke(app, ["features", "compare", a, a, "--json", "--plot", str(tmp_path / "a.png")])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert (found["videos"], found["rows"], found["uneven"]) == (4, [26, 26], {})
    assert found["cosine"]["min"] > 0.99999
    assert (tmp_path / "a.png").exists()
    assert "cosine      min 1.00000" in CliRunner().invoke(app, ["features", "compare", a, a]).stdout


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        compare(tmp_path / "none.h5", tmp_path / "none.h5")
    with pytest.raises(StoreMissing, match="no features here"):
        compare(tmp_path, tmp_path)
