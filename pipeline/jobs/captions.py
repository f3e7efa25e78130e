"""Queries that are longer than what reads them, or too many for a batch: said before the first job, since nothing fails of it later."""

from __future__ import annotations

from pipeline.config.encoders import OpenClip
from pipeline.encoders.token_counts import limits, token_counts
from pipeline.jobs.collection import Collection

USUAL = 640  # captions of a batch: 128 videos of TVR, five captions each, the most of the published recipes
MANY = 2000  # from here the angles of a batch take thirty times as long, on a CPU more: one anchor's arrays outgrow its caches


def remarks(collection: Collection) -> list[str]:
    """All that is to be said of a collection's queries before its first job."""
    return [*too_long(collection), *too_many(collection)]


def too_many(collection: Collection) -> list[str]:
    """A line for the experiments whose batches hold so many captions that their angles, Q^3, rule a training's time (paper Eq. 3)."""
    taught, named = collection.listing.taught, dict[int, list[str]]()
    mean = collection.queries.get("train", 0) / max(1, taught.videos)
    for name in collection.names():
        chosen = collection.experiment(name)
        held = max(taught.most, int(min(chosen.training.batch_videos, taught.videos) * mean))
        if held >= MANY and chosen.objectives.tcpl.angle and not chosen.clips.window:
            named.setdefault(held, []).append(name)
    lines = []
    for held, names in named.items():
        one = taught.most > held / 2
        windows = "`clips.window` divides those of a long video that have a start and an end, `objectives.tcpl.angle: 0` does without"
        fix = windows if one else "lower training.batch_videos"
        lines.append(
            f"a batch of {', '.join(names)} holds {held:,} captions{f', {taught.most:,} of them of {taught.video}' if one else ''}: its "
            f"angles (objectives.tcpl.angle) take at least {(held / USUAL) ** 3:,.0f} times as long as those of {USUAL}: {fix}"
        )
    return lines


def too_long(collection: Collection) -> list[str]:
    """A line for each text encoder that will not see the end of some queries: how many, and the longest."""
    lines = []
    queries = list(collection.listing.long_queries.items())
    for name, limit in limits(collection.config).items():
        encoder = collection.config.network(name)
        counts = token_counts(encoder, [text for _, text in queries]) if isinstance(encoder, OpenClip) and queries else None
        long = [(count, query) for count, query in zip(counts or [], queries, strict=False) if count > limit]
        if long:
            most, (query_id, text) = max(long)
            asked = sum(collection.queries.values())
            lines.append(
                f"{len(long):,} of {asked:,} queries are longer than the {limit} tokens, start and end among them, that {name} and "
                f"model.max_words let through: their ends are cut off. The longest has {most}: {query_id} {text[:60]!a}"
            )
    return lines
