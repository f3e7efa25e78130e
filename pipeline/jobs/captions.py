"""Queries that are longer than what reads them: said before the first job, since nothing fails of it later."""

from __future__ import annotations

from pipeline.config.encoders import OpenClip
from pipeline.encoders.token_counts import limits, token_counts
from pipeline.jobs.collection import Collection


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
