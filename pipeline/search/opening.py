"""Which engine answers: a trained run where there is one, else the frozen encoder, and that is said."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError
from pipeline.search.engine import Engine
from pipeline.search.frozen import Frozen
from pipeline.search.searcher import Searcher


def engine(
    config: Config, experiment: str = "", seed: int | None = None, *, zero_shot: bool = False, say: Callable[[str], None] = print
) -> Engine:
    """The first experiment and seed, or those asked for; the frozen encoder when it is asked for, or when nothing is trained and no run
    was named, which `say` is told. Errors: ConfigError for an experiment there is not; those of `Searcher` and `Frozen`.
    """
    if experiment and experiment not in config.experiments:
        known = ", ".join(config.experiments)
        raise ConfigError(f"there is no experiment {experiment!r}", where="--experiment", fix=f"name one of: {known}")
    named = experiment or next(iter(config.experiments))
    chosen = config.seeds[0] if seed is None else seed
    if not zero_shot and (experiment or seed is not None or config.layout.checkpoint(named, chosen).exists()):
        return Searcher(config, config.layout, named, chosen)
    if not zero_shot:
        say(f"{named} is not trained (seed {chosen}): the frozen encoder answers")
    return Frozen(config, experiment)
