"""The stages from videos and annotations to features and query states. No torch: the workflow reads this while it is parsed."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.layout import Layout
from pipeline.core.plugins import module_of
from pipeline.demo.world import generator
from pipeline.jobs import recipes
from pipeline.jobs.collection import Collection, Targets
from pipeline.jobs.estimates import PYTHON, Costs, Load, Needs
from pipeline.jobs.stage import Job, MadeBy, Stage, Wildcards


class World(Stage):
    """The demo's videos, rendered."""

    name, place, unit, alone = "world", "world", "videos", True
    modules = ("pipeline.demo.stage",)  # and the generator

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [{}] if collection.config.dataset.kind == "demo" else []

    def code(self, collection: Collection, of: Wildcards) -> tuple[str, ...]:
        return (*self.modules, generator(collection.config.demo))

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.world / "world.json"

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        return MadeBy(collection.config.demo.model_dump())

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return costs.render(load)


class Annotations(Stage):
    """The canonical table of videos and queries."""

    name, place, unit = "annotations", "annotations", "queries"
    modules = ("pipeline.datasets.stage",)  # and the reader

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [] if collection.config.dataset.kind == "bundle" else [{}]  # a bundle brings its own

    def code(self, collection: Collection, of: Wildcards) -> tuple[str, ...]:
        kind = collection.config.dataset.kind
        return self.modules if kind == "bundle" else (*self.modules, module_of("datasets", "own" if kind == "demo" else kind))

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.annotations_manifest

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        return (layout.annotations,)

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        files = {path.name: collection.digest(path) for path in collection.annotation_files}
        if collection.config.dataset.kind == "bundle":
            files = {"annotations.h5": collection.digest(collection.layout.annotations)}
        ids = sorted(source.video_id for shard in collection.shards.values() for source in shard)
        recipe = collection.config.dataset.model_dump(exclude={"name", "videos", "annotations"})
        return MadeBy(recipe, [files, ids], _world(collection))

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return Needs(PYTHON[0] + load.queries / 1e4, PYTHON[1] + load.queries * 5e-3, load.queries * 400.0)


class Frames(Stage):
    """The frames every stream wants of a shard's videos, where they are stored (`video.frames`)."""

    name, place, unit, temporary = "frames", "frames/{shard}", "videos", True
    parts = 1.0
    modules = ("pipeline.video.stage",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        stored = collection.encoders_to_run(targets) and not collection.streamed
        return [{"shard": shard} for shard in collection.shard_names] if stored else []

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.frames_manifest(**of)

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        recipe = collection.once(("frames",), lambda: recipes.frames(collection.config, collection.streams))
        return MadeBy(recipe, collection.content(of["shard"]), _world(collection))

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return costs.decode(load)

    def left(self, collection: Collection, of: Wildcards) -> set[str]:
        return collection.to_decode(of["shard"])


class Features(Stage):
    """An encoder's rows of a shard's videos."""

    name, place, unit, row, gpu = "features", "features/{encoder}/{shard}", "videos", "encoder", True
    modules = ("pipeline.video.stage",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [{"encoder": encoder, "shard": shard} for encoder in collection.encoders_to_run(targets) for shard in collection.shard_names]

    def code(self, collection: Collection, of: Wildcards) -> tuple[str, ...]:
        return self.modules if collection.imported(of["encoder"]) else (*self.modules, *recipes.encoding(collection.config, of["encoder"]))

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.features_manifest(**of)

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        return (layout.features(**of),)

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        if collection.imported(of["encoder"]):
            return MadeBy(data=collection.imported_content(collection.layout.features(of["encoder"], of["shard"])))
        return MadeBy(collection.features_recipe(of["encoder"]), collection.content(of["shard"]), _world(collection))

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        collection, encoder = costs.collection, of["encoder"]
        if collection.imported(encoder):
            return Needs(0.0, PYTHON[1], 0.0)
        if not collection.streamed:
            return costs.encode(encoder, load)
        fed = collection.fed(encoder, of["shard"])
        return costs.stream(fed, load) if encoder == fed[0] else costs.encode(encoder, load)._replace(seconds=costs.start)

    def left(self, collection: Collection, of: Wildcards) -> set[str]:
        return collection.missing(of["encoder"], of["shard"])


class Text(Stage):
    """The states of every query by one encoder."""

    name, place, unit, row, gpu = "text", "text/{encoder}", "queries", "encoder", True
    modules = ()  # those of `code` alone

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [{"encoder": encoder} for encoder in collection.text_encoders(targets) if not collection.imported(encoder)]

    def code(self, collection: Collection, of: Wildcards) -> tuple[str, ...]:
        encoder = of["encoder"]
        return () if collection.imported(encoder) else tuple(recipes.encoding(collection.config, encoder, "text_stage"))

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.text_manifest(**of)

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        return (layout.text(**of),)

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        if collection.imported(of["encoder"]):
            return MadeBy(data=collection.imported_content(collection.layout.text(of["encoder"])))
        return MadeBy(recipes.text(collection.config, of["encoder"]), after=[Job("annotations")])

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return Needs(0.0, PYTHON[1], 0.0) if costs.collection.imported(of["encoder"]) else costs.encode_text(of["encoder"], load)


class Quarantine(Stage):
    """Whether few enough videos are unusable."""

    name, place, unit = "quarantine", "quarantine", "videos"
    modules = ("pipeline.video.quarantine",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [{}]

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.quarantine_checked

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        return MadeBy({"max_bad_fraction": collection.config.video.max_bad_fraction}, after=all_features(collection))

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return Needs(PYTHON[0] + 0.05 * len(costs.collection.shard_names), PYTHON[1], 1e4)


def _world(collection: Collection) -> list[Job]:
    """What renders the videos, where they are not there already."""
    return [Job("world", of) for of in World().jobs(collection)]


def all_features(collection: Collection) -> list[Job]:
    """The jobs of every encoder the table uses, imported ones too."""
    return [
        Job("features", {"encoder": encoder, "shard": shard}) for encoder in collection.video_encoders for shard in collection.shard_names
    ]
