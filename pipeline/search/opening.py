"""Which engine answers: a trained run where there is one, else the frozen encoder, and that is said."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pipeline.config.schema import Config
from pipeline.core.errors import StoreMissing
from pipeline.core.names import unknown
from pipeline.search.engine import Engine
from pipeline.search.frozen import Frozen
from pipeline.search.searcher import Searcher


def engine(
    config: Config, experiment: str = "", seed: int | None = None, *, zero_shot: bool = False, say: Callable[[str], None] = print
) -> Engine:
    """The first experiment and seed, or those asked for; the frozen encoder when it is asked for, or when nothing is trained and no run
    was named, which `say` is told. Errors: ConfigError for an experiment there is not; those of `Searcher` and `Frozen`.
    """
    if experiment and experiment not in config.models:
        raise unknown("experiment", experiment, config.models, where="--experiment")
    named = experiment or next(iter(config.experiments))
    chosen = config.seeds[0] if seed is None else seed
    if not zero_shot and (experiment or seed is not None or config.layout.run(named, chosen).exists()):
        return Searcher(config, config.layout, named, chosen)
    if not zero_shot:
        say(f"{named} is not trained (seed {chosen}): the frozen encoder answers")
    return Frozen(config, experiment)


def engines(config: Config, seed: int | None = None) -> dict[str, Callable[[], Engine]]:
    """Everything of a configuration that can answer, by name: each trained run, and the frozen encoder where its images are stored.

    A run of the first seed is called by its experiment alone. Errors: StoreMissing when there is nothing.
    """
    ready: dict[str, Callable[[], Engine]] = {
        name if chosen in (seed, config.seeds[0]) else f"{name}, seed {chosen}": partial(Searcher, config, config.layout, name, chosen)
        for name in config.models
        for chosen in (config.seeds if seed is None else [seed])
        if config.layout.checkpoint(name, chosen).exists()
    }
    frozen = config.experiment(next(iter(config.experiments))).text
    if any(config.layout.features(frozen, "*").parent.glob("*.h5")):
        ready["zero-shot"] = partial(Frozen, config)
    if not ready:
        raise StoreMissing("nothing is encoded or trained yet", where=config.layout.root, fix="run the workflow again")
    return ready
