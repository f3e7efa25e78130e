"""Flip one bit at a time in copies of every kind of store, and read all there is: noticed, harmless (the same is read), or silent.

    python benchmarks/flips.py results/demo --flips 1000

The folder holds a finished run; frames are there with `video.keep_frames`. Half of the flips fall anywhere in a file, half into values.
Each file is read in a process of its own, so a crash is counted too. Exits with 1 when a flip was silent or crashed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import tempfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np

from pipeline.core.errors import StoreError
from pipeline.core.store import open_store

PATIENCE = 30  # seconds a file may take


def everything(path: Path) -> str:
    """A digest of all that can be read of a file, item by item too; or the code of the error it ends in."""
    try:
        with open_store(path) as store:
            read = hashlib.sha256(repr(sorted(store.attrs.items())).encode())
            for name in store.names():
                values = store.array(name)
                read.update(repr((name, values.dtype, values.shape)).encode())
                read.update(repr(values.tolist()).encode() if values.dtype == object else np.ascontiguousarray(values).tobytes())
                if name.endswith("/offsets"):
                    data = store.ragged(name.removesuffix("/offsets"), lazy=True)
                    for item in data.ids:
                        read.update(data[item].tobytes())
            return read.hexdigest()
    except StoreError as error:
        return error.code


def apart(path: Path) -> str:
    """The same in another process; "crash" or "hang" when it does not survive."""
    out, into = os.pipe()
    if (child := os.fork()) == 0:
        signal.alarm(PATIENCE)  # ends it even inside the library
        try:
            os.write(into, everything(path).encode())
        except BaseException as error:  # an error without a type is as bad as a crash
            os.write(into, f"untyped {type(error).__name__}".encode())
        os._exit(0)
    os.close(into)
    with os.fdopen(out) as said:
        text = said.read()
    _, status = os.waitpid(child, 0)
    return text or ("hang" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM else "crash")


def values(path: Path) -> list[tuple[int, int]]:
    """Where the values of a file lie: (first byte, end) of each stored run of them."""
    runs: list[tuple[int, int]] = []

    def visit(_: str, node: h5py.Dataset | h5py.Group) -> None:
        if not isinstance(node, h5py.Dataset):
            return
        if node.chunks is None:
            runs.append((node.id.get_offset() or 0, (node.id.get_offset() or 0) + node.id.get_storage_size()))
            return
        row = node.dtype.itemsize * int(np.prod(node.shape[1:]))
        for i in range(node.id.get_num_chunks()):
            chunk = node.id.get_chunk_info(i)
            used = min(node.chunks[0], node.shape[0] - chunk.chunk_offset[0]) * row
            runs.append((chunk.byte_offset, chunk.byte_offset + used))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return [run for run in runs if run[0] < run[1]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--flips", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chosen = random.Random(options.seed)
    kinds: dict[str, list[Path]] = {}
    for path in sorted(options.results.rglob("*.h5")):
        place = path.relative_to(options.results).parts
        if not any(part.startswith(".") for part in place):
            kinds.setdefault(path.stem if place[0] in ("runs", path.name) else place[0], []).append(path)
    before: dict[Path, str] = {}
    runs: dict[Path, list[tuple[int, int]]] = {}
    counts: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(options.flips):
            kind = list(kinds)[i % len(kinds)]
            path = chosen.choice(kinds[kind])
            content = bytearray(path.read_bytes())
            if path not in before:
                before[path], runs[path] = everything(path), values(path)
            if (i // len(kinds)) % 2:
                start, end = chosen.choices(runs[path], [end - start for start, end in runs[path]])[0]
                place = chosen.randrange(start, end)
            else:
                place = chosen.randrange(len(content))
            content[place] ^= 1 << chosen.randrange(8)
            copy = Path(folder) / path.name
            copy.write_bytes(content)
            after = apart(copy)
            result = "harmless" if after == before[path] else "noticed" if after.startswith("STORE") else after[:40]
            result = "SILENT" if len(after) == 64 and result != "harmless" else result
            counts[kind][result] += 1
            if result not in ("harmless", "noticed"):
                print(f"{path}: byte {place}: {result}")
    for kind, count in {**counts, "all": sum(counts.values(), Counter())}.items():
        print(f"{kind:12} {count.total():5} flips: {', '.join(f'{n} {what}' for what, n in sorted(count.items()))}")
    raise SystemExit(int(any(set(count) - {"harmless", "noticed"} for count in counts.values())))


if __name__ == "__main__":
    main()
