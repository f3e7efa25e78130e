"""Hour-long films and what their windows (`clips.window`) do to recall and to the error of the moment.

python -m benchmarks.windows FOLDER --configfile config/world.yaml [--hours 1] [--windows 64 128 256 512] [--experiment msc] [--seed 1]
    [--train 128]

After the workflow has run: the stored rows of the configuration's videos are joined into films of about so many hours (every row keeps
its length; a moment moves by where its video begins), merged whole and in windows of each length, and ranked by the run's own model.
`--train`: and by models that learnt from films of the training videos, whole and in windows of these lengths. Their batches hold as many
queries as the run's do.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import prvr
from benchmarks.world import evaluated
from pipeline.clips import stage as clips
from pipeline.config.schema import Config, merge
from pipeline.core.layout import Layout
from pipeline.core.store import create
from pipeline.datasets import table
from pipeline.evaluation import inputs, moments, report, scored, zero_shot
from pipeline.jobs.recipes import training as training_recipe
from pipeline.models.checkpoint import load_model
from pipeline.training import stage as training
from pipeline.training.splits import train_split

NAME = "films"


@dataclasses.dataclass(frozen=True)
class Film:
    """Videos of a split, one after the other. `begins`: video -> second of the film."""

    name: str
    split: str
    begins: dict[str, float]
    seconds: float


@dataclasses.dataclass(frozen=True)
class Way:
    """How the films are divided, and whether the model that ranks them learnt from such films too."""

    window: float | None
    trained: bool = False

    @property
    def name(self) -> str:
        """Of its experiment."""
        return ("whole" if self.window is None else f"window-{self.window:g}") + ("-trained" if self.trained else "")

    @property
    def label(self) -> str:
        """Of its row."""
        return ("whole" if self.window is None else f"{self.window:g} s") + (", trained so" if self.trained else "")


def films(config: Config, rows: dict[str, np.ndarray], every: float, hours: float, split: str) -> Iterator[Film]:
    """The split's videos in their order, so many to a film that it lasts `hours`; what is left over is a shorter one.

    `rows`: video -> its rows, one `every` seconds.
    """
    known = table.load(config.layout.annotations).videos
    begins: dict[str, float] = {}
    at, number = 0.0, 0
    for video in known["video_id"][known["split"] == split]:
        begins[str(video)] = at
        at += len(rows[str(video)]) * every
        if at >= hours * 3600:
            yield Film(f"{split}-{number}", split, begins, at)
            begins, at, number = {}, 0.0, number + 1
    if begins:
        yield Film(f"{split}-{number}", split, begins, at)


def settings(config: Config, folder: Path, experiment: str, ways: list[Way]) -> Config:
    """The configuration of the films: the experiment as it is, once for each way."""
    plain = config.model_dump(mode="json", exclude_unset=True)
    experiments = {way.name: merge(config.models[experiment], {"clips": {"window": way.window}}) for way in ways}
    measured = {"split": "test"}  # by the video a query was written for: the judgements name the videos that were joined
    made = {**plain, "results": str(folder), "experiments": experiments, "compare": {}, "evaluation": measured}
    return Config.model_validate({**made, "dataset": {"name": NAME}})


def train(config: Config, way: Way, seed: int, videos: int) -> tuple[Path, float]:
    """Train the experiment of a way on the films; returns its checkpoint and the processor seconds.

    A batch of the run held `batch_videos` of `videos` training videos; this one's holds the same share of the films, or of their windows.
    """
    units = len(train_split(config.experiment(way.name), config.layout).videos)
    share = config.experiment(way.name).training.batch_videos / videos
    size = {"training": {"batch_videos": max(1, round(units * share))}}
    plain = config.model_dump(mode="json", exclude_unset=True)
    sized = Config.model_validate({**plain, "experiments": {way.name: merge(plain["experiments"][way.name], size)}})
    began = time.process_time()
    training.run(sized, sized.layout, way.name, seed, training_recipe(sized, way.name, seed))
    return sized.layout.checkpoint(way.name, seed), time.process_time() - began


def make(config: Config, target: Layout, made: list[Film], features: list[str], every: float) -> None:
    """Annotations, rows and query states of the films. The queries' states are the videos' own file."""
    known = table.load(config.layout.annotations)
    place = {video: (film, begin) for film in made for video, begin in film.begins.items()}
    queries = known.queries[known.queries["video_id"].isin(place)].copy()
    spans = {
        str(query): known.moments[str(query)] + place[video][1]  # the demo's rows begin with the video and leave nothing out
        for query, video in zip(queries["query_id"], queries["video_id"], strict=True)
    }
    queries["video_id"] = [place[video][0].name for video in queries["video_id"]]
    videos = known.videos.iloc[: len(made)].copy()
    videos["video_id"], videos["split"] = [film.name for film in made], [film.split for film in made]
    videos["duration"] = [film.seconds for film in made]
    table.save(target.annotations, table.Annotations(videos, queries.reset_index(drop=True), spans))
    target.text(config.text).parent.mkdir(parents=True, exist_ok=True)
    target.text(config.text).write_bytes(config.layout.text(config.text).read_bytes())
    for encoder in features:
        rows = stored(config, encoder)
        with create(target.features(encoder, "000"), stage="features", recipe={}, dim=next(iter(rows.values())).shape[1]) as writer:
            for film in made:
                joined = np.concatenate([rows[video] for video in film.begins]).astype(np.float16)
                start = np.arange(len(joined), dtype=np.float64) * every
                items = {"key": film.name, "duration": film.seconds}
                writer.append("features", film.name, joined, {"start": start, "end": start + every}, items)


def stored(config: Config, encoder: str) -> dict[str, np.ndarray]:
    """The rows of every video."""
    shards = sorted(path.stem for path in config.layout.features(encoder, "*").parent.glob("*.h5"))
    known = [str(video) for video in table.load(config.layout.annotations).videos["video_id"]]
    return {video: values for video, values, _ in zero_shot.stored_rows(config.layout, encoder, shards, known)}


def merged(config: Config, way: Way) -> float:
    """Merge the films in this way; returns the processor seconds."""
    began = time.process_time()
    clips.run(config, config.layout, config.experiment(way.name), "000")
    return time.process_time() - began


def row(config: Config, way: Way, checkpoint: Path, *seconds: float) -> list[str]:
    """What one way to divide the films gives: units, recalls, and where in its film a query is found; `seconds` of what came before."""
    chosen = config.experiment(way.name)
    model, _, _ = load_model(checkpoint)
    read = inputs.load(config.layout, chosen, "test")
    began = time.process_time()
    ranked = scored.rank(model, read, chosen, torch.device("cpu"), None)
    took = time.process_time() - began
    own = ranked.windows[:, 0].numpy()
    found = report.query_table(
        read, ranked, moments.windows(ranked.similarity.numpy(), read.split.videos.start[own], read.split.videos.end[own])
    )
    numbers = report.numbers(read, ranked, found)
    offsets, spans = read.moments
    first = spans[offsets[:-1]]
    away = np.maximum(np.maximum(first[:, 0] - found["best_time"], found["best_time"] - first[:, 1]), 0)
    predicted = found[["moment_start", "moment_end"]].to_numpy()
    shared = np.clip(np.minimum(predicted[:, 1], first[:, 1]) - np.maximum(predicted[:, 0], first[:, 0]), 0, None)
    iou = shared / (np.maximum(predicted[:, 1], first[:, 1]) - np.minimum(predicted[:, 0], first[:, 0]))
    recalls = numbers["recalls"]["fused"]
    return [
        way.label,
        f"{len(read.split.videos):,}",
        *(f"{recalls[key]:.1f}" for key in ("R@1", "R@5", "R@10")),
        f"{numbers['moments']['frame']['inside']:.1f}",
        f"{np.median(away):.0f} / {away.mean():.0f}",
        f"{iou.mean():.3f}",
        " / ".join(f"{value:.0f}" for value in (*seconds, took)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--configfile", required=True)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--windows", type=float, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--experiment", help="by default the first that was evaluated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train", type=float, nargs="*")
    options = parser.parse_args()
    config = prvr.load_config(options.configfile)
    torch.set_num_threads(config.runtime.threads)  # as a job does: more wait for one another on a busy machine
    experiment = options.experiment or evaluated(config, [options.seed])[0]
    chosen = config.experiment(experiment)
    given = [Way(None), *map(Way, options.windows)]
    learnt = [] if options.train is None else [Way(None, True), *(Way(window, True) for window in options.train)]
    films_of = settings(config, options.folder, experiment, given + learnt)
    rows = stored(config, chosen.features[0])
    every = config.network(chosen.features[0]).sampling.every
    made = {split: list(films(config, rows, every, options.hours, split)) for split in (("test", "train", "val") if learnt else ("test",))}
    make(config, films_of.layout, [film for of in made.values() for film in of], list(chosen.features), every)
    asked = table.load(films_of.layout.annotations)
    splits = asked.queries["video_id"].map(dict(zip(asked.videos["video_id"], asked.videos["split"], strict=True)))
    for split, of in made.items():
        seconds = np.array([film.seconds for film in of])
        queries = asked.queries["query_id"][splits == split]
        spans = np.concatenate([asked.moments[query] for query in queries])
        print(
            f"{split}: {len(of)} films of {seconds.min() / 3600:.2f} to {seconds.max() / 3600:.2f} h, {len(queries):,} queries; "
            f"a moment takes {np.median(spans[:, 1] - spans[:, 0]):.1f} s (median); chance at R@1 {100 / len(of):.1f} %"
        )
    columns = ["windows", "how many", "R@1", "R@5", "R@10", "best row in the moment, %", "away, s (median / mean)", "IoU"]
    print("| " + " | ".join([*columns, "merging / training / ranking, s" if learnt else "merging / ranking, s"]) + " |")
    print("| --- |" + " ---: |" * len(columns))
    merging: dict[float | None, float] = {}  # one folder of clips serves both models
    for way in given + learnt:
        if way.window not in merging:
            merging[way.window] = merged(films_of, way)
        checkpoint, seconds_of = config.layout.checkpoint(experiment, options.seed), [merging[way.window]]
        if way.trained:
            checkpoint, took = train(films_of, way, options.seed, sum(len(film.begins) for film in made["train"]))
            seconds_of.append(took)
        print("| " + " | ".join(row(films_of, way, checkpoint, *seconds_of)) + " |", flush=True)


if __name__ == "__main__":
    main()
