"""The evaluation stage: ranks the split of one trained model and writes evaluation.h5, metrics.json and the field's formats beside them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core import kept, tracking
from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.core.lease import device as leased
from pipeline.core.progress import track
from pipeline.core.store import create
from pipeline.datasets import time_line
from pipeline.evaluation import formats, inputs, judged_text, moments, report, zero_shot
from pipeline.evaluation.inputs import Inputs
from pipeline.evaluation.plot import recall_curves
from pipeline.evaluation.scored import Ranked, Reference, rank
from pipeline.models.checkpoint import load_model
from pipeline.ranking.data import MadeBy
from pipeline.ranking.room import Room


def run(config: Config, layout: Layout, experiment: str, seed: int, recipe: dict[str, Any], texts: MadeBy | None = None) -> None:
    """Evaluate one run on `evaluation.split`: evaluation.h5, metrics.json, run.trec, queries.jsonl, moments.jsonl, recall.png.

    The files of its text encoders must say they were made by `texts`, values of their recipes by encoder.
    Errors: StoreError, TrainingError (the split holds nothing), DeviceError.
    """
    chosen = config.experiment(experiment)
    trained = {"experiment": chosen.model_dump(exclude={"evaluation"}), "seed": seed}
    model, _, attrs = load_model(layout.checkpoint(experiment, seed), experiment=experiment, seed=seed, recipe=trained)
    room = Room(layout.run(experiment, seed), config.runtime.memory)
    read = inputs.load(layout, chosen, chosen.evaluation.split, texts, room)
    with leased(config.runtime.device, share=config.runtime.share_gpu) as device:
        reference, why_not = _zero_shot(config, layout, chosen, read, device)
        ranked = rank(model, read, chosen, device, reference, room)
    own = ranked.windows[:, 0].numpy()
    windows = moments.windows(ranked.similarity.numpy(), read.split.videos.start[own], read.split.videos.end[own])
    table = report.query_table(read, ranked, windows)
    metrics: dict[str, Any] = {
        "dataset": config.dataset.name,
        "kind": config.dataset.kind,
        "experiment": experiment,
        "seed": seed,
        "variant": chosen.variant,
        "features": chosen.features,
        "text": chosen.text,
        "words": chosen.model.max_words,
        "model": chosen.model.kind,
        "branches": list(model.branches),
        "fusion": chosen.evaluation.fusion(model.branches),
        "split": chosen.evaluation.split,
        "selection_split": attrs.get("selection_split"),
        "epoch": attrs.get("epoch"),
        "run": kept.run_hash(attrs, layout.checkpoint(experiment, seed)),
        "imported": attrs.get("imported"),
        "zero_shot": {"encoder": chosen.text} if reference is not None else {"absent": why_not},
        **report.numbers(read, ranked, table),
    }
    metrics = formats.plain(metrics)
    _write(config, layout, experiment, seed, read, ranked, table, windows, metrics, recipe)
    _track(config, layout, experiment, seed, metrics)
    print("\n".join(summary(metrics)))


def _track(config: Config, layout: Layout, experiment: str, seed: int, metrics: dict[str, Any]) -> None:
    """The run's final measures, at the epoch that was chosen, where `tracking` says."""
    named = {"dataset": config.dataset.name, "experiment": experiment, "seed": seed, "run": metrics["run"]}
    with tracking.started(config.tracking, layout.tracking, named, first=None) as tracker:
        final = {f"{metrics['split']}/{branch}/{key}": value for branch, of in metrics["recalls"].items() for key, value in of.items()}
        tracker.log(int(metrics["epoch"] or 0), final)


def _zero_shot(config: Config, layout: Layout, chosen: Experiment, read: Inputs, device: torch.device) -> tuple[Reference | None, str]:
    """The reference, or why there is none."""
    encoder = zero_shot.encoder_of(config, chosen)
    if encoder is None:
        return None, f"the images of {chosen.text} are not among the features of any experiment"
    sentences = read.split.queries.sentence
    if sentences is None:
        return None, f"text/{chosen.text} holds no sentence vectors"
    width = zero_shot.width(layout, encoder, read.shards)
    if width != sentences.shape[1]:
        return (
            None,
            f"the sentence vectors of {chosen.text} have {sentences.shape[1]} dimensions, its image rows {width}: not one space",
        )
    ids, truth, pooled = read.split.ids, read.split.queries.video, read.split.videos.frames.shape[1]

    def scores(some: slice) -> zero_shot.ZeroShot:
        rows = track(zero_shot.stored_rows(layout, encoder, read.shards, ids), total=len(ids), label="zero-shot", unit="video")
        return zero_shot.max_sim(sentences[some], truth[some], ids, rows, pooled=pooled, device=device)

    return scores, ""


def _write(
    config: Config,
    layout: Layout,
    experiment: str,
    seed: int,
    read: Inputs,
    ranked: Ranked,
    table: Any,
    windows: list[list[list[float]]],
    metrics: dict[str, Any],
    recipe: dict[str, Any],
) -> None:
    """evaluation.h5 first, then the readable files, metrics.json last: it is what the workflow waits for."""
    folder, videos = layout.run(experiment, seed), read.split.ids
    top, scores = ranked.top, ranked.top_scores.numpy()
    names = {"experiment": experiment, "seed": seed}
    with create(layout.evaluation(experiment, seed), stage="evaluation", recipe=recipe, gallery=read.gallery, **names) as writer:
        writer.table("queries", table)
        writer.array("videos", np.asarray(videos, dtype=object))
        writer.array("top/videos", top.numpy().astype(np.int32))
        writer.array("top/scores", scores)
        writer.array("top/rows", ranked.best_rows.numpy().astype(np.int16))
        # Whose rows these and the strips are: a video's, or those of the best of its windows.
        writer.array("windows/own", ranked.windows[:, 0].numpy().astype(np.int32))
        writer.array("windows/top", ranked.windows[:, 1:].numpy().astype(np.int32))
        # What `prvr report` draws over time: the rows of the true video and of the first hit, and when they are.
        for name, rows in {"own": ranked.similarity, "first": ranked.first}.items():
            writer.array(f"strips/{name}", rows.masked_fill(rows.isneginf(), torch.nan).numpy().astype(np.float32))
        for name, times in {"start": read.split.videos.start, "end": read.split.videos.end}.items():
            writer.array(f"rows/{name}", np.asarray(times, dtype=np.float32))
        writer.array("rows/video", read.split.windows.video.numpy().astype(np.int32))
        # One string, not an attribute: those are limited to 64 kB.
        writer.array("metrics", np.asarray([json.dumps(metrics, sort_keys=True)], dtype=object))
    owner = read.split.queries.video.numpy()
    which = f"-{read.gallery}" if read.gallery else ""
    tag = f"{config.dataset.name}{which}-{experiment}-seed{seed}"
    formats.trec_run(folder / "run.trec", list(table["query_id"]), videos, top.numpy(), scores, tag)
    formats.per_query(
        folder / "queries.jsonl", table.merge(read.queries[["query_id", "query"]], on="query_id"), videos, top.numpy(), scores
    )
    scale = read.scale[owner]
    formats.moment_predictions(
        folder / "moments.jsonl",
        read.queries,
        [[[start / k, end / k, score] for start, end, score in of] for of, k in zip(windows, scale, strict=True)],
        ranked.similarity.numpy(),
        read.split.videos.start[ranked.windows[:, 0].numpy()] / scale[:, None],
        read.split.durations[owner] / scale,
    )
    ranks = {name: table[f"rank_{name}"].to_numpy() for name in metrics["recalls"]}
    recall_curves(folder / "recall.png", ranks, len(videos), f"{config.dataset.name}{which}: {experiment}, seed {seed}")
    write_json(layout.metrics(experiment, seed), metrics)


def summary(metrics: dict[str, Any]) -> list[str]:
    """The lines printed after an evaluation."""
    against = metrics["gallery"]
    name = f" ({against['name']})" if against["name"] else ""
    lines = [
        f"{metrics['dataset']} / {metrics['experiment']} / seed {metrics['seed']}: "
        f"{against['queries']} queries, {against['videos']} videos{name}; "
        f"reported on {metrics['split']}, epoch {metrics['epoch']} chosen on {metrics['selection_split']}"
    ]
    if metrics["split"] == metrics["selection_split"]:
        lines.append(
            "note: the epoch was chosen on the split that is reported, as the field does; set training.selection_split to separate them"
        )
    for branch, values in {**metrics["recalls"], "chance": metrics["chance"]}.items():
        lines.append(f"  {branch:<17}" + "".join(f"{key} {values[key]:6.2f}  " for key in ("R@1", "R@5", "R@10", "R@100", "SumR")))
    if metrics["moments"]:
        frame = metrics["moments"]["frame"]
        lines.append(
            f"  best frame inside the moment: {frame['inside']:.1f} % of {frame['queries']} queries, chance {frame['chance']:.1f} %"
        )
        lines += [f"  {line}" for line in time_line.words(metrics["moments"]["time_line"])]
    lines += judged_text.lines(metrics["relevance"])
    excluded = metrics["excluded"]
    if excluded["videos"] or excluded["queries"]:
        lines.append(f"  left out: {len(excluded['videos'])} videos without clips, {len(excluded['queries'])} queries about them")
    if beyond := excluded["moments"]:
        some = ", ".join(beyond[:5]) + (", ..." if len(beyond) > 5 else "")
        lines.append(f"  moments after the end of the video are left out: {len(beyond)} queries ({some}); are their times seconds?")
    if "absent" in metrics["zero_shot"]:
        lines.append(f"  no zero-shot row: {metrics['zero_shot']['absent']}")
    return lines
