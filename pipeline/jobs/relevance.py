"""The relevance files of a configuration, read before the first job. No torch: the workflow does so while it is parsed."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError
from pipeline.core.layout import Layout
from pipeline.core.provenance import sha256
from pipeline.datasets import relevance
from pipeline.datasets.readers import annotated
from pipeline.demo.world import world


def check(config: Config, layout: Layout, experiments: Iterable[str]) -> None:
    """Read the relevance file of every experiment that names one.

    Errors: DatasetError for a wrong line or an unknown id, ConfigError for `generated` where nothing is generated.
    """
    files = dict.fromkeys(filter(None, (config.experiment(name).evaluation.relevance for name in experiments)))
    if "generated" in files:
        del files["generated"]  # right as it is made
        if config.dataset.kind != "demo":
            raise ConfigError(
                "evaluation.relevance: generated needs a generated world (dataset.kind: demo)",
                fix="name a file of judgements (docs/datasets.md), or leave evaluation.relevance out",
            )
    if not files:
        return
    queries, videos = _ids(config, layout)
    for file in files:
        relevance.resolve(relevance.read(file), queries, videos, file)


def content(given: str | None) -> str | None:
    """The digest of a relevance file; None without one, or where it does not exist: there the job says so.

    `generated` needs none: every evaluation follows the rendering that writes it.
    """
    if given is None or given == "generated" or not Path(given).exists():
        return None
    return sha256(Path(given))


def _ids(config: Config, layout: Layout) -> tuple[list[tuple[str, str]], set[str]]:
    """Every query by its id and its caption id, and every video."""
    if config.dataset.kind == "demo":  # known by its description before it is rendered
        made = world(config.demo)
        ids = [(query.query_id, f"{video.video_id}#enc#{i}") for video in made for i, query in enumerate(video.queries)]
        return ids, {video.video_id for video in made}
    if config.dataset.kind == "bundle":
        from pipeline.core.store import open_store

        with open_store(layout.annotations, stage="annotations") as store:
            table, videos = store.table("queries"), store.table("videos")
        return list(zip(table["query_id"], table["cap_id"], strict=True)), set(videos["video_id"])
    rows = annotated(config.dataset)
    return [(query.query_id, query.cap_id) for query in rows.queries], {video.video_id for video in rows.videos}
