"""Training on arrays of one's own, without files: what the stages do from features to a checkpoint, in memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.clips.stage import BATCH, empty, merge, times
from pipeline.config import base, variants
from pipeline.config.method import Experiment
from pipeline.core.errors import TrainingError
from pipeline.datasets import rows, table
from pipeline.models.base import Retriever
from pipeline.models.checkpoint import save_model
from pipeline.ranking import data
from pipeline.ranking.gallery import ScoreMatrices
from pipeline.ranking.measure import measure, rank
from pipeline.ranking.metrics import ranks, recalls
from pipeline.ranking.split import ARRAYS
from pipeline.training import loop
from pipeline.training.batches import Batches
from pipeline.training.checkpoint import State
from pipeline.training.stage import deterministic, prepare


def experiment(**values: Any) -> Experiment:
    """Settings of one model, as an experiment of a configuration has them (`model={"hidden": 64}`), the rest from the variant.

    Errors: pydantic's ValidationError, naming every wrong key and value.
    """
    named = {"features": ["arrays"], "text": "arrays", **values}
    return Experiment.model_validate(base.merge(variants.defaults(named.get("variant", "released"), variants.kind(named)), named))


@dataclass(frozen=True)
class Arrays:
    """Videos and the queries about them.

    Shapes: `videos` id -> [N, D] feature rows, one after another in time, any N; `queries` pairs of a video's id and the states [L, Dt] of
    the query's words; `teacher` [Q, T], a sentence vector of each query whose relations TCPL preserves (None: the last word's state, as
    in CLIP); `seconds` a row covers, where times are wanted; `sentences` [Q, E], for a model that reads those instead of words;
    `teacher_frames` id -> [N, T], what the encoder of `teacher` sees in the videos, for objectives that learn from it.
    """

    videos: Mapping[str, np.ndarray]
    queries: Sequence[tuple[str, np.ndarray]]
    teacher: np.ndarray | None = None
    seconds: float = float("nan")
    sentences: np.ndarray | None = None
    teacher_frames: Mapping[str, np.ndarray] | None = None

    def split(self, settings: Experiment, name: str = "arrays") -> data.Split:
        """The videos pooled and merged, the queries flat. Errors: TrainingError: what does not fit together, or `clips.window`."""
        self._check()
        if settings.clips.window is not None:
            raise TrainingError(
                "a window is learnt from the moments it shows, and arrays have none",
                fix="leave clips.window null and give each window as a video of its own",
            )
        ids = list(self.videos)
        place = {video: i for i, video in enumerate(ids)}
        given = [np.ascontiguousarray(self.videos[video], dtype=np.float32) for video in ids]
        merged = _merged(given, settings)
        for i, array in enumerate(given):
            edges = np.arange(len(array) + 1) * self.seconds
            merged["start"][i], merged["end"][i] = times(edges[:-1], edges[1:], settings.clips)
        durations = np.asarray([len(array) * self.seconds for array in given])
        tensors = {key: torch.from_numpy(merged[key]) for key in ARRAYS}
        seen = self._seen(merged["frame_count"], settings)
        videos = data.PooledVideos(ids, **tensors, start=merged["start"], end=merged["end"], duration=durations, teacher=seen, mapped=())
        names = [f"{video}#{i}" for i, (video, _) in enumerate(self.queries)]
        words = [np.asarray(states) for _, states in self.queries]
        teacher = np.stack([states[-1] for states in words]) if self.teacher is None else self.teacher
        queries = data.Queries(
            names,
            torch.tensor([place[video] for video, _ in self.queries]),
            torch.from_numpy(np.ascontiguousarray(np.concatenate(words))),
            torch.from_numpy(np.cumsum([0, *map(len, words)])),
            data.normalised(torch.from_numpy(np.asarray(teacher))),
            sentence=None if self.sentences is None else torch.from_numpy(np.asarray(self.sentences, dtype=np.float32)),
            teacher_sentence=None if self.teacher_frames is None else torch.from_numpy(np.asarray(teacher, dtype=np.float32)),
        )
        listed = [rows.Video(video, name, float(seconds)) for video, seconds in zip(ids, durations, strict=True)]
        asked = [rows.Query(query, video, name, query) for query, (video, _) in zip(names, self.queries, strict=True)]
        return data.Split(name, videos, queries, table.of(rows.Rows(tuple(listed), tuple(asked))))

    def _seen(self, count: np.ndarray, settings: Experiment) -> torch.Tensor | None:
        """The teacher's rows beside each frame. Shapes: `count` [V] frames of a video -> [V, F, T]."""
        if self.teacher_frames is None:
            return None
        merged = _merged([np.ascontiguousarray(self.teacher_frames[video], dtype=np.float32) for video in self.videos], settings)
        return torch.from_numpy(data.beside(merged["frames"], merged["frame_count"], count))

    def _check(self) -> None:
        """Errors: TrainingError when the arrays cannot be what they are called."""
        problems = [f"video {video!r} {wrong}" for video, array in self.videos.items() if (wrong := _wrong(array))]
        problems += [f"query {i} {wrong}" for i, (_, states) in enumerate(self.queries) if (wrong := _wrong(states))]
        problems += [f"query {i} is of video {of!r}, which is not there" for i, (of, _) in enumerate(self.queries) if of not in self.videos]
        for what, arrays in (("videos", list(self.videos.values())), ("queries", [states for _, states in self.queries])):
            if len(widths := {np.shape(array)[1:] for array in arrays}) > 1:
                problems.append(f"rows of {what} are of one width, given are {sorted(widths)}")
        for vectors in (self.teacher, self.sentences):
            if vectors is not None and len(vectors) != len(self.queries):
                problems.append(f"{len(vectors)} sentence vectors for {len(self.queries)} queries")
        problems += self._wrong_teacher()
        if not self.videos or not self.queries:
            problems.append(f"{len(self.videos)} videos and {len(self.queries)} queries: there must be some of both")
        if problems:
            listing = "\n    ".join(problems)
            raise TrainingError(f"the arrays do not fit together:\n    {listing}", fix="mend these; docs/python.md has an example")

    def _wrong_teacher(self) -> list[str]:
        """What is wrong with the teacher's rows."""
        if self.teacher_frames is None:
            return []
        seen = self.teacher_frames
        problems = [f"the teacher has no rows of video {video!r}" for video in self.videos if video not in seen]
        problems += [
            f"the teacher's rows of {video!r}: it {wrong}" for video in self.videos if video in seen and (wrong := _wrong(seen[video]))
        ]
        if self.teacher is None:
            problems.append("teacher_frames need `teacher`, the sentence vectors of the encoder they are from")
        elif len(widths := {np.shape(array)[-1] for array in (*seen.values(), self.teacher)}) > 1:
            problems.append(f"the teacher's rows and sentences are of one width, given are {sorted(widths)}")
        return problems


def _merged(given: Sequence[np.ndarray], settings: Experiment) -> dict[str, np.ndarray]:
    """What the clips stage makes of some videos' rows, times left out."""
    merged = empty(settings.clips, len(given), given[0].shape[1])
    for first in range(0, len(given), BATCH):
        some = given[first : first + BATCH]
        for key, values in merge(some, settings).items():
            merged[key][first : first + len(some)] = values
    return merged


def _wrong(array: np.ndarray) -> str:
    """What keeps an array from being rows of numbers, or nothing."""
    if np.ndim(array) != 2 or not len(array):
        return f"has the shape {np.shape(array)}, not [rows, values] with a row at least"
    return "" if np.isfinite(array).all() else "holds values that are not numbers"


@dataclass(frozen=True)
class Trained:
    """A model with the weights of its best epoch; `history` has one row per epoch (losses, recalls on what chose the epoch)."""

    model: Retriever
    settings: Experiment
    history: list[dict[str, float]]
    epoch: int
    sumr: float

    def rank(self, arrays: Arrays) -> ScoreMatrices:
        """Every query against every video. Shapes: [Q, V], `fused` and by branch, in the order given."""
        return rank(self.model, arrays.split(self.settings), self.settings.evaluation, next(self.model.parameters()).device)

    def recalls(self, arrays: Arrays) -> dict[str, float]:
        """R@1, R@5, R@10, R@100 and SumR in percent, of the fused score."""
        place = {video: i for i, video in enumerate(arrays.videos)}
        return recalls(ranks(self.rank(arrays).fused, np.asarray([place[video] for video, _ in arrays.queries])))

    def save(self, path: str | Path) -> None:
        """Write a checkpoint that `load_model` reads."""
        weights, about = self.model.state_dict(), {"epoch": self.epoch, "SumR": self.sumr}
        save_model(
            Path(path), weights, self.settings, self.model.dims, history=self.history, recipe=about, selection_split="arrays", **about
        )


def train(
    training: Arrays,
    selection: Arrays,
    settings: Experiment | None = None,
    *,
    seed: int = 9527,
    device: torch.device | str = "cpu",
    say: Callable[[str], None] = print,
) -> Trained:
    """Train a model; the epoch with the best SumR on `selection` is kept. The same seed gives the same weights, on a CPU to the last bit.

    Random generators and torch's settings are as before when it returns. `say` gets warnings.
    Errors: TrainingError (arrays that do not fit together, a loss that is not finite).
    """
    chosen, where = settings or experiment(), torch.device(device)
    # As in the workflow, videos that no query asks for are not trained on.
    asked = {video for video, _ in training.queries}
    training = replace(training, videos={v: a for v, a in training.videos.items() if v in asked})
    train_split, selected = (arrays.split(chosen, name) for arrays, name in ((training, "train"), (selection, "selection")))
    with _caller_kept():
        deterministic(where)
        torch.set_num_threads(chosen.training.threads)
        trainee, optimizer, sampler = prepare(chosen, train_split, seed, where)
        state = loop.train(
            trainee,
            optimizer,
            Batches(train_split, chosen.model.max_words, where, raw=chosen.model.reads_raw_rows),
            sampler,
            chosen,
            State(),
            measure=lambda: measure(trainee.model, selected, chosen.evaluation, where),
            save=lambda _: None,
            say=say,
        )
    trainee.model.load_state_dict(state.best)
    return Trained(trainee.model.eval(), chosen, state.history, state.best_epoch, state.best_sumr)


@contextmanager
def _caller_kept() -> Iterator[None]:
    """Put the caller's random generators and torch's determinism back afterwards."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    strictness = torch.get_deterministic_debug_mode()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark, threads = torch.backends.cudnn.benchmark, torch.get_num_threads()
    with torch.random.fork_rng():
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002
            torch.set_deterministic_debug_mode(strictness)
            torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            torch.backends.cudnn.benchmark = benchmark
            torch.set_num_threads(threads)
