"""Packed, prefetched, padded batches give what one video at a time gives, whatever happens to memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core.errors import DeviceError
from pipeline.encoders import batch_size, batching, open_clip
from pipeline.encoders.batch_size import BatchSize
from pipeline.encoders.batching import VideoRows
from tests.encoders.conftest import SIZE, clip_entry, pixels


def videos_of(rows: list[np.ndarray]) -> list[VideoRows]:
    return [VideoRows(f"v{i}", len(array), lambda a, b, array=array: array[a:b]) for i, array in enumerate(rows)]  # type: ignore[misc]


def mean(rows: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(rows).float().mean((1, 2))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 64])
def test_every_row_comes_out_where_it_went_in(size: int) -> None:
    rows = [pixels(n, 4, 4, 3, seed=n) for n in (3, 1, 7, 2, 12, 1)]
    found: dict[str, np.ndarray] = {}
    stats = batching.run(videos_of(rows), mean, BatchSize(size), lambda i, values: found.update({i: values}))
    assert list(found) == [f"v{i}" for i in range(6)]
    for i, array in enumerate(rows):
        np.testing.assert_allclose(found[f"v{i}"], array.mean((1, 2)), rtol=1e-5)
    assert (stats.videos, stats.rows, stats.batch) == (6, 26, size)


def test_packing_fills_batches_across_videos() -> None:
    rows = [pixels(n, 1, 1, 3) for n in (3, 1, 7, 2)]
    packed = list(batching.pack(videos_of(rows), BatchSize(5)))
    assert [len(batch.rows) for batch in packed] == [5, 5, 3]
    assert packed[0].spans == [(0, 0, 3), (1, 0, 1), (2, 0, 1)]
    np.testing.assert_array_equal(np.concatenate([batch.rows for batch in packed]), np.concatenate(rows))


def test_stored_bytes_do_not_depend_on_packing(clip_dir: Path) -> None:
    """One video at a time, all together, or in another order: the same bits, for a fixed batch size."""
    encoder = open_clip.load(clip_entry(clip_dir))
    rows = [pixels(n, SIZE, SIZE, 3, seed=n) for n in (3, 9, 1, 5)]

    def encode(chosen: list[int]) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        videos = videos_of(rows)
        batching.run([videos[i] for i in chosen], encoder.encode, BatchSize(4), lambda i, v: found.update({i: v}))
        return found

    together, backwards = encode([0, 1, 2, 3]), encode([3, 2, 1, 0])
    for i in range(4):
        alone = encode([i])[f"v{i}"]
        assert np.array_equal(together[f"v{i}"], alone)
        assert np.array_equal(backwards[f"v{i}"], alone)


def test_batch_size_changes_results_only_within_the_tolerance(clip_dir: Path) -> None:
    encoder = open_clip.load(clip_entry(clip_dir))
    rows = [pixels(n, SIZE, SIZE, 3, seed=n) for n in (3, 9, 1, 5)]
    found: list[dict[str, np.ndarray]] = []
    for size in (1, 4, 16):
        found.append({})
        batching.run(videos_of(rows), encoder.encode, BatchSize(size), lambda i, v, to=found[-1]: to.update({i: v}))  # type: ignore[misc]
    for other in found[1:]:
        for name, values in found[0].items():
            np.testing.assert_allclose(other[name], values, atol=1e-5, rtol=1e-4)


class Limited:
    """An encoder on a device with room for `most` rows."""

    def __init__(self, most: int) -> None:
        self.most, self.sizes = most, []  # type: tuple[int, list[int]]

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(rows))
        if len(rows) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return mean(rows)


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    rows = [pixels(n, 4, 4, 3, seed=n) for n in (30, 11, 23)]
    encode, found = Limited(5), {}  # type: tuple[Limited, dict[str, np.ndarray]]
    stats = batching.run(videos_of(rows), encode, BatchSize(32), lambda i, values: found.update({i: values}))
    for i, array in enumerate(rows):
        np.testing.assert_allclose(found[f"v{i}"], array.mean((1, 2)), rtol=1e-5)
    assert (stats.batch, stats.halved) == (4, 3)
    assert encode.sizes[:3] == [32, 16, 8]
    assert set(encode.sizes[3:]) == {4}


def test_not_even_one_row_fits() -> None:
    with pytest.raises(DeviceError, match="one row"):
        batching.run(videos_of([pixels(3, 4, 4, 3)]), Limited(0), BatchSize(2), lambda i, values: None)


def test_errors_of_reader_encoder_and_writer_reach_the_caller() -> None:
    def bad_read(a: int, b: int) -> np.ndarray:
        raise OSError("disk")

    def bad_write(video_id: str, values: np.ndarray) -> None:
        raise ValueError("full")

    def bad_encode(rows: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("kernel")

    good = videos_of([pixels(3, 4, 4, 3)])
    with pytest.raises(OSError, match="disk"):
        batching.run([*good, VideoRows("bad", 2, bad_read)], mean, BatchSize(2), lambda i, values: None)
    with pytest.raises(ValueError, match="full"):
        batching.run(good, mean, BatchSize(2), bad_write)
    with pytest.raises(RuntimeError, match="kernel"):
        batching.run(good, bad_encode, BatchSize(2), lambda i, values: None)
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_prefetch_is_bounded_and_stops() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(1000):
            made.append(i)
            yield i

    ahead = batching.prefetch(items(), depth=2)
    assert next(ahead) == 0
    ahead.close()
    assert len(made) <= 5
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_batch_size_is_grown_until_it_stops_paying() -> None:
    speeds = {1: 10.0, 2: 19.0, 4: 33.0, 8: 50.0, 16: 51.0, 32: 90.0}
    assert batch_size.grow(speeds.__getitem__) == 8

    def limited(rows: int) -> float:
        if rows > 16:
            raise torch.OutOfMemoryError
        return float(rows)

    assert batch_size.grow(limited) == 8  # a step back from the last that fitted
    assert batch_size.grow(float, most=64) == 64


def test_cpu_batches() -> None:
    assert batch_size.cpu_batch(224 * 224 * 3) == 8
    assert batch_size.cpu_batch(32 * 224 * 224 * 3) == 1
    assert batch_size.cpu_batch(12) == 64
