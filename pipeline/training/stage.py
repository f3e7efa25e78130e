"""The training stage: reads clips and text states, trains one experiment with one seed, writes its checkpoint."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from typing import Any

import psutil
import torch

from pipeline.clips.recipe import recipe_name
from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core.layout import Layout
from pipeline.core.lease import device as leased
from pipeline.core.provenance import code_digest
from pipeline.core.store import recipe_hash
from pipeline.models.checkpoint import dimensions, save_model
from pipeline.models.msc import DualBranch
from pipeline.ranking import data
from pipeline.ranking.measure import measure
from pipeline.training import checkpoint, loop
from pipeline.training.advice import advice
from pipeline.training.batches import Batches, Sampler
from pipeline.training.checkpoint import State
from pipeline.training.optimizer import BertAdam
from pipeline.training.plot import learning_curves

MEMORY_SHARE = 0.6  # of the free memory that resident training data may take
CHECK_EVERY = 16  # steps between two looks at the loss on a GPU


def run(config: Config, layout: Layout, experiment: str, seed: int, recipe: dict[str, Any]) -> None:
    """Train by `recipe` (jobs.recipes.training): runs/<experiment>/seed<k>/checkpoint.h5, the weights of the epoch with the best
    SumR on `selection_split`.

    Beside it training.png shows the course. After an epoch (at most every 5 s) the whole state goes into last.h5; a run that finds one
    made by the same recipe, data and code goes on from it, and on a CPU ends with the same bytes as one that was never stopped.
    Errors: TrainingError, DeviceError, StoreError.
    """
    chosen = config.experiment(experiment)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(config.runtime.threads)
    spill = layout.run(experiment, seed) / ".spill"
    try:
        train, selection = _splits(chosen, layout, spill)
        with leased(config.runtime.device, share=config.runtime.share_gpu) as device:
            _deterministic(device)
            _train(chosen, layout, experiment, seed, train, selection, device, {**recipe, "data": _digest(train)})
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _train(
    chosen: Experiment,
    layout: Layout,
    experiment: str,
    seed: int,
    train: data.Split,
    selection: data.Split,
    device: torch.device,
    recipe: dict[str, Any],
) -> None:
    options = chosen.training
    checkpoint.seed_everything(seed)
    model = DualBranch(
        chosen.model,
        train.videos.frames.shape[2],
        train.queries.words.shape[1],
        frames=train.videos.frames.shape[1],
        clips=train.videos.clips.shape[1],
    ).to(device)
    model.recompute(options.recompute)
    sampler = Sampler(len(train.videos), options.batch_videos, seed)
    optimizer = BertAdam(
        model.named_parameters(),
        learning_rate=options.learning_rate,
        total_steps=options.epochs * len(sampler),
        warmup=options.warmup,
        weight_decay=options.weight_decay,
        clip_norm=options.clip_norm,
    )
    dropped = {split.name: split.dropped for split in (train, selection) if any(split.dropped.values())}
    state = State(notes=advice(chosen, videos=len(train.videos), queries=len(train.queries)))
    last = layout.resume(experiment, seed)
    resumable = {**recipe, "code": code_digest("pipeline.training.stage")}
    _say(
        f"training {experiment}, seed {seed}: {len(train.videos)} videos, {len(train.queries)} queries; device {device}, "
        f"{torch.get_num_threads()} threads; the epoch is chosen by SumR on {selection.name!r} ({len(selection.queries)} queries)"
    )
    for name, counts in dropped.items():
        _say(f"warning: {name}: {counts['queries']} queries of {counts['videos']} videos that have no clips are left out")
    for note in state.notes:
        _say(f"note: {note}")
    if checkpoint.recipe_of(last) == recipe_hash(resumable):
        state, moments, states = checkpoint.load_state(last, model)
        optimizer.load(moments, state.steps)
        sampler.state = checkpoint.restore_random(states)
        _say(f"going on after epoch {state.epoch} (best SumR {state.best_sumr:.1f} of epoch {state.best_epoch})")
    if options.compile:
        for part in (model.frame, model.clip, model.query):
            part.compile()
    train, selection = (_resident(split, device) for split in (train, selection))

    def save(state: State) -> None:
        checkpoint.save_state(last, model, optimizer.state(), checkpoint.random_states(sampler.state), state, resumable)

    state = loop.train(
        model,
        optimizer,
        Batches(train, chosen.model.max_words, device),
        sampler,
        chosen,
        state,
        measure=lambda: measure(model, selection, chosen.evaluation, device),
        save=save,
        say=_say,
        check_every=1 if device.type == "cpu" else CHECK_EVERY,
    )
    save_model(
        layout.checkpoint(experiment, seed),
        state.best,
        chosen,
        dimensions(model),
        recipe=recipe,
        history=state.history,
        experiment=experiment,
        seed=seed,
        epoch=state.best_epoch,
        epochs_run=state.epoch,
        selection_split=selection.name,
        SumR=state.best_sumr,
        dropped=dropped,
        notes=state.notes,
        device=device.type,
        threads=torch.get_num_threads(),
        torch=str(torch.__version__),
    )
    curves = layout.run(experiment, seed) / "training.png"
    learning_curves(curves, state.history, state.best_epoch, selection.name, f"{layout.root.name}: {experiment}, seed {seed}")
    last.unlink(missing_ok=True)
    _say(f"best SumR {state.best_sumr:.1f} on {selection.name!r}, epoch {state.best_epoch} of {state.epoch}")


def _splits(chosen: Experiment, layout: Layout, spill: Any) -> tuple[data.Split, data.Split]:
    """The training split, and the one that chooses the epoch."""
    clips = layout.clips(recipe_name(chosen), "*").parent
    size = sum(path.stat().st_size for path in clips.glob("*.h5"))
    free = psutil.virtual_memory().available
    if size > MEMORY_SHARE * free:
        _say(f"warning: the clips ({size / 1e9:.1f} GB) do not fit into {free / 1e9:.1f} GB of free memory; they are read from {spill}")
    tcpl = chosen.objectives.tcpl
    files: dict[str, Any] = {"annotations": layout.annotations, "clips": clips, "text": layout.text(chosen.text)}
    files["spill"] = spill if size > MEMORY_SHARE * free else None
    train = data.load(
        "train",
        **files,
        teacher=layout.text(chosen.teacher) if chosen.teacher else None,
        needs_teacher=bool(tcpl.distance or tcpl.angle),
    )
    return train, data.load(chosen.training.selection_split, **files, training=False, needs_teacher=False)


def _resident(split: data.Split, device: torch.device) -> data.Split:
    """The split on the GPU when it fits there, so that a batch is gathered without a copy."""
    if device.type != "cuda":
        return split
    free, _ = torch.cuda.mem_get_info(device)
    return split.to(device) if split.bytes < MEMORY_SHARE * free else split


def _digest(split: data.Split) -> str:
    """What the split holds: its ids, how every video was merged, some of its rows, and [EOS] of every query, which has seen its words."""
    videos, queries = split.videos, split.queries
    digest = hashlib.sha256(repr((videos.ids, queries.ids)).encode())
    for rows in (videos.frames[:, 0], videos.clips[:, -1], videos.frame_to_clip, videos.context, queries.words[queries.offsets[1:] - 1]):
        digest.update(rows.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _deterministic(device: torch.device) -> None:
    """The same result for the same seed: on a CPU to the last bit (for one thread count), on a GPU as far as its kernels allow."""
    torch.use_deterministic_algorithms(True, warn_only=device.type != "cpu")
    # A debugging aid that costs a pass over every new tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = False


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
