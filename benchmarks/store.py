"""What the checksums of the store cost: its files beside plain HDF5 and beside HDF5's own Fletcher32, written and read in turns.

    python benchmarks/store.py [--rounds 5] [--folder /tmp]

Processor seconds, the least of the rounds; "ratio" is the store's time over plain HDF5's, of the same values in the same layout.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from pipeline.core.store import create, open_store
from pipeline.core.store.checksums import rows_per_piece

RNG = np.random.default_rng(0)
# What a stage writes: (rows of an item, items). 100 videos of a shard; rows of 768 values; a large split's captions.
KINDS = {
    "frames": (RNG.integers(0, 255, (60, 224, 224, 3), dtype=np.uint8), 20),
    "features": (RNG.standard_normal((60, 768)).astype(np.float16), 2000),
    "text": (RNG.standard_normal((16, 768)).astype(np.float16), 5000),
}


def plain_write(path: Path, values: np.ndarray, items: int, **how: bool) -> None:
    rows = rows_per_piece(values.shape, values.dtype)
    with h5py.File(path, "w") as file:
        shape, most, chunk = (0, *values.shape[1:]), (None, *values.shape[1:]), (rows, *values.shape[1:])
        data = file.create_dataset("values", shape, values.dtype, maxshape=most, chunks=chunk, track_times=False, **how)
        for i in range(items):
            data.resize((i + 1) * len(values), axis=0)
            data[i * len(values) :] = values


def plain_read(path: Path, values: np.ndarray, items: int) -> None:
    with h5py.File(path, "r") as file:
        data = file["values"]
        for i in range(items):
            data[i * len(values) : (i + 1) * len(values)]


def store_write(path: Path, values: np.ndarray, items: int) -> None:
    with create(path, stage="benchmark") as writer:
        for i in range(items):
            writer.append("values", f"v{i}", values)


def store_read(path: Path, values: np.ndarray, items: int) -> None:
    with open_store(path) as store:
        data = store.ragged("values", lazy=True)
        for item in data.ids:
            data[item]


def seconds(run: Callable[[], None]) -> float:
    started = time.process_time()  # of the processor: other work on the machine does not count
    run()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()
    print("kind      MB    what   plain s  Fletcher32 s  store s  ratio")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        places = [Path(folder) / f"{name}.h5" for name in ("plain", "fletcher", "store")]
        for kind, (values, items) in KINDS.items():
            ways: dict[str, list[Callable[[], None]]] = {
                "write": [
                    lambda v=values, n=items: plain_write(places[0], v, n),  # type: ignore[misc]
                    lambda v=values, n=items: plain_write(places[1], v, n, fletcher32=True),  # type: ignore[misc]
                    lambda v=values, n=items: store_write(places[2], v, n),  # type: ignore[misc]
                ],
                "read": [
                    lambda v=values, n=items: plain_read(places[0], v, n),  # type: ignore[misc]
                    lambda v=values, n=items: plain_read(places[1], v, n),  # type: ignore[misc]
                    lambda v=values, n=items: store_read(places[2], v, n),  # type: ignore[misc]
                ],
            }
            for what, runs in ways.items():
                plain, fletcher, ours = np.min([[seconds(run) for run in runs] for _ in range(options.rounds)], axis=0)
                size = values.nbytes * items / 1e6
                print(f"{kind:9} {size:4.0f}  {what:5}  {plain:7.3f}  {fletcher:12.3f}  {ours:7.3f}  {ours / plain:5.2f}")


if __name__ == "__main__":
    main()
