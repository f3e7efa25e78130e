"""Which engine answers for some tokens: the one of the configuration; `auto`: exact, and above a measured number of videos faiss."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.search.nearest import Approximate, Exact, Index, Nearest
from pipeline.search.tokens import Tokens


def engine_for(config: Config, videos: int) -> str:
    """exact, faiss or qdrant."""
    wanted = config.search.engine
    return wanted if wanted != "auto" else "faiss" if videos >= config.search.faiss_from else "exact"


def index_of(config: Config, tokens: Tokens, folder: Path, name: str) -> Index:
    """The index of some tokens; `folder` is where an engine may keep its files, `name` the begin of its collections' names.

    What it takes to bring an engine in line with the tokens is said. Errors: ConfigError when it cannot be had; DiskError.
    """
    engine = engine_for(config, len(tokens.ids))
    if engine == "exact":
        return Exact(tokens)
    # Imported late: faiss takes a second, Qdrant's client is an extra.
    nearest: Nearest
    if engine == "faiss":
        from pipeline.search.faiss_index import FaissNearest

        nearest = FaissNearest(folder / "faiss", tokens)
    else:
        from pipeline.search.qdrant_index import QdrantNearest, client

        nearest = QdrantNearest(client(config.search.url), re.sub(r"[^A-Za-z0-9_-]+", "_", name), tokens, config.search.url)
    made = Approximate(tokens, nearest)
    if made.changes.added or made.changes.removed:
        print(f"{engine}: tokens of {len(made.changes.added)} videos added, of {len(made.changes.removed)} removed", file=sys.stderr)
    return made
