"""Packed, prefetched, padded batches give what one video at a time gives, whatever happens to memory, for one encoder or several."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core.errors import DeviceError
from pipeline.core.source import Frames, Reading
from pipeline.encoders import batch_size, batching, open_clip
from pipeline.encoders.batch_size import BatchSize
from pipeline.encoders.batching import Encoding, Stats
from tests.encoders.conftest import SIZE, clip_entry, pixels


def frames_of(rows: dict[str, np.ndarray], at_once: int = 2) -> Generator[Frames]:
    """Every video's rows, some at a time."""
    for video_id, array in rows.items():
        reading = Reading(video_id)
        yield from (Frames(reading, "s", array[i : i + at_once]) for i in range(0, len(array), at_once))
        yield Frames(reading, "s", None)


def videos(*counts: int, size: int = 4) -> dict[str, np.ndarray]:
    return {f"v{i}": pixels(n, size, size, 3, seed=n) for i, n in enumerate(counts)}


def encoding(encode: Callable, size: int, wants: Iterable[str], stream: str = "s") -> tuple[Encoding, dict[str, np.ndarray]]:
    """An encoder at work, and what it will have written."""
    written: dict[str, np.ndarray] = {}
    return Encoding(
        stream, encode, BatchSize(size), frozenset(wants), lambda reading, rows: written.update({reading.video_id: rows})
    ), written


def run(rows: dict[str, np.ndarray], encode: Callable, size: int) -> tuple[Stats, dict[str, np.ndarray]]:
    at_work, written = encoding(encode, size, rows)
    batching.run(frames_of(rows), [at_work])
    return at_work.stats, written


def mean(rows: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(rows).float().mean((1, 2))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 64])
def test_every_row_comes_out_where_it_went_in(size: int) -> None:
    rows = videos(3, 1, 7, 2, 12, 1)
    stats, found = run(rows, mean, size)
    assert list(found) == list(rows)
    for name, array in rows.items():
        np.testing.assert_allclose(found[name], array.mean((1, 2)), rtol=1e-5)
    assert (stats.videos, stats.rows, stats.batch) == (6, 26, size)


def test_packing_fills_batches_across_videos() -> None:
    rows = videos(3, 1, 7, 2, size=1)
    packed = list(batching.pack(frames_of(rows), [encoding(mean, 5, rows)[0]]))
    assert [len(batch.rows) for batch in packed] == [5, 5, 3]
    spans = [(reading.video_id, count) for reading, count in packed[0].spans]
    assert spans == [("v0", 2), ("v0", 1), ("v0", 0), ("v1", 1), ("v1", 0), ("v2", 1)]
    np.testing.assert_array_equal(np.concatenate([batch.rows for batch in packed]), np.concatenate(list(rows.values())))


def test_two_encoders_of_one_reading() -> None:
    """Each takes the rows of its stream of the videos it lacks, from one pass, in batches of its own size."""
    rows = videos(3, 1, 7, 2)
    bright, b = encoding(mean, 4, ["v0", "v2"], "stills")
    dark, d = encoding(lambda rows: -mean(rows), 3, rows, "stills")
    other, o = encoding(mean, 2, rows, "windows")
    frames = (frames._replace(stream=stream) for frames in frames_of(rows) for stream in ("stills", "windows"))
    batching.run(frames, [bright, dark, other])
    assert (list(b), list(d), list(o)) == (["v0", "v2"], list(rows), list(rows))
    for name, array in rows.items():
        for found, sign in ((b, 1), (d, -1), (o, 1)):
            if name in found:
                np.testing.assert_allclose(found[name], sign * array.mean((1, 2)), rtol=1e-5)
    assert [each.stats.rows for each in (bright, dark, other)] == [10, 13, 13]


@pytest.mark.parametrize("size", [1, 4, 64])
def test_a_reading_that_failed_counts_for_nothing(size: int) -> None:
    """Its rows may be in batches already; what is read again is whole, and a video that stays bad is never written."""
    rows = videos(6, 5, 3)

    def frames() -> Generator[Frames]:
        for name in ("v0", "v1"):
            failing = Reading(name)
            yield from (Frames(failing, "s", rows["v2"]) for _ in range(3))
            failing.failed = True
        yield from frames_of({name: rows[name] for name in ("v0", "v2")})

    at_work, written = encoding(mean, size, rows)
    batching.run(frames(), [at_work])
    assert sorted(written) == ["v0", "v2"]
    np.testing.assert_allclose(written["v0"], rows["v0"].mean((1, 2)), rtol=1e-5)


def test_stored_bytes_do_not_depend_on_packing(clip_dir: Path) -> None:
    """One video at a time, all together, or in another order: the same bits, for a fixed batch size."""
    encoder = open_clip.load(clip_entry(clip_dir))
    rows = videos(3, 9, 1, 5, size=SIZE)

    def encode(chosen: list[int]) -> dict[str, np.ndarray]:
        return run({f"v{i}": rows[f"v{i}"] for i in chosen}, encoder.encode, 4)[1]

    together, backwards = encode([0, 1, 2, 3]), encode([3, 2, 1, 0])
    for i in range(4):
        alone = encode([i])[f"v{i}"]
        assert np.array_equal(together[f"v{i}"], alone)
        assert np.array_equal(backwards[f"v{i}"], alone)


def test_batch_size_changes_results_only_within_the_tolerance(clip_dir: Path) -> None:
    encoder = open_clip.load(clip_entry(clip_dir))
    rows = videos(3, 9, 1, 5, size=SIZE)
    found = [run(rows, encoder.encode, size)[1] for size in (1, 4, 16)]
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
    rows, encode = videos(30, 11, 23), Limited(5)
    stats, found = run(rows, encode, 32)
    for name, array in rows.items():
        np.testing.assert_allclose(found[name], array.mean((1, 2)), rtol=1e-5)
    assert (stats.batch, stats.halved) == (4, 3)
    assert encode.sizes[:3] == [32, 16, 8]
    assert set(encode.sizes[3:]) == {4}


def test_not_even_one_row_fits() -> None:
    with pytest.raises(DeviceError, match="one row"):
        run(videos(3), Limited(0), 2)


def test_errors_of_reader_encoder_and_writer_reach_the_caller() -> None:
    def bad_read() -> Generator[Frames]:
        yield from frames_of(videos(3))
        raise OSError("disk")

    def bad_write(reading: Reading, values: np.ndarray) -> None:
        raise ValueError("full")

    def bad_encode(rows: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("kernel")

    with pytest.raises(OSError, match="disk"):
        batching.run(bad_read(), [encoding(mean, 2, ["v0"])[0]])
    with pytest.raises(ValueError, match="full"):
        batching.run(frames_of(videos(3)), [Encoding("s", mean, BatchSize(2), frozenset(["v0"]), bad_write)])
    stop = threading.Event()
    with pytest.raises(RuntimeError, match="kernel"):
        batching.run(frames_of(videos(3)), [encoding(bad_encode, 2, ["v0"])[0]], stop)
    assert stop.is_set()
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
