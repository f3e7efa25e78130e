"""The clips stage: one shard's feature rows become 128 frames, 32 clips and their contexts per video, or per window of a long one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pipeline.clips import grids, pooling
from pipeline.clips.context import contexts
from pipeline.clips.op_tome import MergedClips, op_tome, uniform
from pipeline.clips.recipe import levels, recipe, recipe_name, schedule
from pipeline.clips.windows import windows
from pipeline.config.method import Clips, Experiment
from pipeline.config.schema import Config
from pipeline.core.errors import EncoderError
from pipeline.core.layout import Layout
from pipeline.core.progress import Meter
from pipeline.core.store import Ragged, Reader, create, open_store

BATCH = 8  # videos merged at once: few enough for the processor's cache, which is worth more than fewer calls
NORM_FLOOR = 1e-5  # as rows are normalised everywhere (docs/method.md 2.4)


def run(
    config: Config,
    layout: Layout,
    chosen: Experiment,
    shard: str,
    made_by: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write clips/<recipe>/<shard>.h5 from the features of the chosen encoders, which must be `made_by` these values of recipes.

    Shapes: table `videos` [video_id, duration s]; `frames` [V, F, D] and `clips` [V, C, D] un-normalised; `frame_count` [V] rows of
    `frames` that are not padding; `sizes` [V, C];
    `frame_to_clip` [V, F]; `context` [V, C], `context_count` [V], `context_ratio` [V]; `start`, `end` [V, F] s. With `clips.window` V
    counts windows, a video's one after the other, and the table has `start` and `end` [s] of each. Errors: GridError when
    the encoders' rows do not cover the same times, EncoderError for features that are not finite, StoreError.
    """
    with ExitStack() as stack:
        opened = {name: stack.enter_context(_open(layout, name, shard, (made_by or {}).get(name))) for name in chosen.features}
        stored = {name: reader.ragged("features", lazy=True) for name, reader in opened.items() if "features" in reader}
        ids = grids.check_videos(_ids(config, {name: stored[name].ids if name in stored else [] for name in chosen.features}))
        dims = {name: stored[name].values.shape[1] if name in stored else _declared(opened[name]) for name in chosen.features}
        units = [unit for video_id in ids for unit in _units(video_id, stored, chosen.clips.window)]
        result = empty(chosen.clips, len(units), sum(dims.values()))
        with Meter(len(units), f"clips {shard}", "video" if chosen.clips.window is None else "window") as meter:
            for first in range(0, len(units), BATCH):
                batch = units[first : first + BATCH]
                _fill(result, first, batch, stored, chosen)
                meter.update(len(batch))
    with create(layout.clips(recipe_name(chosen), shard), stage="clips", recipe=recipe(chosen), shard=shard, dims=dims) as writer:
        writer.table("videos", _table(units, windowed=chosen.clips.window is not None))
        for name, array in result.items():
            writer.array(name, array, finite=True)


class _Unit(NamedTuple):
    """What is pooled and ranked by itself: a video, or a window of one. `rows` of its own; `duration` of the whole video in seconds."""

    video_id: str
    rows: slice
    start: np.ndarray
    end: np.ndarray
    duration: float


def _units(video_id: str, stored: dict[str, Ragged], window: float | None) -> list[_Unit]:
    """The units of one video, whose encoders' rows must cover the same times."""
    spans = {name: (data.columns["start"][data.rows(video_id)], data.columns["end"][data.rows(video_id)]) for name, data in stored.items()}
    grids.check(video_id, spans)
    start, end = next(iter(spans.values()))
    first = next(iter(stored.values()))
    duration = float(first.items["duration"][first.index[video_id]])
    parts = [slice(0, len(start))] if window is None else windows(start, end, window)
    return [_Unit(video_id, rows, start[rows], end[rows], duration) for rows in parts]


def _table(units: Sequence[_Unit], *, windowed: bool) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "video_id": pd.Series([unit.video_id for unit in units], dtype=object),
            "duration": np.asarray([unit.duration for unit in units], dtype=np.float64),
        }
    )
    if windowed:
        table["start"] = np.asarray([unit.start[0] for unit in units], dtype=np.float64)
        table["end"] = np.asarray([unit.end[-1] for unit in units], dtype=np.float64)
    return table


def _open(layout: Layout, encoder: str, shard: str, made_by: Mapping[str, Any] | None) -> AbstractContextManager[Reader]:
    return open_store(layout.features(encoder, shard), stage="features", encoder=encoder, shard=shard, recipe=made_by)


def _ids(config: Config, videos: dict[str, list[str]]) -> dict[str, list[str]]:
    """encoder -> its videos, without those of imported encoders that were not to be computed: in quarantine, or their files absent."""
    computed = [ids for name, ids in videos.items() if not config.imported(name)]
    if not computed:
        return videos
    wanted = set[str]().union(*computed)
    return {name: [i for i in ids if i in wanted] for name, ids in videos.items()}


def empty(settings: Clips, videos: int, width: int) -> dict[str, np.ndarray]:
    """Room for what a shard's file holds of V videos of D values a row; see `run`."""
    frames, clips, stored = settings.frames, settings.clips, np.dtype(settings.dtype)
    return {
        "frames": np.empty((videos, frames, width), stored),
        "frame_count": np.empty(videos, np.int32),
        "clips": np.empty((videos, clips, width), stored),
        "sizes": np.empty((videos, clips), np.float32),
        "frame_to_clip": np.empty((videos, frames), np.uint8),
        "context": np.empty((videos, clips), np.uint8),
        "context_count": np.empty(videos, np.uint16),
        "context_ratio": np.empty(videos, np.float32),
        "start": np.empty((videos, frames), np.float32),
        "end": np.empty((videos, frames), np.float32),
    }


def _fill(result: dict[str, np.ndarray], first: int, batch: Sequence[_Unit], stored: dict[str, Ragged], chosen: Experiment) -> None:
    """Compute one batch of units into its rows of `result`."""
    settings, place = chosen.clips, slice(first, first + len(batch))
    videos = []
    for i, unit in enumerate(batch):
        videos.append(_rows(unit, stored, settings.join))
        result["start"][first + i], result["end"][first + i] = times(unit.start, unit.end, settings)
    for name, values in merge(videos, chosen).items():
        result[name][place] = values


def times(start: np.ndarray, end: np.ndarray, settings: Clips) -> tuple[np.ndarray, np.ndarray]:
    """The time each row of `frames` covers. Shapes: [N] s twice -> float32 [F] s twice."""
    if settings.frame_rows == "capped" and len(start) <= settings.frames:
        return pooling.padded_times(start, end, settings.frames)
    return pooling.times(start, end, settings.frames, settings.last_row)


def merge(videos: Sequence[np.ndarray], chosen: Experiment) -> dict[str, np.ndarray]:
    """Frames, clips and contexts of a few videos from their rows.

    Shapes: [N_i, D] float32 each -> `frames` [V, F, D], `frame_count` [V], `clips` [V, C, D], `sizes` [V, C], `frame_to_clip` [V, F],
    `context` [V, C], `context_count` [V], `context_ratio` [V]. Source: docs/method.md 2-4.
    """
    settings = chosen.clips
    kept = [len(rows) if settings.frame_rows == "capped" else settings.frames for rows in videos]
    counts = torch.tensor(kept).clamp_max(settings.frames)
    frames = torch.from_numpy(np.stack([_frames(rows, settings) for rows in videos]))
    if settings.method == "rows":
        merged = _straight(videos, counts, settings)
    else:
        masses = [pooling.sizes(len(rows), settings.frames, settings.size_unit, settings.last_row) for rows in videos]
        weights = torch.from_numpy(np.stack(masses))
        if settings.method == "uniform":
            merged = uniform(frames, settings.clips, weights)
        else:
            merged = op_tome(frames, schedule(settings, chosen.variant), settings.similarity, weights)
    # contexts are counted on the rows the model sees, which are normalised
    frozen = merged.clips / (merged.clips.norm(dim=2, keepdim=True) + NORM_FLOOR)
    grouped = contexts(
        frozen,
        merged.sizes,
        levels(settings, chosen.variant),
        settings.tau,
        context_ratio=settings.context_ratio,
        context_choice=settings.context_choice,
        context_merge=settings.context_merge,
    )
    computed = {
        "frames": frames,
        "frame_count": counts,
        "clips": merged.clips,
        "sizes": merged.sizes,
        "frame_to_clip": merged.frame_to_clip,
        "context": grouped.assignment,
        "context_count": grouped.counts,
        "context_ratio": grouped.ratio,
    }
    return {name: values.numpy() for name, values in computed.items()}


def _frames(rows: np.ndarray, settings: Clips) -> np.ndarray:
    """The frame rows of a video: pooled, or as they are and padded. Shapes: [N, D] -> [F, D]. Source: docs/method.md 2.2."""
    if settings.frame_rows == "capped" and len(rows) <= settings.frames:
        return pooling.padded(rows, settings.frames)
    return pooling.average_to_fixed_length(rows, settings.frames, settings.last_row)


def _straight(videos: Sequence[np.ndarray], counts: Tensor, settings: Clips) -> MergedClips:
    """Clips as means of the feature rows; the j-th of n frames belongs to clip floor(j * C / n), padding to the last.

    Shapes: `counts` [V] frames of each video.
    """
    clips = [pooling.average_to_fixed_length(rows, settings.clips, settings.last_row) for rows in videos]
    masses = [pooling.sizes(len(rows), settings.clips, settings.size_unit, settings.last_row) for rows in videos]
    sizes = torch.from_numpy(np.stack(masses))
    if settings.size_unit == "slots":
        sizes = sizes * counts[:, None] / settings.clips
    owner = torch.arange(settings.frames) * settings.clips // counts[:, None]
    return MergedClips(torch.from_numpy(np.stack(clips)), sizes, owner.clamp_max(settings.clips - 1))


def _rows(unit: _Unit, stored: dict[str, Ragged], join: str) -> np.ndarray:
    """The encoders' rows of a unit side by side. Shapes: -> float32 [N, D]."""
    parts = []
    for name, data in stored.items():
        first = data.rows(unit.video_id).start
        rows = np.asarray(data.values[first + unit.rows.start : first + unit.rows.stop]).astype(np.float32)
        if not np.isfinite(rows).all():
            raise EncoderError(
                f"features of {name} hold values that are not numbers",
                where=f"video {unit.video_id}",
                fix="encode again with `precision: fp32`",
            )
        parts.append(rows / (np.linalg.norm(rows, axis=1, keepdims=True) + NORM_FLOOR) if join == "unit" else rows)
    return np.concatenate(parts, axis=1)


def _declared(reader: Reader) -> int:
    """The width of an encoder's features where the shard has no video to show it."""
    return int(reader.attrs.get("dim", 0))
