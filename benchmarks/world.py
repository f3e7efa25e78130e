"""world-1: how hard it is, and what the paper claims, measured against the truth the generator knows (docs/world.md).

python -m benchmarks.world --configfile config/world.yaml [--experiments main tcpl ...] [--seeds 1]     # after a run
python -m benchmarks.world --configfile config/world.yaml --statistics                      # needs no run
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from statistics import mean, median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy.stats import spearmanr

import prvr
from pipeline.clips.context import choose, ratio, similarities
from pipeline.clips.recipe import levels
from pipeline.config.schema import Config
from pipeline.demo.scenes import FPS, VideoSpec
from pipeline.demo.world import SPLITS, relevant, world
from pipeline.evaluation.inputs import load_split
from pipeline.ranking import gallery
from pipeline.ranking.cutoffs import CUTOFFS
from pipeline.ranking.split import Split

DRAWS = 2000
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def interval(groups: Sequence[np.ndarray], statistic: Callable[[np.ndarray], float], *, draws: int = DRAWS) -> str:
    """A statistic over values grouped by video, and its 95 % bootstrap interval: videos are drawn, not values."""
    rng = np.random.default_rng(0)
    groups = [group for group in groups if len(group)]
    if not groups:
        return "none"
    drawn = [statistic(np.concatenate([groups[i] for i in rng.integers(len(groups), size=len(groups))])) for _ in range(draws)]
    if np.isnan(drawn).all():
        return "none"
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return f"{statistic(np.concatenate(groups)):.3f} [{low:.3f}, {high:.3f}]"


def average(values: np.ndarray) -> float:
    return float(np.mean(values))


def correlation(values: np.ndarray) -> float:
    if (np.ptp(values, axis=0) == 0).any():
        return float("nan")  # one count for all videos: there is no order to compare
    return float(spearmanr(values[:, 0], values[:, 1]).statistic)


# How hard it is


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


# What the paper claims


def same_claims(config: Config, split: Split) -> np.ndarray:
    """Which queries claim the same: [Q] int, in the split's order."""
    claims = {query.query_id: query.claim for video in world(config.demo) for query in video.queries}
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(claims[query], len(numbers)) for query in split.queries.ids])


def text_claim(config: Config, split: Split, pooled: torch.Tensor) -> list[str]:
    """Mean cosine of true synonyms (one claim, two videos), of one video's queries, of any two; how often synonyms are nearer."""
    rows = F.normalize(pooled.double(), dim=-1)
    cosine = (rows @ rows.T).numpy()
    video, claim = split.queries.video.numpy(), same_claims(config, split)
    synonym = (claim[:, None] == claim) & (video[:, None] != video)
    neighbour = (claim[:, None] != claim) & (video[:, None] == video)
    owners = [np.flatnonzero(video == v) for v in np.unique(video)]

    def of(mask: np.ndarray) -> str:
        return interval([cosine[own][mask[own]] for own in owners], average)

    def above(own: np.ndarray) -> np.ndarray:
        """How many of its video's other queries a query's synonyms are nearer than."""
        asked = [q for q in own if synonym[q].any() and neighbour[q].any()]
        shares = [float(np.mean(cosine[q][synonym[q]][:, None] > cosine[q][neighbour[q]])) for q in asked]
        return np.array(shares)

    count = len(cosine)
    any_two = f"{(cosine.sum() - count) / (count * (count - 1)):.3f}"
    return [of(synonym), of(neighbour), any_two, interval([above(own) for own in owners], average)]


def shown(spec: VideoSpec, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The scene in the middle of every row: [N] int; -1 for padding."""
    middle = (start + end) / 2 * FPS
    borders = np.array([scene.end for scene in spec.scenes])
    return np.where(np.isfinite(middle), np.searchsorted(borders, np.nan_to_num(middle), side="right").clip(0, len(borders) - 1), -1)


def video_claim(config: Config, split: Split, frames: torch.Tensor) -> list[str]:
    """Mean cosine of frames of one event, of two events of one video, and the difference, by video."""
    specs = {video.video_id: video for video in world(config.demo)}
    inside, across = [], []
    for i, video in enumerate(split.videos.ids):
        scene = shown(specs[video], split.videos.start[i], split.videos.end[i])
        event = np.array([s if s >= 0 and specs[video].scenes[s].subject else -1 for s in scene])
        kept = np.flatnonzero(event >= 0)
        rows = F.normalize(frames[i, kept].double(), dim=-1)
        cosine = (rows @ rows.T).numpy()
        same = event[kept][:, None] == event[kept]
        inside.append(cosine[same & ~np.eye(len(kept), dtype=bool)])
        across.append(cosine[~same])
    difference = [np.array([a.mean() - b.mean()]) for a, b in zip(inside, across, strict=True) if len(a) and len(b)]
    return [interval(inside, average, draws=200), interval(across, average, draws=200), interval(difference, average)]


def borders(config: Config, split: Split) -> tuple[list[str], list[str]]:
    """F1 of the borders between clips against those between scenes (one pooled frame of tolerance): as merged, and of equal parts."""
    specs = {video.video_id: video for video in world(config.demo)}
    found: dict[str, list[np.ndarray]] = {"merged": [], "equal": []}
    for i, video in enumerate(split.videos.ids):
        count = int(split.videos.frame_count[i])
        scene = shown(specs[video], split.videos.start[i][:count], split.videos.end[i][:count])
        true = np.flatnonzero(np.diff(scene)) + 1
        clip = split.videos.frame_to_clip[i, :count].numpy().astype(int)
        cuts = np.flatnonzero(np.diff(clip)) + 1
        equal = np.unique((np.arange(1, len(cuts) + 1) * count / (len(cuts) + 1)).round().astype(int))
        for name, guess in (("merged", cuts), ("equal", equal)):
            near = np.abs(guess[:, None] - true) <= 1
            precision, recall = near.any(1).mean(), near.any(0).mean()
            found[name].append(np.array([2 * precision * recall / max(precision + recall, 1e-9)]))
    return [interval(found["merged"], average)], [interval(found["equal"], average)]


def true_contexts(config: Config) -> dict[str, int]:
    """video id -> its number of backgrounds."""
    return {video.video_id: len({scene.ground for scene in video.scenes}) for video in world(config.demo)}


def contexts(config: Config, split: Split) -> str:
    """Rank correlation of a video's number of contexts, as counted from its clips, with the number it truly has."""
    truth = true_contexts(config)
    pairs = [
        np.array([[len(np.unique(context[size > 0])), truth[video]]])
        for video, context, size in zip(split.videos.ids, split.videos.context.numpy(), split.videos.sizes.numpy(), strict=True)
    ]
    return interval(pairs, correlation)


def by_threshold(config: Config, experiment: str) -> list[str]:
    """Clips alike at each threshold and contexts counted so, each with its rank correlation with the true number."""
    chosen, split = config.experiment(experiment), load_split(config, experiment)
    counts = torch.tensor(levels(chosen.clips, chosen.variant))
    known = true_contexts(config)
    truth = [known[video] for video in split.videos.ids]
    similar = similarities(split.videos.clips)
    rows = []
    for tau in THRESHOLDS:
        share = ratio(similar, tau, chosen.clips.context_ratio)
        counted = counts[choose(share, len(counts), chosen.clips.context_choice)]
        pairs = [
            interval([np.array([[value, true]]) for value, true in zip(values, truth, strict=True)], correlation)
            for values in ((-share).tolist(), counted.tolist())
        ]
        rows.append([f"{tau:.2f}", f"{share.mean():.2f}", f"{counted.float().mean():.1f}", *pairs])
    return table(["threshold", "clips alike", "contexts", "correlation of 1 - alike", "correlation of contexts"], rows)


CLAIMS = (
    "synonyms",
    "one video's queries",
    "any two",
    "synonyms nearer than one's own neighbours",
    "frames of one event",
    "of two events",
    "difference",
    "clip borders, F1",
    "equal parts, F1",
    "contexts counted, rank correlation",
)


def measured(config: Config, experiment: str, seed: int) -> list[str]:
    """The values of `CLAIMS` of one run."""
    run = prvr.open_run(config, experiment, seed)
    split = load_split(config, experiment)
    queries, videos = gallery.encode(run.model, split, torch.device("cpu"))
    text = text_claim(config, split, queries["pooled"]) if "pooled" in queries else ["-"] * 4
    frames = video_claim(config, split, videos["frames"].float()) if "frames" in videos else ["-"] * 3
    merged, equal = borders(config, split)
    return [*text, *frames, *merged, *equal, contexts(config, split)]


def claims(values: Mapping[str, Sequence[str]]) -> list[str]:
    """The four measurements, a column per experiment."""
    return table(["", *values], [[name, *(column[i] for column in values.values())] for i, name in enumerate(CLAIMS)])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", default="config/world.yaml")
    parser.add_argument("--experiments", nargs="+")
    parser.add_argument("--seeds", type=int, nargs="+", help="those that were trained; by default the configuration's")
    parser.add_argument("--statistics", action="store_true")
    given = parser.parse_args()
    config = prvr.load_config(given.configfile)
    config = config.model_copy(update={"seeds": given.seeds or config.seeds})
    print("\n".join(statistics(config)))
    if given.statistics:
        return
    experiments = given.experiments or list(config.experiments)
    runs = {name: [json.loads(config.layout.metrics(name, seed).read_text()) for seed in config.seeds] for name in experiments}
    print("\n" + "\n".join(difficulty(config, runs)))
    print("\n" + "\n".join(by_threshold(config, experiments[0])))
    print("\n" + "\n".join(claims({name: measured(config, name, config.seeds[0]) for name in experiments})))


if __name__ == "__main__":
    main()
