"""How long Snakemake needs to plan a large collection, by shard size: stand-in video files, the real Snakefile, a dry run.

    python benchmarks/dag.py --videos 20000 --shard-sizes 50 100 200

Prints, per shard size: jobs, processor seconds and memory of a fresh dry run. A file stands for a video (its name and a few
bytes), so everything but decoding is as in a real run. The floor is one stat per video and one JSON line per job.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def world(folder: Path, videos: int) -> None:
    """`videos` stand-in files in folders of a thousand, and one query for each."""
    lines = ["video_id,query,split"]
    for i in range(videos):
        video_id = f"{i // 1000:03d}/video{i:06d}"
        path = folder / "videos" / f"{video_id}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video_id.encode())
        lines.append(f"{video_id},somebody does thing {i},{'train' if i % 5 else 'test'}")
    (folder / "queries.csv").write_text("\n".join(lines) + "\n")


def configuration(shard_size: int) -> dict:
    return {
        "dataset": {"name": f"shards{shard_size}", "kind": "own", "videos": "videos", "annotations": "queries.csv"},
        "video": {"shard_size": shard_size},
        "encoders": {
            "clip-b16": {"kind": "open_clip"},
            "clip-l14": {"kind": "open_clip", "architecture": "ViT-L-14-quickgelu"},
            "slowfast-r50": {"kind": "slowfast"},
        },
        "features": ["clip-b16", "clip-l14", "slowfast-r50"],
        "text": "clip-l14",
    }


def dry_run(folder: Path, shard_size: int) -> tuple[int, float, float, float]:
    """Jobs, processor seconds, wall seconds and peak MB of one dry run."""
    config = folder / f"shards{shard_size}.yaml"
    config.write_text(yaml.safe_dump(configuration(shard_size)))
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(config)]
    command = [*snakemake, "--dry-run", "--quiet", "rules"]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    timed = ["/usr/bin/env", "time", "-f", "%M %e", *command] if Path("/usr/bin/time").exists() else command
    done = subprocess.run(
        [*timed, "--cores", "2", "--workflow-profile", str(ROOT / "profiles" / "default")],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    output = done.stdout + done.stderr
    if done.returncode:
        raise SystemExit(output[-3000:])
    jobs = re.search(r"^total\s+(\d+)", output, flags=re.M)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return int(jobs.group(1)) if jobs else 0, seconds, after.ru_maxrss / 1024, after.ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--shard-sizes", type=int, nargs="+", default=[50, 100, 200])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world(folder, arguments.videos)
        print(f"{arguments.videos} videos\n{'shard size':>10} {'jobs':>7} {'CPU s':>7} {'CPU s again':>12} {'peak MB':>8}")
        for size in arguments.shard_sizes:
            jobs, seconds, memory, _ = dry_run(folder, size)
            _, again, _, _ = dry_run(folder, size)
            print(f"{size:10} {jobs:7} {seconds:7.1f} {again:12.1f} {memory:8.0f}")


if __name__ == "__main__":
    main()
