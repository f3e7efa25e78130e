"""The report's pictures of numbers. Colours belong to models: the best is the first, and one keeps its own through the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from pipeline.jobs.estimates import spell_time
from pipeline.jobs.timings import Timing
from pipeline.report.drawing import BAD, GOOD, INK, LINE, MUTED, SERIES, decades, drawn, logarithmic
from pipeline.report.pick import cut
from pipeline.report.runs import Bench, Model

POINTS = 120  # of a curve
LINES = 60  # models drawn; those after the first few are grey


def colours(models: Sequence[Model]) -> dict[str, str]:
    """Model -> colour; grey for those beyond the palette."""
    return {model.name: SERIES[i] if i < len(SERIES) else MUTED for i, model in enumerate(models)}


def recall(bench: Bench) -> Markup:
    """Recall at every cut-off; the band reaches from the lowest to the highest seed."""
    cutoffs = np.unique(np.round(np.geomspace(1, max(bench.videos, 2), POINTS)).astype(int))
    with drawn() as (_, axes, result):
        for model in reversed(bench.models[:LINES]):
            of_seeds = np.stack([_within(ranks, cutoffs) for ranks in model.ranks])
            colour = colours(bench.models)[model.name]
            axes.plot(cutoffs, of_seeds.mean(0), color=colour, linewidth=1.8 if model is bench.best else 1.3)
            if len(of_seeds) > 1:
                axes.fill_between(cutoffs, of_seeds.min(0), of_seeds.max(0), color=colour, alpha=0.18, linewidth=0)
        if bench.zero_shot is not None:
            axes.plot(cutoffs, _within(bench.zero_shot[0], cutoffs), "--", color=INK, linewidth=1.2)
        axes.plot(cutoffs, np.minimum(100, 100 * cutoffs / bench.videos), ":", color=MUTED, linewidth=1.2)
        decades(axes, bench.videos)
        axes.set(xlabel="K, the first K videos", ylabel="queries with their video among them, %", ylim=(0, 102))
    return result[0]


def _within(ranks: np.ndarray, cutoffs: np.ndarray) -> np.ndarray:
    return 100 * np.searchsorted(np.sort(ranks), cutoffs, side="right") / max(1, len(ranks))


def by_ratio(bench: Bench) -> Markup | None:
    """SumR by moment-to-video ratio, mean over seeds with the band; None where no moments are known."""
    known = [model for model in bench.models[: len(SERIES)] if all(run.metrics["moments"] for run in model.runs)]
    if not known:
        return None
    ranges = [(of["above"], of["up_to"], of["queries"]) for of in known[0].first["moments"]["by_ratio"]]
    with drawn() as (_, axes, result):
        for model in reversed(known):
            values = np.asarray([[of["SumR"] for of in run.metrics["moments"]["by_ratio"]] for run in model.runs])
            colour, places = colours(bench.models)[model.name], np.arange(values.shape[1])
            axes.plot(places, values.mean(0), "o-", color=colour, markersize=4)
            if len(values) > 1:
                axes.fill_between(places, values.min(0), values.max(0), color=colour, alpha=0.18, linewidth=0)
        axes.set_xticks(range(len(ranges)), [f"{low:.1f} to {high:.1f}\n{count:,}" for low, high, count in ranges])
        axes.set(xlabel="share of the video that the moment takes; queries", ylabel="SumR", xlim=(-0.4, len(ranges) - 0.6))
        axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
    return result[0]


def won_and_lost(models: Sequence[Mapping[str, Any]]) -> Markup:
    """Per cut-off and model: to the right the queries only it has, to the left those only the reference has."""
    bars = [(k, model) for k in models[0]["shares"] for model in models]
    with drawn(height=0.7 + 0.27 * len(bars)) as (_, axes, result):
        for place, (k, model) in enumerate(reversed(bars)):
            won, lost = model["shares"][k]
            axes.barh(place, won, color=GOOD, height=0.66)
            axes.barh(place, -lost, color=BAD, height=0.66)
            axes.text(won, place, f" {won:.1f}", va="center", fontsize=8, color=MUTED)
            axes.text(-lost, place, f"{lost:.1f} ", va="center", ha="right", fontsize=8, color=MUTED)
        several = len(models) > 1
        axes.set_yticks(range(len(bars)), [f"R@{k}, {cut(m['name'], 24)}" if several else f"R@{k}" for k, m in reversed(bars)])
        widest = max(max(model["shares"][k]) for k, model in bars) or 1.0
        axes.set(xlim=(-1.2 * widest, 1.2 * widest), xlabel="queries, %")
        axes.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
        axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
    return result[0]


def training(models: Sequence[Model], column: str, label: str, palette: Mapping[str, str]) -> Markup | None:
    """One value over the epochs, a line a seed; a dot at the epoch that was kept, a dashed line where hard negatives begin."""
    lines = [(m, run) for m in models for run in m.runs if run.history is not None and column in run.history]
    if not lines:
        return None
    with drawn() as (_, axes, result):
        last = max(float(run.history["epoch"].max()) for _, run in lines if run.history is not None)
        for model, run in reversed(lines):
            assert run.history is not None
            history, colour = run.history, palette[model.name]
            axes.plot(history["epoch"], history[column], color=colour, linewidth=1.2, alpha=0.9)
            kept = history[history["epoch"] == run.attrs.get("epoch")]
            axes.plot(kept["epoch"], kept[column], "o", color=colour, markersize=4)
        for epoch in sorted({begin for _, run in lines if (begin := hard_from(run.attrs)) is not None and begin <= last}):
            axes.axvline(epoch, color=INK, linestyle="--", linewidth=0.9)
            axes.annotate(
                f"hard negatives from epoch {epoch}",
                (epoch, 1),
                xycoords=("data", "axes fraction"),
                xytext=(4, -9),
                textcoords="offset points",
                fontsize=8,
                color=MUTED,
            )
        if column == "loss" and min(run.history["loss"].min() for _, run in lines if run.history is not None) > 0:
            logarithmic(axes)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
    return result[0]


def hard_from(attrs: Mapping[str, Any]) -> int | None:
    """The first epoch, counted from 1, whose triplets have hard negatives, as a checkpoint says; None where there are no triplets."""
    objectives = (attrs.get("config") or {}).get("objectives") or {}
    triplet = objectives.get("triplet") or {}
    return int(triplet["hard_start_epoch"]) + 1 if triplet.get("weight") else None


def collapse(bench: Bench, palette: Mapping[str, str]) -> Markup | None:
    """Diff. Norm of texts and videos: the model's (dots, one a seed) beside the frozen inputs' (a bar)."""
    sides = ("text", "video")
    shown = [m for m in bench.models[:12] if any(run.metrics["collapse"][side].get("model") for run in m.runs for side in sides)]
    if not shown:
        return None
    with drawn(height=1.0 + 0.34 * len(shown), columns=2) as (_, axes, result):
        for one, side in zip(axes, sides, strict=True):
            for place, model in enumerate(reversed(shown)):
                for run in model.runs:
                    measured = run.metrics["collapse"][side]
                    frozen, ours = ((measured.get(name) or {}).get("diff_norm") for name in ("foundation", "model"))
                    if frozen is not None:
                        one.plot([frozen], [place], "|", color=INK, markersize=13, markeredgewidth=1.6)
                    if ours is not None:
                        one.plot([ours], [place], "o", color=palette[model.name], markersize=5)
            one.set_yticks(range(len(shown)), [cut(model.name, 22) for model in reversed(shown)] if side == "text" else [""] * len(shown))
            one.set(title=f"of {'queries' if side == 'text' else 'frames'}", xlabel="Diff. Norm", ylim=(-0.6, len(shown) - 0.4))
            one.tick_params(axis="y", length=0)
            one.xaxis.get_major_locator().set_params(nbins=5)
    return result[0]


def times(timings: Sequence[Timing]) -> Markup:
    """Seconds of every stage, summed over its jobs, on a logarithmic axis."""
    with drawn(height=0.7 + 0.26 * len(timings)) as (_, axes, result):
        seconds = [max(timing.seconds, 0.1) for timing in reversed(timings)]
        axes.barh(range(len(seconds)), seconds, color=SERIES[0], height=0.62)
        for place, value in enumerate(seconds):
            axes.text(value, place, f" {spell_time(value)}", va="center", fontsize=8, color=MUTED)
        axes.set_yticks(range(len(seconds)), [timing.stage for timing in reversed(timings)])
        axes.set_xscale("log")
        axes.set_xlim(min(seconds) / 2, max(seconds) * 4)
        known = [(1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"), (36000, "10 h"), (864000, "10 days")]
        ticks = [tick for tick in known if min(seconds) / 2 <= tick[0] <= max(seconds) * 4]
        axes.set_xticks([at for at, _ in ticks], [name for _, name in ticks])
        axes.minorticks_off()
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["bottom"].set_color(LINE)
    return result[0]
