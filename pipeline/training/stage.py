"""The training stage: reads clips and text states, trains one experiment with one seed, writes its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core import kept, tracking
from pipeline.core.errors import TrainingError
from pipeline.core.layout import Layout
from pipeline.core.lease import device as leased
from pipeline.core.notices import say
from pipeline.core.provenance import code_digest
from pipeline.core.store import recipe_hash
from pipeline.models.base import Dims, build
from pipeline.models.checkpoint import save_model
from pipeline.objectives.total import Total
from pipeline.ranking import data
from pipeline.ranking.measure import measure
from pipeline.ranking.room import Room
from pipeline.ranking.split import Split
from pipeline.training import checkpoint, loop
from pipeline.training.advice import advice
from pipeline.training.batches import Batches, Sampler
from pipeline.training.checkpoint import State
from pipeline.training.optimizer import BertAdam
from pipeline.training.plot import learning_curves
from pipeline.training.splits import digest, resident, splits
from pipeline.training.trainee import Trainee

CHECK_EVERY = 16  # steps between two looks at the loss on a GPU


def run(config: Config, layout: Layout, experiment: str, seed: int, recipe: dict[str, Any], texts: data.MadeBy | None = None) -> None:
    """Train by `recipe` (jobs.recipes.training): runs/<experiment>/seed<k>/checkpoint.h5, the weights of the epoch with the best
    SumR on `selection_split`.

    The files of its text encoders must say they were made by `texts`, values of their recipes by encoder.
    Beside it training.png shows the course. After an epoch (at most every 5 s) the whole state goes into last.h5; a run that finds one
    made by the same recipe, data and code goes on from it, and on a CPU ends with the same bytes as one that was never stopped.
    Errors: TrainingError, DeviceError, StoreError.
    """
    chosen = config.experiment(experiment)
    torch.set_num_threads(chosen.training.threads)  # whatever the job was given: sums split among other threads are other sums
    room = Room(layout.run(experiment, seed), config.runtime.memory)
    train, selection = splits(chosen, layout, room, texts)
    with leased(config.runtime.device, share=config.runtime.share_gpu) as device:
        deterministic(device)
        _train(Run(config, layout, experiment, seed, chosen, {**recipe, "data": digest(train)}, train, selection, room), device)


@dataclass(frozen=True)
class Run:
    """One training: its names, its settings, its recipe with the data, the splits, and the room for what is made of them."""

    config: Config
    layout: Layout
    experiment: str
    seed: int
    settings: Experiment
    recipe: dict[str, Any]
    train: Split
    selection: Split
    room: Room

    @property
    def resumable(self) -> dict[str, Any]:
        """What a half-finished run must have been made by to be gone on with."""
        return {**self.recipe, "code": code_digest("pipeline.training.stage", *self.settings.code)}

    @property
    def named(self) -> dict[str, Any]:
        """What it is called where it is reported."""
        of = {"dataset": self.config.dataset.name, "experiment": self.experiment, "seed": self.seed}
        return {**of, "run": recipe_hash(self.recipe), "selection_split": self.selection.name}

    @property
    def last(self) -> Path:
        """The state of a run that is not finished."""
        return self.layout.resume(self.experiment, self.seed)


def _train(run: Run, device: torch.device) -> None:
    """Train, and write the checkpoint of the best epoch and the picture of the course."""
    settings = run.settings
    trainee, optimizer, sampler = prepare(settings, run.train, run.seed, device)
    state = State(notes=advice(settings, videos=len(run.train.videos), queries=len(run.train.queries)))
    _announce(run, state, device)
    if checkpoint.recipe_of(run.last) == recipe_hash(run.resumable):
        state, moments, states = checkpoint.load_state(run.last, trainee)
        optimizer.load(moments, state.steps)
        sampler.state = checkpoint.restore_random(states)
        say(f"going on after epoch {state.epoch} (best SumR {state.best_sumr:.1f} of epoch {state.best_epoch})")
    if settings.training.compile:
        torch.use_deterministic_algorithms(True, warn_only=torch.is_deterministic_algorithms_warn_only_enabled())  # tells the compiler
        for part in trainee.model.compiled():
            part.compile()
    train, selection = (resident(split, device) for split in (run.train, run.selection))
    with tracking.started(run.config.tracking, run.layout.tracking, run.named, settings.model_dump(mode="json"), state.epoch) as tracker:
        state = loop.train(
            trainee,
            optimizer,
            Batches(train, settings.model.max_words, device, raw=settings.model.reads_raw_rows),
            sampler,
            settings,
            state,
            measure=lambda: measure(trainee.model, selection, settings.evaluation, device, run.room),
            save=lambda state: checkpoint.save_state(
                run.last, trainee, optimizer.state(), checkpoint.random_states(sampler.state), state, run.resumable
            ),
            say=say,
            report=lambda row: tracker.log(int(row["epoch"]), tracking.named(row)),
            check_every=1 if device.type == "cpu" else CHECK_EVERY,
        )
    _finish(run, trainee, state, device)


def prepare(settings: Experiment, train: data.Split, seed: int, device: torch.device) -> tuple[Trainee, BertAdam, Sampler]:
    """A new model with its objective, the optimiser and the order of the videos, all from the seed. Errors: TrainingError."""
    options, videos, queries = settings.training, train.videos, train.queries
    if settings.model.reads_words and len(queries) > 1 and int(queries.offsets.diff().max()) <= 1:
        raise TrainingError(
            f"every query is one vector, and a model of kind {settings.model.kind} reads words",
            where="text",
            fix="set `text` to an encoder that gives the words of a query, or choose another model",
        )
    checkpoint.seed_everything(seed)
    read = _sentences(train) if settings.model.reads_sentence else queries.words
    dims = Dims(videos.frames.shape[2], read.shape[1], videos.frames.shape[1], videos.clips.shape[1])
    model = build(settings.model.kind, settings.model, dims)
    objective = Total(settings.objectives)
    objective.check(model, teacher=queries.teacher is not None, teacher_frames=videos.teacher is not None)
    trainee = Trainee(model, objective).to(device)
    model.recompute(options.recompute)
    sampler = Sampler(len(videos), options.batch_videos, seed)
    optimizer = BertAdam(
        trainee.named_parameters(),
        trainee.decays,
        learning_rate=options.learning_rate,
        total_steps=options.epochs * len(sampler),
        warmup=options.warmup,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm,
    )
    return trainee, optimizer, sampler


def _sentences(split: data.Split) -> Tensor:
    """The sentence vectors a model reads instead of words. Errors: TrainingError where there are none."""
    if split.queries.sentence is None:
        raise TrainingError(
            "the model reads a sentence vector of each query, and this import declared none",
            where="text",
            fix="name an encoder that makes one as `text`, such as CLIP",
        )
    return split.queries.sentence


def _announce(run: Run, state: State, device: torch.device) -> None:
    say(
        f"training {run.experiment}, seed {run.seed}: {len(run.train.videos)} videos, {len(run.train.queries)} queries; device {device}, "
        f"{torch.get_num_threads()} threads; the epoch is chosen by SumR on {run.selection.name!r} ({len(run.selection.queries)} queries)"
    )
    for name, counts in _dropped(run).items():
        say(f"warning: {name}: {counts['queries']} queries of {counts['videos']} videos that have no clips are left out")
    for note in state.notes:
        say(f"note: {note}")


def _dropped(run: Run) -> dict[str, dict[str, int]]:
    return {split.name: split.dropped for split in (run.train, run.selection) if any(split.dropped.values())}


def _finish(run: Run, trainee: Trainee, state: State, device: torch.device) -> None:
    """Write the best weights and the training's curves; a run of other settings that was there is kept, the unfinished run's state goes."""
    if former := kept.keep(run.layout, run.experiment, run.seed, recipe_hash(run.recipe), run.config.runtime.keep_runs):
        say(f"the run that was here is kept as {former} (`prvr runs`)")
    save_model(
        run.layout.checkpoint(run.experiment, run.seed),
        state.best,
        run.settings,
        trainee.model.dims,
        recipe=run.recipe,
        history=state.history,
        experiment=run.experiment,
        seed=run.seed,
        epoch=state.best_epoch,
        epochs_run=state.epoch,
        selection_split=run.selection.name,
        SumR=state.best_sumr,
        dropped=_dropped(run),
        notes=state.notes,
        device=device.type,
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
    )
    curves = run.layout.run(run.experiment, run.seed) / "training.png"
    title = f"{run.layout.root.name}: {run.experiment}, seed {run.seed}"
    learning_curves(curves, state.history, state.best_epoch, run.selection.name, title, run.settings.objectives.hard_from)
    run.last.unlink(missing_ok=True)
    say(f"best SumR {state.best_sumr:.1f} on {run.selection.name!r}, epoch {state.best_epoch} of {state.epoch}")


def deterministic(device: torch.device) -> None:
    """The same result for the same seed: on a CPU to the last bit, on a GPU as far as its kernels allow."""
    # Not `use_deterministic_algorithms`, which loads the whole compiler to tell it too: half of a short job's start.
    torch.set_deterministic_debug_mode("error" if device.type == "cpu" else "warn")
    # A debugging aid that costs a pass over every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False
