"""How long Snakemake needs to plan a large collection, by shard size: stand-in video files, the real Snakefile, dry runs.

    python benchmarks/dag.py --videos 20000 --shard-sizes 50 64 100 200 --out benchmarks/results/dag.md

Per shard size: jobs; processor seconds and peak memory of a fresh dry run and of one after everything is done (stand-in results that
Snakemake was told to believe); processor seconds a job of a shard spends without its work, and those of the first look at every
file. A file stands for a video (its name and a few bytes), so everything but decoding is as in a real run. The floor is Snakemake itself
with an empty rule, and one stat per video.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from pipeline.config.reading import load
from pipeline.jobs.dag import Dag
from pipeline.jobs.products import product
from pipeline.jobs.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent
BEGIN = """
import sys
from pipeline.config.reading import load
from pipeline.jobs.dag import Dag
from pipeline.jobs.upkeep import move_to_shards
dag = Dag.of(load(sys.argv[1]))
dag.save_listing()
move_to_shards(dag)
"""
JOB = """
import sys
from pipeline.config.reading import load
from pipeline.jobs.dag import Dag
dag = Dag.of(load(sys.argv[1]), started=True)
shard = dag.shard_names[0]
dag.check_division()
dag.sources(shard)
dag.trace("features", encoder=dag.video_encoders[0], shard=shard)
"""


def world(folder: Path, videos: int) -> None:
    """`videos` stand-in files in folders of a thousand, and one query for each."""
    lines = ["video_id,query,split"]
    for i in range(videos):
        video_id = f"{i // 1000:03d}/video{i:06d}"
        path = folder / "videos" / f"{video_id}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(video_id.encode())
        lines.append(f"{video_id},somebody does thing {i},{('train', 'train', 'train', 'val', 'test')[i % 5]}")
    (folder / "queries.csv").write_text("\n".join(lines) + "\n")
    (folder / "weights").write_bytes(b"stand-in")


def configuration(shard_size: int | str) -> dict:
    """Three encoders, one experiment."""
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


def measured(command: list[str], folder: Path) -> tuple[float, float, str]:
    """Processor seconds, peak MB and output of one process with its children."""
    with tempfile.TemporaryFile("w+") as output:
        child = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)})
        _, status, used = os.wait4(child.pid, 0)
        output.seek(0)
        said = output.read()
    if status:
        raise SystemExit(said[-3000:])
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said


def snakemake(config: Path, *args: str) -> list[str]:
    profile = ROOT / "profiles" / "default"
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(config), *args]
    return [*command, "--cores", "2", "--workflow-profile", str(profile)]


def pretend(folder: Path, config: Path) -> None:
    """Stand-in results of every job, which Snakemake is told to believe."""
    back = Path.cwd()
    os.chdir(folder)
    try:
        dag = Dag.of(load(str(config)))
        for stage in STAGES.values():
            for of in [] if stage.temporary else stage.jobs(dag):
                made = product(dag, stage.name, **of)
                for path in made.files:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text("{}")
                made.finish(dag)
    finally:
        os.chdir(back)
    measured(snakemake(config, "--touch", "--quiet", "all"), folder)


def floor(folder: Path, videos: int) -> tuple[float, float]:
    """Processor seconds of Snakemake with one empty rule, and of one stat per video."""
    (folder / "empty.smk").write_text("rule all:\n    shell: 'true'\n")
    nothing, _, _ = measured([sys.executable, "-m", "snakemake", "--snakefile", "empty.smk", "--dry-run", "--cores", "1"], folder)
    began = time.process_time()
    for path in (folder / "videos").rglob("*.mp4"):
        path.stat()
    return nothing, time.process_time() - began


def row(folder: Path, shard_size: int | str, again: bool) -> str:
    """One line of the table."""
    config = folder / f"shards{shard_size}.yaml"
    config.write_text(yaml.safe_dump(configuration(shard_size)))
    first, _, _ = measured([sys.executable, "-c", BEGIN, str(config)], folder)
    fresh, memory, said = measured(snakemake(config, "--dry-run", "--quiet", "rules"), folder)
    jobs = int(re.search(r"^total\s+(\d+)", said, flags=re.M)[1])  # type: ignore[index]
    before, _, _ = measured([sys.executable, "-c", JOB, str(config)], folder)
    done = done_memory = float("nan")
    if again:
        pretend(folder, config)
        done, done_memory, said = measured(snakemake(config, "--dry-run"), folder)
        assert "Nothing to be done" in said, said[-2000:]
    cells = [shard_size, f"{jobs:,}", f"{fresh:.1f}", f"{memory:.0f}", f"{done:.1f}", f"{done_memory:.0f}", f"{before:.1f}", f"{first:.1f}"]
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=20_000)
    parser.add_argument("--shard-sizes", type=lambda size: size if size == "auto" else int(size), nargs="+", default=[50, 64, 100, 200])
    parser.add_argument("--fresh-only", action="store_true", help="leave out the check after no change")
    parser.add_argument("--out", type=Path, help="append the table to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        world(folder, arguments.videos)
        nothing, stats = floor(folder, arguments.videos)
        lines = [
            f"{arguments.videos:,} videos. Floor: Snakemake with one empty rule {nothing:.1f} s, a stat of every video {stats:.1f} s.",
            "",
            "| shard size | jobs | fresh dry run, s | MB | nothing to do, s | MB | a job before its work, s | first look at the files, s |",
            "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        print("\n".join(lines), flush=True)
        for size in arguments.shard_sizes:
            lines.append(row(folder, size, not arguments.fresh_only))
            print(lines[-1], flush=True)
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        with arguments.out.open("a") as file:
            file.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
