"""Which splits the runs of a configuration look at, and whether the annotations have them: said before hours of decoding, not after."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.config.schema import Config
from pipeline.datasets.rows import refuse


def check(config: Config, queries: Mapping[str, int]) -> list[str]:
    """Lines about what cannot be done with so many queries per split; none when all is there.

    A dataset without any query is for features and search, one without training queries for a checkpoint trained elsewhere.
    Errors: DatasetError listing every experiment whose reported split, or split that chooses the epoch, has no query.
    """
    if not queries:
        return []
    problems = []
    for name in config.experiments:
        chosen = config.experiment(name)
        asked = {"evaluation.split": chosen.evaluation.split}
        if queries.get("train"):
            asked["training.selection_split"] = chosen.training.selection_split
        problems += [f"experiment {name}: {key} is {split}, which has none" for key, split in asked.items() if not queries.get(split)]
    known = ", ".join(f"{split} {count:,}" for split, count in queries.items())
    refuse(
        problems,
        what="splits without a query",
        where=config.dataset.annotations or config.dataset.name,
        fix=f"name a split that has queries ({known}) in training.selection_split and evaluation.split, or add queries of that split",
    )
    return [] if queries.get("train") else [f"no training queries (there are {known}): evaluate a checkpoint trained elsewhere"]
