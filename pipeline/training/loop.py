"""The training loop: epochs of video batches, a measure after each, the best one kept, the state saved (docs/method.md 7)."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.config.method import Experiment
from pipeline.core.errors import TrainingError
from pipeline.core.progress import Meter
from pipeline.objectives.total import step_of
from pipeline.training.batches import Batch, Batches, Sampler
from pipeline.training.checkpoint import State
from pipeline.training.optimizer import BertAdam
from pipeline.training.trainee import Trainee

STUCK_EPOCHS = 5  # a triplet this long at its starting value is not a slow start
STUCK_SHARE = 0.02
SAVE_EVERY = 5.0  # seconds of finished epochs a kill may cost


def loss_of(trainee: Trainee, batch: Batch, settings: Experiment, epoch: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of one batch and its weighted, detached terms. Shapes: see `Batch`; scalars. Source: docs/method.md 6.7."""
    precision = torch.bfloat16 if settings.training.precision == "bf16" else torch.float32
    step = step_of(
        trainee.model,
        batch.videos,
        batch.words,
        batch.labels,
        batch.teacher,
        teacher_frames=batch.teacher_frames,
        teacher_sentences=batch.teacher_sentences,
        needs=trainee.objective.needs,
        epoch=epoch,
        precision=precision,
    )
    terms: tuple[Tensor, dict[str, Tensor]] = trainee.objective(step)
    return terms


class Watch:
    """Notices a loss or gradient that is not a number, and says in which batch.

    Values are read back every `every` steps, since each reading makes a GPU wait.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._waiting: list[tuple[int, list[str], dict[str, Tensor], Tensor]] = []

    def add(self, step: int, videos: list[str], terms: dict[str, Tensor], norm: Tensor) -> None:
        """TrainingError when a term of one of the waiting steps, or its gradient's norm, is not finite."""
        self._waiting.append((step, videos, terms, norm))
        if len(self._waiting) >= self.every:
            self.check()

    def check(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        values = torch.stack([torch.stack([*(t.float() for t in terms.values()), norm.float()]) for _, _, terms, norm in waiting]).cpu()
        for (step, videos, terms, _), row in zip(waiting, values, strict=True):
            if row.isfinite().all():
                continue
            names = [name for name, value in zip([*terms, "gradient"], row, strict=True) if not value.isfinite()]
            raise TrainingError(
                f"{', '.join(names)} is not finite at step {step}",
                where=f"batch of videos {', '.join(videos)}",
                fix="look at these videos' features (NaN, infinities); or lower training.learning_rate; the last whole epoch is kept",
            )


def stuck(history: list[dict[str, float]], settings: Experiment) -> str | None:
    """A warning when a branch's triplet has stayed at twice the margin, its value when every score is the same: the model has collapsed.

    Source: docs/method.md 10 (seen with hidden 384 and rate 3e-4 on 400 videos, where 1e-4 or hidden 128 learn).
    """
    at_rest = 2 * settings.objectives.triplet.margin * settings.objectives.triplet.weight
    recent = history[-STUCK_EPOCHS:]
    if not at_rest or len(recent) < STUCK_EPOCHS:
        return None
    for branch in (name.removeprefix("triplet_") for name in recent[0] if name.startswith("triplet_")):
        if all(abs(row[f"triplet_{branch}"] - at_rest) < STUCK_SHARE * at_rest for row in recent):
            return (
                f"the {branch} branch's triplet has been at twice its margin for {STUCK_EPOCHS} epochs: all scores are alike, "
                "nothing is learnt; lower training.learning_rate (1e-4) or model.hidden (128)"
            )
    return None


def train(
    trainee: Trainee,
    optimizer: BertAdam,
    batches: Batches,
    sampler: Sampler,
    settings: Experiment,
    state: State,
    *,
    measure: Callable[[], dict[str, float]],
    save: Callable[[State], None],
    say: Callable[[str], None] = lambda _: None,
    report: Callable[[dict[str, float]], None] = lambda _: None,
    check_every: int = 1,
) -> State:
    """Train from `state` until the last epoch, or until `patience` epochs brought no better SumR; returns the final state.

    `measure` ranks the selection split, `save` is called after an epoch, at most every `SAVE_EVERY` seconds, `say` gets the warnings,
    `report` the numbers of every epoch.
    Errors: TrainingError naming the batch whose loss is not finite.
    """
    options = settings.training
    with Meter(options.epochs * len(sampler), "train", "batch") as meter:
        meter.done, saved = state.epoch * len(sampler), time.monotonic()
        while state.epoch < options.epochs and state.stale <= options.patience:
            row = _epoch(trainee, optimizer, batches, sampler, settings, state.epoch, check_every, meter)
            row |= measure()
            state.epoch += 1
            state.steps = optimizer.steps
            state.history.append(row)
            report(row)
            if row["SumR"] > state.best_sumr:
                state.best_sumr, state.best_epoch, state.stale = row["SumR"], state.epoch, 0
                state.best = {name: value.detach().cpu().clone() for name, value in trainee.model.state_dict().items()}
            else:
                state.stale += 1
            sumr = f"SumR {row['SumR']:.1f} (best {state.best_sumr:.1f})"
            meter.note = f"epoch {state.epoch}/{options.epochs}, {sumr}, loss {row['loss']:.3f}"
            if (warning := stuck(state.history, settings)) and warning not in state.notes:
                state.notes.append(warning)
                say(f"warning: {warning}")
            if time.monotonic() - saved >= SAVE_EVERY:
                save(state)
                saved = time.monotonic()
    return state


def _epoch(
    trainee: Trainee,
    optimizer: BertAdam,
    batches: Batches,
    sampler: Sampler,
    settings: Experiment,
    epoch: int,
    check_every: int,
    meter: Meter,
) -> dict[str, float]:
    """One pass over the videos: {epoch, learning_rate, loss, gradient_norm, every weighted term}, means over the steps."""
    watch, rate = Watch(check_every), optimizer.rate
    sums: dict[str, Tensor] = {}
    trainee.train()
    for batch in batches.epoch(sampler):
        optimizer.zero_grad()
        loss, terms = loss_of(trainee, batch, settings, epoch)
        loss.backward()
        norm = optimizer.step()
        watch.add(optimizer.steps, batch.ids, terms, norm)
        for name, value in {"loss": loss.detach(), "gradient_norm": norm, **terms}.items():
            sums[name] = sums[name] + value if name in sums else value
        meter.update(1)
    watch.check()
    return {"epoch": epoch + 1, "learning_rate": rate, **{name: float(value) / len(sampler) for name, value in sums.items()}}
