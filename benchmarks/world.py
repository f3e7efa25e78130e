"""world-1: how hard it is, and what the paper claims, measured against the truth the generator knows (docs/world.md).

python -m benchmarks.world --configfile config/world.yaml [--experiments msc tcpl ...] [--seeds 1]     # after a run
python -m benchmarks.world --configfile config/world.yaml --statistics                      # needs no run
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from statistics import mean, median
from typing import Any

import numpy as np

import prvr
from benchmarks.world_claims import by_threshold, claims, measured, table
from pipeline.config.schema import Config
from pipeline.demo.world import SPLITS, relevant, world
from pipeline.ranking.cutoffs import CUTOFFS


def statistics(config: Config) -> list[str]:
    """A column per split: videos, hours, rows, events, moments, positives, words shared with training."""
    answers = relevant(config.demo)
    told = {query.query for video in world(config.demo) if video.split == "train" for query in video.queries}
    columns = []
    for split in SPLITS:
        videos = [video for video in world(config.demo) if video.split == split]
        queries = [(video, query) for video in videos for query in video.queries]
        positives = [len(answers[query.query_id]) for _, query in queries]
        shares = np.percentile([100 * (query.end - query.start) / video.duration for video, query in queries], [0, 50, 100])
        columns.append(
            [
                f"{len(videos)}",
                f"{sum(video.duration for video in videos) / 3600:.1f}",
                f"{min(int(video.duration) for video in videos)} to {max(int(video.duration) for video in videos)}",
                f"{len(queries)}",
                f"{min(len(video.queries) for video in videos)} to {max(len(video.queries) for video in videos)}",
                f"{mean(len(set(scene.ground for scene in video.scenes)) for video in videos):.1f}",
                f"{mean(sum(1 for _ in groupby(scene.ground for scene in video.scenes)) for video in videos):.1f}",
                " / ".join(f"{share:.1f}" for share in shares),
                f"{mean(positives):.2f}, {median(positives):g}",
                f"{100 * mean(count > 1 for count in positives):.0f}",
                f"{mean(len(query.query.split()) for _, query in queries):.1f}",
                f"{100 * mean(query.query in told for _, query in queries):.1f}" if split != "train" else "",
            ]
        )
    names = (
        "videos",
        "hours",
        "rows of a video (1 s)",
        "queries",
        "events of a video with a caption",
        "contexts of a video",
        "visits to them",
        "moment of its video, % (least, median, most)",
        "videos that answer a query (mean, median)",
        "queries that several answer, %",
        "words of a caption",
        "captions that also stand in train, %",
    )
    rows = [[name, *values] for name, *values in zip(names, *columns, strict=True)]
    return table(["", *SPLITS], rows)


def oracle(config: Config, split: str) -> dict[str, float]:
    """The recalls, %, of whoever knows every event: all videos that answer come first, in an order that knows nothing more."""
    answers = relevant(config.demo)
    counts = np.array([len(answers[query.query_id]) for video in world(config.demo) if video.split == split for query in video.queries])
    found = {f"R@{k}": 100 * float(np.mean(np.minimum(k, np.maximum(counts, 1)) / np.maximum(counts, 1))) for k in CUTOFFS}
    return {**found, "SumR": sum(found.values())}


def difficulty(config: Config, runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    """Chance, zero-shot, every experiment (the measures of its seeds), and the oracle; how much of the way from chance to it each goes."""
    ceiling = oracle(config, config.evaluation.split)
    first = next(iter(runs.values()))[0]
    rows: list[tuple[str, Mapping[str, float]]] = [("chance", first["chance"])]
    rows += [("zero-shot max-sim", first["recalls"]["zero_shot"])] if "zero_shot" in first["recalls"] else []
    for experiment, seeds in runs.items():
        rows.append((experiment, {name: mean(run["recalls"]["fused"][name] for run in seeds) for name in ceiling}))
    rows.append(("oracle", ceiling))
    span = ceiling["SumR"] - rows[0][1]["SumR"]
    return table(
        ["", *ceiling, "of the way to the oracle"],
        [
            [name, *(f"{values[key]:.1f}" for key in ceiling), f"{100 * (values['SumR'] - rows[0][1]['SumR']) / span:.0f} %"]
            for name, values in rows
        ],
    )


def evaluated(config: Config, seeds: Sequence[int]) -> list[str]:
    """The experiments of which these seeds were evaluated, those that `compare` names first. Errors: SystemExit when there is none."""
    names = [name for name in {**config.compared, **config.models} if all(config.layout.metrics(name, seed).exists() for seed in seeds)]
    if not names:
        raise SystemExit(f"no experiment was evaluated with seeds {', '.join(map(str, seeds))} below {config.layout.root}")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", default="config/world.yaml")
    parser.add_argument("--experiments", nargs="+", help="by default all that were evaluated")
    parser.add_argument("--seeds", type=int, nargs="+", help="those that were trained; by default the configuration's")
    parser.add_argument("--statistics", action="store_true")
    given = parser.parse_args()
    config = prvr.load_config(given.configfile)
    config = config.model_copy(update={"seeds": given.seeds or config.seeds})
    print("\n".join(statistics(config)))
    if given.statistics:
        return
    experiments = given.experiments or evaluated(config, config.seeds)
    runs = {name: [json.loads(config.layout.metrics(name, seed).read_text()) for seed in config.seeds] for name in experiments}
    print("\n" + "\n".join(difficulty(config, runs)))
    print("\n" + "\n".join(by_threshold(config, experiments[0])))
    print("\n" + "\n".join(claims({name: measured(config, name, config.seeds[0]) for name in experiments})))


if __name__ == "__main__":
    main()
