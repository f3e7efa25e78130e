"""The stages from features to the table of results. No torch: the workflow reads this while it is parsed."""

from __future__ import annotations

from pathlib import Path

from pipeline.core.layout import Layout
from pipeline.core.provenance import PACKAGE
from pipeline.jobs import recipes, relevance
from pipeline.jobs.collection import Collection, Targets
from pipeline.jobs.estimates import PYTHON, TORCH, Costs, Load, Needs
from pipeline.jobs.extraction import all_features
from pipeline.jobs.stage import Job, MadeBy, Stage, Wildcards

COMPARE = "compare"
OTHERS: Targets = ("ablation", "sweeps", COMPARE)  # targets whose runs stand in the report once they are done


class Clips(Stage):
    """A shard's pooled and merged rows; experiments with the same features and merging share them."""

    name, place, unit, row = "clips", "clips/{recipe}/{shard}", "videos", "recipe"
    modules = ("pipeline.clips.stage",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [{"recipe": recipe, "shard": shard} for recipe in collection.clip_recipes(targets) for shard in collection.shard_names]

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.clips_manifest(**of)

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        return (layout.clips(**of),)

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        pooled = collection.pooled(of["recipe"])
        recipe = collection.once(("clips in", of["recipe"]), lambda: recipes.clips(collection.config, pooled))
        before = [Job("features", {"encoder": encoder, "shard": of["shard"]}) for encoder in pooled.features]
        return MadeBy(recipe, after=before)

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return costs.merge(costs.collection.pooled(of["recipe"]), load)


class Train(Stage):
    """One model with one seed."""

    name, place, unit, gpu = "train", "train/{experiment}/seed{seed}", "runs", True
    parts = 7.0  # the best weights; the last with both moments, twice while they are replaced
    modules = ("pipeline.training.stage",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [run for run in _runs(collection, *targets) if not collection.imported_run(run["experiment"], run["seed"])]

    def code(self, collection: Collection, of: Wildcards) -> tuple[str, ...]:
        return (*self.modules, *collection.experiment(of["experiment"]).code)

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.checkpoint_manifest(of["experiment"], int(of["seed"]))

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        return (layout.checkpoint(of["experiment"], int(of["seed"])),)

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        name = of["experiment"]
        if collection.imported_run(name, of["seed"]):
            return MadeBy(data=collection.imported_content(collection.layout.checkpoint(name, int(of["seed"]))))
        return MadeBy(recipes.training(collection.config, name, int(of["seed"])), after=_before_training(collection, name))

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return costs.train(costs.collection.experiment(of["experiment"]), load)

    def threads(self, costs: Costs, of: Wildcards) -> int:
        return costs.collection.experiment(of["experiment"]).training.threads


class Cost(Stage):
    """What one method costs, measured with the whole machine for itself."""

    name, place, unit, gpu, alone = "cost", "cost/{experiment}", "runs", True, True
    modules = ("pipeline.training.cost",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return (
            [{"experiment": name} for name in dict.fromkeys(name for name, _ in collection.runs("compare"))] if COMPARE in targets else []
        )

    def code(self, collection: Collection, of: Wildcards) -> tuple[str, ...]:
        return (*self.modules, *collection.experiment(of["experiment"]).code)

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.cost(of["experiment"])

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        return MadeBy(recipes.cost(collection.config, of["experiment"]), after=_before_training(collection, of["experiment"]))

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        seconds, memory, _ = costs.train(costs.collection.experiment(of["experiment"]), load)
        return Needs(min(seconds, 600.0) + TORCH[0], memory, 1e4)


class Evaluate(Stage):
    """The ranks and measures of one trained model."""

    name, place, unit, gpu = "evaluate", "evaluate/{experiment}/seed{seed}", "runs", True
    modules = ("pipeline.evaluation.stage",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return _runs(collection, *targets)

    def code(self, collection: Collection, of: Wildcards) -> tuple[str, ...]:
        return (*self.modules, *collection.experiment(of["experiment"]).model_code)

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.evaluation_manifest(of["experiment"], int(of["seed"]))

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        return layout.evaluation(of["experiment"], int(of["seed"])), layout.metrics(of["experiment"], int(of["seed"]))

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        given = collection.experiment(of["experiment"]).evaluation.relevance
        data = relevance.content(given)
        before = [*all_features(collection), Job("train", of)]
        return MadeBy(recipes.evaluation(collection.config, of["experiment"]), data, before)

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return costs.evaluate(costs.collection.experiment(of["experiment"]), load)


class Table(Stage):
    """The measures of all runs of a target, in one table."""

    name, place, unit = "table", "table/{target}", "runs"
    modules = ("pipeline.evaluation.table",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [{"target": target} for target in targets if target != COMPARE and collection.runs(target)]

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.table_manifest(**of)

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        return layout.table(**of), layout.table(**of).with_suffix(".csv")

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        return MadeBy(data=_published(collection), after=[Job("evaluate", run) for run in _runs(collection, of["target"])])

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return Needs(PYTHON[0] + 1, PYTHON[1], 1e4)


class Compare(Stage):
    """All methods side by side."""

    name, place, unit = COMPARE, COMPARE, "runs"
    modules = ("pipeline.evaluation.compare",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [{}] if COMPARE in targets and collection.runs(COMPARE) else []

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.table_manifest(COMPARE)

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        return tuple(layout.table(COMPARE).with_suffix(suffix) for suffix in (".md", ".csv", ".json"))

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        before = [Job("evaluate", run) for run in _runs(collection, COMPARE)]
        before += [Job("cost", cost) for cost in Cost().jobs(collection, (COMPARE,))]
        return MadeBy(data=_published(collection), after=before)

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return Needs(PYTHON[0] + 2, PYTHON[1], 1e5)


class Report(Stage):
    """All runs of the dataset in one page."""

    name, place, unit = "report", "report", "runs"
    modules = ("pipeline.report.stage",)

    def jobs(self, collection: Collection, targets: Targets = ("table",)) -> list[dict[str, str]]:
        return [{}] if "table" in targets else []

    def manifest(self, layout: Layout, of: Wildcards) -> Path:
        return layout.report_manifest

    def files(self, layout: Layout, of: Wildcards) -> tuple[Path, ...]:
        return (layout.report,)

    def made_by(self, collection: Collection, of: Wildcards) -> MadeBy:
        before = [Job("quarantine"), *(Job("evaluate", run) for run in _runs(collection, "table"))]
        data = {"page": _page(collection), "published": _published(collection)}
        own = _runs(collection, "table")
        others = [Job("evaluate", run) for run in _runs(collection, *OTHERS) if run not in own]
        return MadeBy(data=data, after=before, also=others)

    def needs(self, costs: Costs, load: Load, of: Wildcards) -> Needs:
        return Needs(PYTHON[0] + 5, PYTHON[1] + load.queries * 1e-2, 2.5e5 + 100 * load.queries)


def _page(collection: Collection) -> list[str]:
    """Digests of what the report's page is made of beside its code."""
    return [collection.digest(file) for file in sorted((PACKAGE / "report" / "static").iterdir())]


def _before_training(collection: Collection, name: str) -> list[Job]:
    """The jobs that make what a training of an experiment reads."""
    before = [Job("clips", {"recipe": recipe, "shard": shard}) for recipe in collection.clip_sets(name) for shard in collection.shard_names]
    return [*before, *(Job("text", {"encoder": encoder}) for encoder in collection.texts(name)), Job("annotations")]


def _published(collection: Collection) -> str | None:
    """Digest of the published numbers, where a dataset has any."""
    kind = collection.config.dataset
    known = kind.original or kind.kind == "bundle"
    return collection.digest(PACKAGE / "evaluation" / "published.yaml") if known else None


def _runs(collection: Collection, *targets: str) -> list[dict[str, str]]:
    return [{"experiment": name, "seed": str(seed)} for name, seed in dict.fromkeys(run for t in targets for run in collection.runs(t))]
