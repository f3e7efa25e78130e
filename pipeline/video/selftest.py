"""The frame-identity self-test: does this machine's decoder give the frame that is shown at each instant, for every kind of file?"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from av.codec.codec import UnknownCodecError

from pipeline.config.streams import Stream
from pipeline.video.grids import instants, shown, tolerance
from pipeline.video.messages import Job, Outcome
from pipeline.video.pool import Pool
from pipeline.video.specimens import FPS, SPECIMENS, Specimen, folder_of_frames, make, number

STREAMS = [Stream(0.2, "middle", 64), Stream(0.12, "start", 64), Stream(0.4, "window", 64, 8, 25.0, 1)]


def self_test(decoder: str = "pyav") -> list[tuple[str, bool, str]]:
    """(what, whether every row showed the right frame, how it was read or what went wrong) for each kind of clip.

    The clips are made on the spot (about a second) and decoded as the pipeline does, in a process of their own.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        truths: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        jobs, results = [], {}
        for specimen in SPECIMENS:
            try:
                path = make(specimen, folder)
            except UnknownCodecError:
                results[specimen.name] = (specimen.name, True, f"not tested: this FFmpeg cannot encode {specimen.codec}")
                continue
            truths[specimen.name] = specimen.truth()
            jobs.append(job(specimen.name, [path], folder, decoder))
        pictures = folder_of_frames(folder)
        truths["folder of frames"] = np.arange(30), np.arange(30) / 3.0
        jobs.append(job("folder of frames", [pictures], folder, decoder))
        truths["two files joined"] = _joined(SPECIMENS[0], SPECIMENS[5])
        jobs.append(job("two files joined", [folder / SPECIMENS[0].file, folder / SPECIMENS[5].file], folder, decoder))
        with Pool(1, timeout=60.0, timeout_per_second=2.0, memory_mb=4096) as pool:
            for outcome in pool.run(jobs):
                assert isinstance(outcome, Outcome)
                name = outcome.job.video_id
                wrong = faults(outcome, *truths[name])
                results[name] = (name, not wrong, wrong or f"{outcome.decoder}: {outcome.reason}")
        return [results[name] for name in [*(s.name for s in SPECIMENS), "folder of frames", "two files joined"]]


def job(name: str, paths: list[Path], folder: Path, decoder: str = "pyav") -> Job:
    """A decoding job into a folder of its own."""
    return Job(name, tuple(map(str, paths)), {stream.name: stream.recipe for stream in STREAMS}, folder / f"of {name}", decoder=decoder)


def faults(outcome: Outcome, numbers: np.ndarray, times: np.ndarray) -> str:
    """What is wrong with a decoded clip whose frame `numbers[i]` is shown from `times[i]` on; "" when nothing is."""
    if outcome.code:
        return f"{outcome.code}: {outcome.message}"
    for stream in STREAMS:
        folder = outcome.job.folder
        assert folder is not None
        frames = np.fromfile(folder / f"{stream.name}.frames", np.uint8).reshape(-1, stream.size, stream.size, 3)
        windows = np.load(folder / f"{stream.name}.windows.npy")
        wanted = instants(stream, outcome.duration)
        expected = numbers[shown(times, wanted, tolerance(1e-3))]
        shown_numbers = np.asarray([number(frame) for frame in frames])[windows]
        if expected.shape != shown_numbers.shape:
            return f"{len(shown_numbers)} rows, {len(expected)} expected"
        bad = np.argwhere(shown_numbers != expected)
        if len(bad):
            at = tuple(bad[0])
            what = f"at {wanted[at]:.3f} s frame {shown_numbers[at]} where {expected[at]} is shown"
            return f"{len(bad)} of {shown_numbers.size} frames are wrong with {outcome.decoder}: {what}"
    return ""


def _joined(first: Specimen, second: Specimen) -> tuple[np.ndarray, np.ndarray]:
    numbers, times = zip(first.truth(), second.truth(), strict=True)
    return np.concatenate(numbers), np.concatenate([times[0], times[0][-1] + 1 / FPS + times[1]])
