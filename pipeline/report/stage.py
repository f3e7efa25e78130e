"""The report: all runs of a dataset in one HTML file that needs no network, report.html."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipeline.config.schema import Config
from pipeline.core.atomic import write_text
from pipeline.core.layout import Layout
from pipeline.core.source import Source
from pipeline.core.store import open_store
from pipeline.datasets import table, time_line
from pipeline.datasets.table import Annotations
from pipeline.evaluation.markdown import spread
from pipeline.evaluation.table import benchmark
from pipeline.jobs.timings import stage_times
from pipeline.report import compared, drawing, facts, page, pick, plots, runs, strips
from pipeline.report.pick import Ranking, cut
from pipeline.report.pictures import Album
from pipeline.report.runs import Bench

Spans = dict[str, list[tuple[float, float]]]


def run(config: Config, layout: Layout, wanted: Iterable[tuple[str, int]], sources: Mapping[str, Source]) -> None:
    """Write report.html of the evaluated ones of these runs (experiment, seed); what a dataset does not have is said in its place.

    `sources`: video id -> its files, for the stills.

    Errors: StoreError for results that are not whole.
    """
    found, absent = runs.evaluated(layout, wanted)
    benches = runs.benches(layout, found)
    known = table.load(layout.annotations) if layout.annotations.exists() else None
    album = Album(sources, config.video.frames_fps)
    texts = dict(zip(known.queries["query_id"], known.queries["query"], strict=True)) if known is not None else {}
    kind = config.dataset.kind
    if benches:
        kind = benchmark(kind, {model.name: [one.metrics for one in model.runs] for model in benches[0].models})
    models = [model for bench in benches for model in bench.models]
    timings = stage_times(layout)
    values = {
        "name": config.dataset.name,
        "collection": facts.collection(known, len(sources)),
        "absent": absent,
        "benches": [_bench(bench, kind, texts) for bench in benches],
        "shown": _shown(layout, benches[0], known, texts, album) if benches else None,
        "pictures": _pictures(album, sources),
        "training": _training(benches[0]) if benches else None,
        "trainings": facts.trainings(models),
        "quarantine": facts.set_aside(layout),
        "left_out": facts.left_out(benches[0]) if benches else None,
        "times": plots.times(timings) if timings else None,
        "timings": timings,
        "versions": facts.versions(),
        "recipes": facts.recipes(layout, models),
        "links": _links(layout),
        "limit": pick.ROWS,
    }
    write_text(layout.report, page.render(values))


def _bench(bench: Bench, kind: str, texts: dict[str, str]) -> dict[str, Any]:
    """One group of models: its numbers, pictures and tables."""
    reference, won = compared.won_and_lost(bench)
    palette = plots.colours(bench.models)
    return {
        "split": bench.split,
        "gallery": bench.gallery,
        "videos": bench.videos,
        "queries": len(bench.queries),
        "best": bench.best.name,
        "seeds": len(bench.best.runs),
        "means": {column: bench.best.mean(column) for column in ("R@1", "R@5", "R@10", "R@100", "SumR")},
        "zero_shot": bench.zero_shot_recalls,
        "chance": bench.best.first["chance"],
        "same_split": bench.split == bench.best.first["selection_split"],
        "legend": [{"name": name, "class": _class(colour)} for name, colour in palette.items()][: len(plots.SERIES)],
        "grey": max(0, len(bench.models) - len(plots.SERIES)),
        "several": any(len(model.runs) > 1 for model in bench.models),
        "rows": compared.rows(bench, kind),
        "tests": compared.tests(bench),
        "recall": plots.recall(bench),
        "ratio": plots.by_ratio(bench),
        "inside": bench.best.first["moments"],
        "inside_mean": spread(run.metrics["moments"]["frame"]["inside"] for run in bench.best.runs if run.metrics["moments"]),
        "reference": reference,
        "won": plots.won_and_lost(won) if won else None,
        "table": (rows := pick.table(bench, texts)),
        "packed": page.packed(rows),
        "collapse": plots.collapse(bench, palette),
        "collapse_rows": facts.collapse(bench.models),
    }


def _class(colour: str) -> str:
    """The style sheet's name of a series' colour."""
    return drawing.VARIABLES.get(colour, "muted")


def _shown(layout: Layout, bench: Bench, known: Annotations | None, texts: dict[str, str], album: Album) -> dict[str, Any]:
    """The sample and the failures of the best model's first seed, with their stills."""
    seed = bench.best.runs[0].seed
    with open_store(layout.evaluation(bench.best.name, seed), stage="evaluation") as store:
        ranking = pick.read(store)
    spans = _spans(known, ranking)
    return {
        "model": bench.best.name,
        "seed": seed,
        "videos": bench.videos,
        "strips": ranking.own_rows is not None,
        "timed": ranking.start is not None and bool(np.isfinite(ranking.start).any()),
        "examples": [_example(bench, ranking, query, texts, album) for query in pick.sample(ranking.ranks, ranking.own)],
        "failures": [_failure(bench, ranking, query, texts, spans, album) for query in pick.worst(ranking.ranks, ranking.own)],
        "failed": int((ranking.ranks > 1).sum()),
    }


def _example(bench: Bench, ranking: Ranking, query: int, texts: dict[str, str], album: Album) -> dict[str, Any]:
    """A query with its first hits, and its own video where that is not among them."""
    hits = []
    for place in range(min(5, ranking.top.shape[1])):
        video, seconds = int(ranking.top[query, place]), ranking.best_time(query, place)
        hits.append(_hit(ranking, video, place + 1, seconds, float(ranking.scores[query, place]), int(ranking.own[query]), album))
    if not any(hit["own"] for hit in hits):
        own, rank = int(ranking.own[query]), int(ranking.ranks[query])
        score = float(ranking.scores[query, rank - 1]) if rank <= ranking.scores.shape[1] else float("nan")
        hits.append(_hit(ranking, own, rank, ranking.own_time(query), score, own, album))
    return {**_asked(bench, ranking, query, texts), "hits": hits}


def _hit(ranking: Ranking, video: int, rank: int, seconds: float, score: float, own: int, album: Album) -> dict[str, Any]:
    name = ranking.videos[video]
    return {
        "video": cut(name, 60),
        "rank": rank,
        "seconds": seconds,
        "score": None if np.isnan(score) else score,
        "own": video == own,
        "still": album.still(name, seconds),
    }


def _failure(bench: Bench, ranking: Ranking, query: int, texts: dict[str, str], spans: Spans, album: Album) -> dict[str, Any]:
    own, first = strips.pair(ranking, query, spans.get(bench.queries[query], []), album)
    ratio = float(bench.ratio[query])
    return {
        **_asked(bench, ranking, query, texts),
        "ratio": None if np.isnan(ratio) else ratio,
        "moments": spans.get(bench.queries[query], [])[:5],
        "strips": [("wanted", own), ("retrieved first", first)],
    }


def _asked(bench: Bench, ranking: Ranking, query: int, texts: dict[str, str]) -> dict[str, Any]:
    return {"text": cut(texts.get(bench.queries[query], bench.queries[query])), "rank": int(ranking.ranks[query])}


def _spans(known: Annotations | None, ranking: Ranking) -> Spans:
    """query id -> its moments in seconds of the file, as the evaluation reads them."""
    if known is None or ranking.start is None:
        return {}
    annotated = known.videos.set_index("video_id")["duration"]
    lengths = {video: ranking.length(i) for i, video in enumerate(ranking.videos)}
    spans: Spans = {}
    for query, video in zip(known.queries["query_id"], known.queries["video_id"], strict=True):
        if video in lengths and len(moments := known.moments[query]):
            factor = float(time_line.scale(np.asarray([annotated.loc[video]]), np.asarray([lengths[video]]))[0])
            spans[query] = [(float(start) * factor, float(end) * factor) for start, end in moments]
    return spans


def _pictures(album: Album, sources: Mapping[str, Source]) -> str:
    """Why there are no stills, in a sentence; empty where there are some."""
    if not any(source.paths for source in sources.values()):
        return "There are no videos here to show: the features were imported."
    if album.unreadable:
        return f"{len(album.unreadable)} of the videos shown could not be read for their stills."
    return ""


def _training(bench: Bench) -> dict[str, Any]:
    """The course of the first few models' trainings."""
    models, palette = bench.models[: len(plots.SERIES)], plots.colours(bench.models)
    selection = bench.best.first["selection_split"]
    return {
        "loss": plots.training(models, "loss", "loss (logarithmic)", palette),
        "sumr": plots.training(models, "SumR", f"SumR on {selection}", palette),
        "hard": any(plots.hard_from(one.attrs) for model in models for one in model.runs),
    }


def _links(layout: Layout) -> dict[str, str]:
    """The full files behind the tables; an empty name where one is not there."""
    files = {
        "table": layout.table(),
        "csv": layout.table().with_suffix(".csv"),
        "compare": layout.table("compare"),
        "quarantine": layout.quarantine,
    }
    return {name: file.relative_to(layout.root).as_posix() if file.exists() else "" for name, file in files.items()}
