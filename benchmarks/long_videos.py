"""Videos of hours through the whole workflow: every stage's seconds and peak memory, by the length of the longest video.

    python -m benchmarks.long_videos [--hours 0.2 3 10]

Two videos of so many hours are joined, without coding them again, from videos of the generated benchmark world-1, whose events and times
are known. One is learnt from, with every caption it has, beside eight short ones; the other is ranked and searched, beside a short one. A
tiny model is trained twice, with whole videos and with windows; captions of the second long video are asked of both models and of the
frozen encoder. One length a run of the workflow, so that a stage's figures are its own.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import av
import pandas as pd
import yaml

from pipeline.config.inputs import Demo
from pipeline.demo import render
from pipeline.demo.scenes import FPS, VideoSpec
from pipeline.demo.world import world

ROOT = Path(__file__).resolve().parents[1]
DEMO = Demo(world="world-1", seed=1, train=8, val=2, test=10)
EXPERIMENTS: dict[str, dict[str, Any]] = {"whole": {}, "windows": {"clips": {"window": 256.0}}}
Row = tuple[str, str, str, float, float]  # of queries.csv: a file, a caption, a split, and from when to when, in s
ASKED = 40  # captions of the long video that are asked, evenly spread over it


def join(parts: Sequence[Path], hours: float, to: Path) -> list[float]:
    """Copy the packets of the parts, over and over, into one video of at least that many hours; returns where each begins, in s."""
    to.parent.mkdir(parents=True, exist_ok=True)
    begins, now = [], 0  # frames
    with av.open(str(to), "w") as target:
        stream = None
        for part in itertools.cycle(parts):
            if now >= hours * 3600 * FPS:
                break
            begins.append(now / FPS)
            with av.open(str(part)) as source:
                video = source.streams.video[0]
                stream = stream or target.add_stream_from_template(video)
                a_frame = round(1 / (FPS * video.time_base))
                frames = 0
                for packet in source.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + now * a_frame, packet.dts + now * a_frame, stream
                    target.mux(packet)
                    frames += 1
                now += frames
    return begins


def lay_out(folder: Path, hours: float, rendered: Path) -> tuple[int, int]:
    """The videos of one run and queries.csv; returns how many captions of the long videos are learnt from and asked."""
    specs = world(DEMO)
    ranked, learnt = ([spec for spec in specs if spec.split == split] for split in ("test", "train"))
    told = _long(folder, "long.mp4", "test", ranked[1:], hours, rendered)
    asked = told[:: max(1, len(told) // ASKED)]
    learnt_from = _long(folder, "learnt.mp4", "train", learnt, hours, rendered)
    short = [*(spec for spec in specs if spec.split != "test"), ranked[0]]
    for spec in short:
        to = folder / "videos" / spec.file
        to.parent.mkdir(parents=True, exist_ok=True)
        to.hardlink_to(rendered / spec.file)
    rows = [*_rows(short), *learnt_from, *asked]
    with (folder / "queries.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "query", "split", "start", "end"), *rows])
    return len(learnt_from), len(asked)


def _long(folder: Path, name: str, split: str, parts: Sequence[VideoSpec], hours: float, rendered: Path) -> list[Row]:
    """A joined video, and the captions of its parts at the times they have in it."""
    begins = join([rendered / spec.file for spec in parts], hours, folder / "videos" / name)
    return [
        (name, query.query, split, begin + query.start, begin + query.end)
        for begin, spec in zip(begins, itertools.cycle(parts), strict=False)
        for query in spec.queries
    ]


def _rows(specs: Iterable[VideoSpec]) -> list[Row]:
    return [(spec.file, query.query, spec.split, query.start, query.end) for spec in specs for query in spec.queries]


def configuration() -> dict[str, Any]:
    """world-1's own, with a folder in the place of the world and two epochs."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config" / "world.yaml").read_text())
    for encoder in config["encoders"].values():
        encoder["weights"] = str(ROOT / encoder["weights"])
    del config["demo"], config["compare"]
    config |= {
        "dataset": {"name": "long", "kind": "own", "videos": "videos", "annotations": "queries.csv"},
        "experiments": EXPERIMENTS,
        "seeds": [1],
        "evaluation": {"split": "test"},
    }
    config["training"] |= {"epochs": 2, "batch_videos": 8}
    config["objectives"]["triplet"]["hard_start_epoch"] = 1
    return config


def run(folder: Path, *words: str) -> tuple[float, str]:
    """Seconds and standard output of a command of the project in the folder. Errors: CalledProcessError."""
    begun = time.monotonic()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return time.monotonic() - begun, done.stdout


def measured(hours: float, rendered: Path, folder: Path) -> dict[str, Any]:
    """A row of the table: seconds and peak memory of every stage, disk, ranks of the long video's own captions, and one search."""
    learnt, asked = lay_out(folder, hours, rendered)
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration(), sort_keys=False))
    profile = str(ROOT / "profiles" / "default")
    common = ["--configfile", "config.yaml", "--workflow-profile", profile, "--cores", "1", "--quiet", "all"]
    run(folder, "snakemake", "--snakefile", str(ROOT / "Snakefile"), *common)
    results = folder / "results" / "long"
    found: dict[str, Any] = {"hours": hours, "captions learnt from": learnt, "captions asked": asked}
    for stage in ("frames", "features"):
        found |= _cost(stage, list((results / "benchmarks" / stage).rglob("*.tsv")))
    found["features, MB on disk"] = sum(path.stat().st_size for path in (results / "features").rglob("*.h5")) / 1e6
    for name in EXPERIMENTS:
        merged = [
            path for path in (results / "benchmarks" / "clips").rglob("*.tsv") if ("window" in str(path.parent)) == (name == "windows")
        ]
        found |= _cost(f"clips, {name}", merged)
        for stage in ("train", "evaluate"):
            found |= _cost(f"{stage}, {name}", [path for path in (results / "benchmarks" / stage).rglob("*.tsv") if name in str(path)])
        metrics = json.loads((results / "runs" / name / "seed1" / "metrics.json").read_text())
        found[f"best row in the moment, {name}, %"] = metrics["moments"]["frame"]["inside"]
    found |= searched(folder, hours)
    return found


def _cost(what: str, files: Sequence[Path]) -> dict[str, float]:
    """Processor seconds of some jobs together, and the memory of the largest."""
    jobs = pd.concat([pd.read_csv(path, sep="\t") for path in files])
    return {f"{what}, s": jobs["cpu_time"].sum(), f"{what}, MB": jobs["max_rss"].max()}


def searched(folder: Path, hours: float) -> dict[str, Any]:
    """A caption from the middle of the long video, asked of the trained models and of the frozen encoder: seconds, and how far off."""
    with (folder / "queries.csv").open(encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["path"] == "long.mp4" and float(row["start"]) >= hours * 1800)
    found: dict[str, Any] = {}
    for model, flags in (*((name, ("--experiment", name)) for name in EXPERIMENTS), ("frozen", ("--zero-shot",))):
        words = ("pipeline.cli", "search", row["query"], "--json", "-k", "100", *flags)
        run(folder, *words)  # the first one prepares what the others use
        seconds, said = run(folder, *words)
        hits = json.loads(said)["hits"]
        ((rank, hit),) = [(rank, hit) for rank, hit in enumerate(hits, 1) if hit["video_id"] == "long"]
        spans = [(moment["start"], moment["end"]) for moment in hit["moments"]]
        found[f"search, {model}, s"] = seconds
        found[f"rank by {model}, of {len(hits)}"] = rank
        found[f"moment of {model}, s off"] = min(max(0.0, begin - float(row["end"]), float(row["start"]) - end) for begin, end in spans)
    return found


def main() -> None:
    """Print the table, a length a column."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, nargs="+", default=[0.2, 3.0, 10.0])
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        rendered = Path(temporary) / "rendered"
        for spec in world(DEMO):
            (rendered / spec.file).parent.mkdir(parents=True, exist_ok=True)
            render.video(spec, rendered / spec.file)
        for hours in arguments.hours:
            folder = Path(temporary) / f"{hours:g}"
            folder.mkdir()
            rows.append(measured(hours, rendered, folder))
            print(rows[-1], file=sys.stderr, flush=True)  # the next one may take an hour
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; processor seconds of a stage's jobs together, MB of its largest\n")
    print(pd.DataFrame(rows).set_index("hours").T.to_markdown(floatfmt=".1f"))


if __name__ == "__main__":
    main()
