"""Two stores of features side by side: the same videos, rows, times and directions? (`prvr features compare A B`)"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import StoreForeign, StoreMissing
from pipeline.core.store import Ragged, open_foreign, open_store
from pipeline.interchange.bundle import BigFile, as_rows, video_key
from pipeline.interchange.npz import NpzFolders

WORST = 5  # rows and videos listed by name
NPZ_KEYS = ("features", "last_hidden_state", "arr_0")


@dataclass
class Comparison:
    """What two stores have in common. `cosines` [R] of every row both hold (the shorter of the two decides), `places` its video and row."""

    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)
    rows: dict[str, tuple[int, int]] = field(default_factory=dict)
    dims: tuple[int, int] = (0, 0)
    times: dict[str, float] = field(default_factory=dict)
    cosines: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    norms: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    places: list[tuple[str, int]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for `--json`."""
        uneven = {video: list(pair) for video, pair in self.rows.items() if pair[0] != pair[1]}
        quantiles = np.quantile(self.cosines, [0, 0.01, 0.05, 0.5]).tolist() if len(self.cosines) else []
        worst = np.argsort(self.cosines)[:WORST]
        return {
            "videos": len(self.rows),
            "only_a": self.only_a,
            "only_b": self.only_b,
            "rows": [sum(a for a, _ in self.rows.values()), sum(b for _, b in self.rows.values())],
            "uneven": uneven,
            "dims": list(self.dims),
            "time_difference": max(self.times.values()) if self.times else None,
            "cosine": dict(zip(("min", "p1", "p5", "median"), quantiles, strict=False)) | {"mean": float(self.cosines.mean())}
            if quantiles
            else None,
            "norm_ratio": float(np.median(self.norms)) if len(self.norms) else None,
            "worst": [{"video": self.places[i][0], "row": self.places[i][1], "cosine": float(self.cosines[i])} for i in worst],
        }

    def __str__(self) -> str:
        measures = self.as_dict()
        lines = [
            f"videos      {measures['videos']} in both, {len(self.only_a)} only in A{_some(self.only_a)}, "
            f"{len(self.only_b)} only in B{_some(self.only_b)}",
            f"rows        {measures['rows'][0]} and {measures['rows'][1]}; {len(measures['uneven'])} videos differ"
            + _some([f"{video} {a}/{b}" for video, (a, b) in measures["uneven"].items()]),
            f"dimensions  {self.dims[0]} and {self.dims[1]}",
            "times       " + (f"differ by at most {measures['time_difference']:.3f} s" if self.times else "not stored on both sides"),
        ]
        if measures["cosine"]:
            lines.append("cosine      " + ", ".join(f"{name} {value:.5f}" for name, value in measures["cosine"].items()))
            lines.append(f"norm B/A    median {measures['norm_ratio']:.4f}")
            lines.append("worst rows  " + ", ".join(f"{w['video']}[{w['row']}] {w['cosine']:.4f}" for w in measures["worst"]))
        else:
            lines.append("cosine      not defined: the dimensions differ" if self.rows else "cosine      nothing in common")
        return "\n".join(lines)


def _some(names: list[str]) -> str:
    return f" ({', '.join(names[:WORST])}{', ...' if len(names) > WORST else ''})" if names else ""


class _Shards(Mapping[str, np.ndarray]):
    """The videos of one or several feature files of prvr, with their times."""

    def __init__(self, parts: list[Ragged]) -> None:
        self._where = {video: part for part in parts for video in part.ids}

    def __getitem__(self, video: str) -> np.ndarray:
        return self._where[video][video]

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def times(self, video: str) -> np.ndarray:
        """Shapes: -> [N, 2] seconds."""
        part = self._where[video]
        return np.stack([part.columns[name][part.rows(video)] for name in ("start", "end")], axis=1)


@contextmanager
def open_side(path: Path) -> Iterator[Any]:
    """Rows by video id from: a features file or folder of prvr, a published HDF5, a folder of npz files, or an MS-SL big file.

    Errors: StoreMissing, StoreDamaged, StoreSchema, BundleError.
    """
    with ExitStack() as stack:
        if path.is_dir() and (path / "feature.bin").exists():
            yield BigFile(path)
        elif path.is_dir() and not list(path.glob("*.h5")) and list(path.rglob("*.npz")):
            yield NpzFolders([path], NPZ_KEYS)
        else:
            files = sorted(path.glob("*.h5")) if path.is_dir() else [path]
            if not files:
                raise StoreMissing(
                    "no features here: neither .h5, .npz nor feature.bin", where=path, fix="give features/<encoder> or one of its files"
                )
            try:
                stores = [stack.enter_context(open_store(file, stage="features")) for file in files]
            except StoreForeign:
                yield stack.enter_context(open_foreign(files[0]))
            else:
                yield _Shards([store.ragged("features", lazy=True) for store in stores if "features" in store])


def compare(a: Path, b: Path) -> Comparison:
    """Compare every video both stores hold, row by row. Shapes: per video [N, D] of A with [M, D] of B, over the first min(N, M) rows."""
    comparison, cosines, norms = Comparison(), [], []
    with open_side(a) as left, open_side(b) as right:
        pairs = {video: key for video in left if (key := video_key(video, right))}
        comparison.only_a = sorted(set(left) - set(pairs))
        comparison.only_b = sorted(set(right) - set(pairs.values()))
        for video, key in sorted(pairs.items()):
            one, other = as_rows(left[video]).astype(np.float32), as_rows(right[key]).astype(np.float32)
            comparison.rows[video], comparison.dims = (len(one), len(other)), (one.shape[1], other.shape[1])
            rows = min(len(one), len(other))
            if isinstance(left, _Shards) and isinstance(right, _Shards):
                comparison.times[video] = float(np.abs(left.times(video)[:rows] - right.times(key)[:rows]).max(initial=0.0))
            if one.shape[1] == other.shape[1]:
                cosine, ratio = _directions(one[:rows], other[:rows])
                cosines.append(cosine)
                norms.append(ratio)
                comparison.places += [(video, row) for row in range(rows)]
    if cosines:
        comparison.cosines, comparison.norms = np.concatenate(cosines), np.concatenate(norms)
    return comparison


def _directions(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and norm ratio of paired rows; two zero rows agree, a zero and a non-zero one do not. Shapes: [R, D] twice -> [R], [R]."""
    a, b = np.linalg.norm(one, axis=1), np.linalg.norm(other, axis=1)
    both = (a == 0) & (b == 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(both, 1.0, np.nan_to_num((one * other).sum(1) / (a * b)))
        ratio = np.where(a == 0, np.where(both, 1.0, np.inf), b / a)
    return cosine.astype(np.float32), ratio.astype(np.float32)


def plot(comparison: Comparison, path: Path, names: tuple[str, str] = ("A", "B")) -> Path:
    """Draw the distribution of 1 - cosine over rows, the worst row of each video, and the videos' numbers of rows; returns `path`."""
    from pipeline.core.figures import figure, save  # half a second, for those who want a picture

    distance = np.maximum(1 - comparison.cosines, 1e-8)
    worst: dict[str, float] = {}
    for (video, _), value in zip(comparison.places, distance, strict=True):
        worst[video] = max(worst.get(video, 0.0), float(value))
    drawn = figure(12, 3.8)
    left, middle, right = drawn.subplots(1, 3)
    drawn.suptitle(f"A  {names[0]}\nB  {names[1]}", fontsize=9, x=0.01, ha="left")
    if len(distance):
        left.hist(distance, bins=np.geomspace(distance.min() * 0.9, distance.max() * 1.1, 60).tolist(), color="#4477aa")
        left.axvline(float(np.median(distance)), color="#222222", linewidth=1, label=f"median {np.median(distance):.2g}")
        left.legend(frameon=False, fontsize=8)
        middle.plot(sorted(worst.values()), ".", color="#ee6677", markersize=3)
        left.set(xscale="log", title=f"{len(distance)} rows of {len(worst)} videos")
        middle.set(yscale="log")
    else:
        left.set(
            title="no rows to compare" if not comparison.rows else f"{comparison.dims[0]} and {comparison.dims[1]} dimensions: no cosine"
        )
    left.set(xlabel="1 - cosine", ylabel="rows")
    middle.set(xlabel="videos, sorted", ylabel="1 - cosine of the worst row")
    if comparison.rows:
        counts = np.asarray(list(comparison.rows.values()))
        right.plot([0, counts.max()], [0, counts.max()], color="#bbbbbb", linewidth=1)
        right.plot(counts[:, 0], counts[:, 1], ".", color="#228833", markersize=4)
        right.set(title=f"{int((counts[:, 0] != counts[:, 1]).sum())} videos of another length")
    right.set(xlabel="rows in A", ylabel="rows in B")
    save(drawn, path)
    return path
