"""The typed configuration: the only definition, read by the workflow, the command line, the JSON schema and the docs.

Loading, error messages and generated documents live in `pipeline/config/reading.py`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, PrivateAttr, ValidationError, model_validator

from pipeline.config import presets, variants
from pipeline.config.ablations import table_3, tables_1_and_2
from pipeline.config.base import Name, Output, Section, merge
from pipeline.config.encoder import Encoder
from pipeline.config.encoders import AnyEncoder, Imported
from pipeline.config.inputs import AnyDataset, Decoding, Demo, Ours
from pipeline.config.method import Clips, Evaluation, Experiment, Training
from pipeline.config.models import Model, Msc
from pipeline.config.objectives import Objectives
from pipeline.config.streams import Stream
from pipeline.core.errors import ConfigError
from pipeline.core.layout import Layout
from pipeline.core.names import choice, unknown

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # a part of paths, and what numpy's generators take


class Runtime(Section):
    """How jobs run on this machine; nothing here changes a result or re-runs a stage."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="`auto`: CUDA where there is one.")
    share_gpu: bool = Field(False, description="Let several jobs use one GPU at once; otherwise each job waits for a device of its own.")
    batch_size: int = Field(0, ge=0, description="Rows per encoder batch; 0: found automatically.")
    threads: PositiveInt = Field(2, description="CPU threads a job asks for.")
    memory: float | None = Field(
        None,
        ge=0,
        description="Gigabytes of clips and encoded videos that a training or an evaluation keeps in memory; what goes beyond is read from "
        "files without a name in the run's folder. null: 60 % of what is free at its start.",
    )
    gpus: PositiveInt = Field(1, description="GPU jobs at once when `--resources gpu=` is not given.")
    keep_runs: int = Field(
        5,
        ge=0,
        description="Former runs of an experiment and seed that are kept when it is trained again otherwise, the latest ones: `prvr runs`.",
    )


class Search(Section):
    """How `prvr search` and `prvr serve` find videos; nothing here changes a result or re-runs a stage (docs/search.md)."""

    engine: Literal["auto", "exact", "faiss", "qdrant"] = Field(
        "auto",
        description="exact: every video is scored. faiss: compressed tokens in memory name the videos that are; qdrant: a server names "
        "them. auto: exact below `faiss_from` videos, faiss from there on.",
    )
    faiss_from: PositiveInt = Field(10_000, description="Videos from which `auto` takes faiss.")
    url: str = Field("http://127.0.0.1:6333", description="The Qdrant server; its key, if it asks for one, in PRVR_QDRANT_API_KEY.")


class Compare(Section):
    """What `snakemake compare` sets side by side (docs/methods.md)."""

    methods: list[Name] | dict[Name, dict] | None = Field(
        None,
        description="Names of `experiments` or of presets; or named models, as in `experiments`, which only this target trains. "
        "null: all experiments.",
    )
    beside: dict = Field(
        default_factory=dict, description="Keys beside every preset that `methods` names, e.g. `training: {epochs: 8}`: they win over it."
    )
    seeds: list[Seed] | None = Field(None, min_length=1, description="One run per method and seed; null: `seeds`.")
    galleries: list[PositiveInt] = Field(
        [2_000, 20_000, 200_000], description="Made-up galleries, in videos, on which the latency of a query is measured."
    )


class Config(Section):
    """The whole configuration."""

    results: Output = Field("results", description="Folder of everything computed.")
    dataset: AnyDataset = Ours()
    demo: Demo = Demo()
    video: Decoding = Decoding()
    encoders: dict[Name, AnyEncoder] = Field(
        ...,
        min_length=1,
        description="Named encoders; the name is the folder of their features. A `kind` with a dot in it: docs/extending.md.",
    )
    preset: str | None = Field(
        None,
        description="A method's published values for this dataset, below the keys given here: docs/methods.md. In an experiment too.",
    )
    variant: Literal["released", "paper"] = "released"
    features: list[Name] = Field(..., min_length=1, description="Encoders whose rows are concatenated.")
    text: Name = Field(..., description="Encoder of the queries.")
    teacher: Name | None = None
    clips: Clips = Clips()
    model: Model = Msc()
    objectives: Objectives = Objectives()
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    experiments: dict[Name, dict] = Field(
        default_factory=lambda: {"main": {}},
        min_length=1,
        description="Named models; each overrides any of the keys from `preset` to `evaluation`.",
    )
    seeds: list[Seed] = Field([9527], min_length=1, description="One run per experiment and seed.")
    ablations: dict[Name, dict] = Field(
        default_factory=tables_1_and_2,
        description="Models of `snakemake ablation`; by default the paper's Tables 1 and 2, with MSC.",
    )
    sweeps: dict[Name, dict] = Field(default_factory=table_3, description="Models of `snakemake sweeps`; by default the paper's Table 3.")
    ablation_seeds: list[Seed] = Field([1, 2, 3], min_length=1, description="Seeds of the ablations and sweeps.")
    compare: Compare = Compare()
    search: Search = Search()
    runtime: Runtime = Runtime()
    tracking: Literal["none", "tensorboard", "wandb", "trackio", "mlflow"] = Field(
        "none", description="Where training and evaluation also report their numbers, on this machine (docs/tracking.md). Re-runs nothing."
    )
    _source: str = PrivateAttr("config.yaml")
    _unfit: dict[str, ConfigError] = PrivateAttr(default_factory=dict)  # by compared method, filled by reading.py

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_method(cls, values: Any) -> Any:
        """The preset's values below those given; and for another model than MSC no ablations and sweeps, which take parts of MSC away."""
        if not isinstance(values, dict):
            return values
        if values.get("preset") is not None:
            variant = values.get("variant", "released")
            values = merge(presets.values(values["preset"], _section(values, "dataset"), where="preset", variant=variant), values)
        return values if variants.kind(values) == "msc" else {"ablations": {}, "sweeps": {}, **values}

    @model_validator(mode="after")
    def _references(self) -> Config:
        groups = [self.experiments, self.ablations, self.sweeps, {n: m for n, m in self.compared.items() if n not in self.experiments}]
        if isinstance(self.compare.methods, dict):
            groups[-1] = self.compare.methods
        shared = [name for name, count in Counter(name for group in groups for name in group).items() if count > 1]
        if shared:
            raise ValueError(
                f"experiments, ablations, sweeps and compare.methods share names: {', '.join(shared)}; a name is a folder of runs"
            )
        for name in {**self.experiments, **self.ablations, **self.sweeps}:
            with contextlib.suppress(ValidationError):  # reading.py says it with its place in the file
                self.check_encoders(name)
        return self

    def check_encoders(self, name: str) -> None:
        """Whether the encoders a model names are there, and can be what it makes of them.

        ValueError naming the first that is not; ValidationError when an override does not fit.
        """
        experiment = self.experiment(name)
        teacher = [experiment.teacher] if experiment.teacher else []
        for key, used in (("features", experiment.encoders), ("text", [experiment.text]), ("teacher", teacher)):
            for encoder in used:
                if encoder not in self.encoders:
                    raise ValueError(f"{key} of experiment {name!r} names encoder {encoder!r}: {choice(encoder, self.encoders)}")
        grids = {name: self.network(name).sampling.every for name in experiment.encoders if not self.imported(name)}
        if len(set(grids.values())) > 1:
            each = ", ".join(f"{name} {every:g}" for name, every in grids.items())
            raise ValueError(f"features of experiment {name!r} are taken row by row, but their sampling.every differ: {each}")
        for key, tower in (("text", experiment.text), ("teacher", experiment.teacher)):
            if tower and not self.imported(tower) and not self.network(tower).reads_text:
                raise ValueError(f"{key} of experiment {name!r} is {tower!r}, which has no text tower")

    @property
    def source(self) -> str:
        """The file it was read from, for messages; several are joined by ` + `."""
        return self._source

    @property
    def layout(self) -> Layout:
        """Where the files of this configuration lie: below `<results>/<dataset name>`."""
        return Layout(Path(self.results) / self.dataset.name)

    @property
    def models(self) -> dict[str, dict]:
        """Every named model, whichever target trains it; of those that only `compare` trains, the ones that fit."""
        compared = {name: over for name, over in self.compared.items() if name not in self._unfit}
        return {**self.experiments, **self.ablations, **self.sweeps, **compared}

    @property
    def compared(self) -> dict[str, dict]:
        """The models `snakemake compare` sets side by side; a name that is no experiment is a preset's."""
        methods = self.compare.methods
        if isinstance(methods, dict):
            return methods
        return {name: self.experiments.get(name, {"preset": name, **self.compare.beside}) for name in methods or self.experiments}

    def group(self, target: str) -> list[tuple[str, int]]:
        """The runs of a target: `table` (experiments), `ablation`, `sweeps` or `compare`. ConfigError for another."""
        targets = {
            "table": (self.experiments, self.seeds),
            "ablation": (self.ablations, self.ablation_seeds),
            "sweeps": (self.sweeps, self.ablation_seeds),
            "compare": (self.compared, self.compare.seeds or self.seeds),
        }
        if target not in targets:
            raise unknown("target", target, targets, where="--target")
        names, seeds = targets[target]
        return [(name, seed) for name in names if name not in self._unfit for seed in seeds]

    def check_target(self, target: str) -> None:
        """ConfigError when a target has no model; and to compare, of the first method that does not fit, which other targets pass over."""
        if target == "compare":
            for error in self._unfit.values():
                raise error
        if not self.group(target):
            section = {"ablation": "ablations", "compare": "compare.methods"}.get(target, target)
            raise ConfigError(f"`{section}` names no model", where=self.source, fix=f"add one, or run another target than `{target}`")

    def imported(self, name: str) -> bool:
        """Whether an encoder's files come from a published bundle, so that no job makes them. ConfigError when there is no such encoder."""
        return isinstance(self._encoder(name), Imported)

    def network(self, name: str) -> Encoder:
        """The settings of an encoder that is run here. ValueError for an imported one, which has none."""
        settings = self._encoder(name)
        if isinstance(settings, Imported):
            raise ValueError(f"encoder {name!r} was imported from a published bundle: nothing can be encoded with it")
        return settings

    def _encoder(self, name: str) -> Encoder | Imported:
        if name not in self.encoders:
            raise unknown("encoder", name, self.encoders, where=self.source)
        return self.encoders[name]

    @property
    def streams(self) -> dict[str, Stream]:
        """Every stream some encoder needs, by name; text-only use of an encoder adds none."""
        used = {name for experiment in self.models for name in self.experiment(experiment).encoders}
        wanted = [self.network(name).stream for name in self.encoders if name in used and not self.imported(name)]
        return {stream.name: stream for stream in wanted}

    def experiment(self, name: str) -> Experiment:
        """The named experiment: its overrides on its preset on the top-level values on the variant's.

        ValidationError when an override does not fit; ConfigError when there is no such experiment or preset.
        """
        if name not in self.models:
            raise unknown("experiment", name, self.models, where=self.source)
        base, over = self.model_dump(include=set(Experiment.model_fields), exclude_unset=True), self.models[name]
        if "preset" in over:
            for key in presets.REPLACED:
                base.pop(key, None)
            variant = over.get("variant", base.get("variant", "released"))
            where, dataset = f"the preset of {name!r}", self.dataset.model_dump(include={"kind", "name"})
            method = presets.values(over["preset"], dataset, where=where, variant=variant)
            over = merge(method, {key: value for key, value in over.items() if key != "preset"})
        model = over.get("model")
        if isinstance(model, dict) and model.get("kind", self.model.kind) != self.model.kind:
            base.pop("model", None)  # the keys of another kind mean nothing to this one
        elif variants.kind({"model": merge(base.get("model", {}), model or {})}) != variants.kind({"model": self.model}):
            base.get("model", {}).pop("base", None)  # nor do those of a plug-in's base to another one
        given = merge(base, over)
        return Experiment.model_validate(merge(variants.defaults(given.get("variant", "released"), variants.kind(given)), given))


def _section(values: dict, key: str) -> dict:
    """A section of a configuration that is not checked yet."""
    section = values.get(key, {})
    return section if isinstance(section, dict) else {"kind": section.kind, "name": section.name}
