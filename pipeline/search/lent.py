"""A model trained elsewhere, from its checkpoint file alone: the settings it carries, on the features of this collection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.clips.recipe import recipe_name
from pipeline.config import reading
from pipeline.config.schema import Config
from pipeline.core.errors import StoreMissing
from pipeline.core.install import run_command
from pipeline.core.layout import Layout
from pipeline.core.store import content_digest
from pipeline.models.checkpoint import load_model
from pipeline.search.searcher import Searcher


@dataclass(frozen=True)
class _Lent(Layout):
    """The files of this collection, and the one run that lies elsewhere; its encoded videos are kept here."""

    file: Path

    def run(self, experiment: str, seed: int) -> Path:
        return self.root / "lent" / str(content_digest(self.file))[:12]

    def checkpoint(self, experiment: str, seed: int) -> Path:
        return self.file


def lent(config: Config, checkpoint: Path) -> Searcher:
    """The checkpoint's model on the videos of `config`, whose encoders of the names it was trained on must be those.

    Errors: StoreError when it is no checkpoint of ours; ConfigError when an encoder it names is not configured; StoreMissing, with the
    command that makes them, when this collection has no clips such as it reads.
    """
    _, settings, attrs = load_model(checkpoint)
    name, seed = str(attrs["experiment"]), int(attrs["seed"])
    more = {"experiments": {name: settings.model_dump()}}
    files = config.source.split(" + ")
    here = reading.load(*files, overrides=more)
    layout, recipe = _Lent(here.layout.root, checkpoint), recipe_name(settings)
    encoded = {path.stem for path in layout.features(settings.features[0], "*").parent.glob("*.h5")}
    made = {path.stem for path in layout.clips(recipe, "*").parent.glob("*.h5")}
    if not made or encoded - made:
        added = layout.run(name, seed).with_suffix(".yaml")
        added.parent.mkdir(parents=True, exist_ok=True)
        added.write_text(yaml.safe_dump(more, sort_keys=False))
        raise StoreMissing(
            f"the model reads clips of {', '.join(settings.features)} that are not made here ({recipe})",
            where=checkpoint,
            fix=f"make them (its settings are in {added}): {run_command(' + '.join([*files, str(added)]), 'clips_of_all')}",
        )
    searcher = Searcher(here, layout, name, seed)
    searcher.name, searcher.trained = f"{name}, seed {seed}, from {checkpoint.name}", None
    return searcher
