"""Every file of a folder through the whole workflow in one go, good and broken: the table decoder x verdict.

    python -m benchmarks.videos [--videos ../shared/videos] [--cores 2] [--decoder decord]

Writes a queries.csv with one sentence a file and a configuration with two of the demo's encoders and a tiny model, runs `snakemake`
on it, and prints which decoder read how many files, what became of them, and the time and memory of the longest decode job.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from pipeline.datasets.folder import scan

ROOT = Path(__file__).resolve().parents[1]
ENCODERS = ("demo-clip-b16", "demo-slowfast")
SPLITS = ("train", "train", "val", "test")


def prepare(videos: Path, to: Path, **video: Any) -> dict[str, Any]:
    """Write `to`/queries.csv, one sentence for every video file below `videos`; returns the configuration to run it with."""
    to.mkdir(parents=True, exist_ok=True)
    with (to / "queries.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "query", "split"])
        for number, found in enumerate(scan(videos)):
            name = os.path.relpath(found.path, videos)
            writer.writerow([name, f"what {found.stem.replace('_', ' ')} shows", SPLITS[number % len(SPLITS)]])
    demo = yaml.safe_load((ROOT / "config.yaml").read_text())
    encoders = {name: demo["encoders"][name] for name in ENCODERS}
    for encoder in encoders.values():
        encoder["weights"] = str(ROOT / encoder["weights"])
    return {
        "results": str(to / "results"),
        "dataset": {"name": "videos", "kind": "own", "videos": str(videos.resolve()), "annotations": str(to / "queries.csv")},
        "video": {"shard_size": 96, "max_bad_fraction": 0.2, **video},
        "encoders": encoders,
        "features": list(ENCODERS),
        "text": ENCODERS[0],
        "model": {"hidden": 32, "heads": 4, "widths": [None, 1.0], "max_words": 32},
        "training": {"epochs": 2, "batch_videos": 16, "learning_rate": 1.0e-3, "warmup": 0.1},
        "evaluation": {"split": "test"},
        "experiments": {"main": {}},
        "seeds": [9527],
        "runtime": {"threads": 1},
    }


def verdicts(results: Path) -> dict[str, tuple[str, str]]:
    """video id -> (decoder or "none", quarantine code or "right"), as the shards' manifests say."""
    found = {}
    for path in sorted((results / "frames").glob("*.json")):
        manifest = json.loads(path.read_text())
        found |= {name: (about["decoder"], "right") for name, about in manifest["videos"].items()}
        found |= {entry["id"]: (entry["decoder"] or "none", entry["code"]) for entry in manifest["quarantine"]}
    return found


def table(found: dict[str, tuple[str, str]]) -> str:
    """Markdown: a row per verdict, a column per decoder."""
    counts, decoders = Counter(found.values()), sorted({decoder for decoder, _ in found.values()})
    codes = sorted({code for _, code in found.values()}, key=lambda code: (code != "right", code))
    lines = ["| verdict | " + " | ".join(decoders) + " | all |", "| --- |" + " ---: |" * (len(decoders) + 1)]
    for code in codes:
        row = [counts[decoder, code] for decoder in decoders]
        lines.append(f"| {'frames stored' if code == 'right' else code} | " + " | ".join(str(n or "") for n in [*row, sum(row)]) + " |")
    whole = [sum(counts[decoder, code] for code in codes) for decoder in decoders]
    return "\n".join([*lines, "| all | " + " | ".join(map(str, [*whole, sum(whole)])) + " |"])


def largest(results: Path) -> str:
    """The longest and the largest decode job, by Snakemake's benchmark files."""
    rows = []
    for path in sorted((results / "benchmarks" / "frames").glob("*.tsv")):
        with path.open() as file:
            rows += list(csv.DictReader(file, delimiter="\t"))
    return f"longest decode job {max(float(r['s']) for r in rows):.0f} s, largest {max(float(r['max_rss']) for r in rows):.0f} MB resident"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, default=Path("../shared/videos"), help="folder with the files")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--decoder", choices=["decord", "pyav"], default="decord")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        config = prepare(arguments.videos, work, decoder=arguments.decoder)
        (work / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", "config.yaml"]
        command += ["--workflow-profile", str(ROOT / "profiles" / "default"), "--cores", str(arguments.cores), "--quiet"]
        started = time.monotonic()
        done = subprocess.run(command, cwd=work, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - started
        results = work / "results" / "videos"
        metrics = json.loads((results / "runs" / "main" / "seed9527" / "metrics.json").read_text())
        found = verdicts(results)
        print(f"snakemake: exit {done.returncode}, {len(found)} files, {seconds:.0f} s on {arguments.cores} cores; {largest(results)}\n")
        print(table(found))
        excluded = metrics["excluded"]
        print(f"\nleft out of the test measures: {len(excluded['videos'])} videos, {len(excluded['queries'])} queries")


if __name__ == "__main__":
    main()
