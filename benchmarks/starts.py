"""What a job of a shard takes without its work, by the size of the collection: nothing but its shard's stand-in files is made.

    python benchmarks/starts.py --videos 1 20000 200000 1000000 --out benchmarks/results/dag.md

The list of videos is written as a run saves it, the cache of fingerprints as a look at every file leaves it. Then a job reads the
configuration and its videos, looks at their files and names what it was made by: processor seconds of the process, and of those the ones
after its imports, each the least of three; and its peak memory.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from pipeline.config.reading import load
from pipeline.core.atomic import write_json
from pipeline.core.provenance import FileCache, content
from pipeline.core.shards import assign
from pipeline.core.source import Source
from pipeline.jobs import saved
from pipeline.jobs.dag import Dag

ROOT = Path(__file__).resolve().parent.parent
SHARD_SIZE = 100
JOB = """
import sys, time
from pipeline.config.reading import load
from pipeline.jobs.dag import Dag
began = time.process_time()
dag, shard = Dag.of(load("config.yaml"), started=True), sys.argv[1]
dag.check_division()
dag.sources(shard)
dag.trace("features", encoder="clip", shard=shard)
print(time.process_time() - began)
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""
CONFIG = {
    "dataset": {"name": "many", "kind": "own", "videos": "videos", "annotations": "queries.csv"},
    "video": {"shard_size": SHARD_SIZE},
    "encoders": {"clip": {"kind": "open_clip"}},
    "features": ["clip"],
    "text": "clip",
}


def collection(videos: int) -> tuple[Dag, dict[str, list[Source]]]:
    """`videos` stand-ins in the working folder, divided into shards; the files of the first shard that has any are there."""
    Path("config.yaml").write_text(yaml.safe_dump(CONFIG))
    ids = [f"{i // 1000:03d}/video{i:06d}" for i in range(videos)]
    prints = {i: hashlib.sha256(f"{len(i)}{i}".encode()).hexdigest()[:16] for i in ids}
    divided = assign(ids, SHARD_SIZE, prints)
    shards = {name: [Source(i, (f"videos/{i}.mp4",), prints[i], None) for i in members] for name, members in divided.items()}
    for source in next(filter(None, shards.values())):
        path = Path(source.paths[0])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.video_id.encode())
    return Dag.of(load("config.yaml")), shards


def begin(dag: Dag, shards: dict[str, list[Source]]) -> str:
    """What a run leaves before its first job; the shard whose files are there."""
    cache, known = FileCache(None), {}
    for source in (source for sources in shards.values() for source in sources):
        path = source.paths[0]
        if os.path.exists(path):
            assert cache.get(path, content) == source.fingerprint
        state = map(int, cache.seen(path).split()) if os.path.exists(path) else (15, 1795693166559926284, 1795693166559926284, 3164245)
        known[f"content:{path}"] = [*state, source.fingerprint]
    write_json(dag.layout.fingerprints, known)
    division = {"shards": len(shards), "hashed": len(shards), "by": "content", "size": SHARD_SIZE}
    write_json(dag.layout.shards, division)
    queries = {"train": sum(map(len, shards.values()))}
    saved.save(dag.layout.listing, queries, division, shards, FileCache(dag.layout.fingerprints))
    return next(name for name, sources in shards.items() if sources)


def job(shard: str) -> tuple[float, float, float]:
    """Processor seconds of one job, those after its imports, and its peak MB."""
    child = subprocess.Popen(
        [sys.executable, "-c", JOB, shard], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert child.stdout is not None
    said = child.stdout.read().split()
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit("the job failed")
    # Not ru_maxrss: until it is another program, a child is as large as its parent.
    return used.ru_utime + used.ru_stime, float(said[0]), float(said[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, nargs="+", default=[1, 20_000, 200_000, 1_000_000])
    parser.add_argument("--out", type=Path, help="append the table to this file")
    arguments = parser.parse_args()
    out = arguments.out and arguments.out.resolve()
    lines = ["| videos | shards | a job without its work, s | after its imports, s | MB |", "|" + " ---: |" * 5]
    print("\n".join(lines), flush=True)
    for videos in arguments.videos:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            dag, shards = collection(videos)
            shard = begin(dag, shards)
            whole, own, memory = (min(values) for values in zip(*(job(shard) for _ in range(3)), strict=True))
            lines.append(f"| {videos:,} | {len(shards):,} | {whole:.2f} | {own:.2f} | {memory:.0f} |")
            print(lines[-1], flush=True)
            os.chdir(ROOT)
    if out:
        with out.open("a") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
