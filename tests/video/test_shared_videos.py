"""Every sample file: the good ones give the frames of a full sequential decode, the broken ones their code, and none hangs."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.config.streams import Stream
from pipeline.video import grids
from pipeline.video.choose import choose
from pipeline.video.messages import Job, Outcome
from pipeline.video.pool import Pool
from pipeline.video.probe import probe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# Two of stills and one of windows, of few frames, for an hour has 54,000 of SlowFast's.
STREAMS = {s.name: s for s in (Stream(2.0, "middle", 224), Stream(1.0, "start", 64), Stream(60.0, "window", 112, 4, 2.0, 1))}
CLOSE = {name: 0.01 if stream.count == 1 else 1.0 for name, stream in STREAMS.items()}  # mean difference allowed, of 255
BROKEN = {
    "ax_invalid-bitstream.webm": "DECODE_ERROR",
    "ax_sample_audio_only.mp4": "NO_VIDEO_STREAM",
    "ax_sample_vvc.mp4": "UNSUPPORTED_CODEC",
    "ax_sample_with_invalid_nalu.mp4": "DECODE_ERROR",
    "d_audio_with_cover.mp4": "NO_VIDEO_STREAM",
    "d_audioonly_aac.mp4": "NO_VIDEO_STREAM",
    "dec_corrupted.mp4": "DECODE_ERROR",
    "small_AudioVideoInterleave.avi": "SHORT",
    "small_Mpeg4.mp4": "NO_VIDEO_STREAM",
    "small_mp4-with-audio.mp4": "NO_VIDEO_STREAM",
    "small_webm.webm": "SHORT",
    "x_bitflip200_faststart.mp4": "DECODE_ERROR",
    "x_garbage.mp4": "NOT_VIDEO",
    "x_jpeg_renamed.mp4": "NOT_VIDEO",
    "x_nonkey_start.ts": "FRAME_COUNT_MISMATCH",
    "x_trunc1000B.mp4": "TRUNCATED",
    "x_trunc60.mkv": "TRUNCATED",
    "x_trunc60.ts": "TRUNCATED",
    "x_trunc60_mjpeg.avi": "TRUNCATED",
    "x_trunc60_moovend.mp4": "TRUNCATED",
    "x_trunc60_vp9.webm": "TRUNCATED",
    "x_zero.mp4": "EMPTY",
}


def listed(folder: Path) -> dict[str, str]:
    with (folder / "MANIFEST.tsv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row["status"] for row in csv.DictReader(file, delimiter="\t")}


def read(files: list[Path], folder: Path, decoder: str) -> dict[str, Outcome]:
    recipes = {name: stream.recipe for name, stream in STREAMS.items()}
    jobs = [Job(path.name, (str(path),), recipes, folder / decoder / path.name, decoder=decoder) for path in files]
    with Pool(2, timeout=60.0, timeout_per_second=2.0, memory_mb=4096) as pool:
        return {outcome.job.video_id: outcome for outcome in pool.run(jobs)}


@pytest.fixture(scope="module")
def outcomes(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = shared / "videos"
    return read([folder / name for name in listed(folder)], tmp_path_factory.mktemp("all"), "pyav")


def reference(path: Path, outcome: Outcome) -> dict[str, float]:
    """Largest mean difference per stream between what was taken and a full sequential decode, on the frames shown at each instant."""
    wanted = {name: grids.instants(stream, outcome.duration).reshape(-1) for name, stream in STREAMS.items()}
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        assert stream is not None
        stamps = [frame.pts for frame in container.decode(stream)]
        rate, tick = stream.guessed_rate or stream.average_rate, stream.time_base
        assert rate is not None
        assert tick is not None
    if None in stamps or stamps != sorted(stamps):  # type: ignore[type-var]
        times = np.arange(len(stamps)) / float(rate)
    else:
        times = (np.asarray(stamps) - stamps[0]) * float(tick)
    assert outcome.duration == pytest.approx(times[-1] + 1 / float(rate), rel=0.05, abs=0.1)
    indices = {name: grids.shown(times, instants, 5e-4 if float(tick) == 1e-3 else 1e-6) for name, instants in wanted.items()}
    needed, pictures = {int(i) for found in indices.values() for i in found}, {}
    with av.open(str(path)) as container:
        for i, frame in enumerate(container.decode(container.streams.best("video"))):
            if i in needed:
                pictures[i] = frame.to_image().rotate(frame.rotation, expand=True)
    worst = {}
    for name, setting in STREAMS.items():
        folder, size = outcome.job.folder, setting.size
        frames = np.fromfile(folder / f"{name}.frames", np.uint8).reshape(-1, size, size, 3)
        windows = np.load(folder / f"{name}.windows.npy").reshape(-1)
        assert len(windows) == len(indices[name])
        same = {}
        for mine, theirs in zip(windows, indices[name], strict=True):
            if (mine, theirs) not in same:
                picture = pictures[int(theirs)]
                width, height = grids.scaled(picture.width, picture.height, size)
                left, top = grids.centre(width, height, size)
                whole = picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
                same[mine, theirs] = float(np.abs(np.asarray(whole).astype(int) - frames[mine]).mean())
        worst[name] = max(same.values())
    return worst


def test_every_file_has_its_verdict(shared: Path, outcomes: dict[str, Outcome]) -> None:
    status = listed(shared / "videos")
    assert {name: outcome.code for name, outcome in outcomes.items()} == {name: BROKEN.get(name, "") for name in status}
    assert {name for name, value in status.items() if value == "broken"} == set(BROKEN)
    print(Counter((outcome.decoder or "none", outcome.code or "right frames") for outcome in outcomes.values()))


@pytest.mark.long
def test_good_files_give_the_frames_of_a_full_decode(shared: Path, outcomes: dict[str, Outcome]) -> None:
    good = {name: outcome for name, outcome in outcomes.items() if not outcome.code}
    assert len(good) >= 100
    worst = {name: reference(shared / "videos" / name, outcome) for name, outcome in good.items()}
    assert {name: found for name, found in worst.items() if any(found[stream] > CLOSE[stream] for stream in STREAMS)} == {}
    print({stream: max(found[stream] for found in worst.values()) for stream in STREAMS})


def test_decord_gives_the_same_bytes_where_the_rule_allows_it(shared: Path, outcomes: dict[str, Outcome], tmp_path: Path) -> None:
    good = [Path(outcome.job.paths[0]) for outcome in outcomes.values() if not outcome.code]
    allowed = [path for path in good if choose(probe(str(path)), "decord").decoder == "decord"]
    assert len(allowed) >= 25
    for name, outcome in read(allowed, tmp_path, "decord").items():
        assert (outcome.code, outcome.decoder) == ("", "decord"), name
        for file in sorted(outcome.job.folder.iterdir()):
            assert file.read_bytes() == (outcomes[name].job.folder / file.name).read_bytes(), f"{name}: {file.name}"
    print(f"{len(allowed)} files read by decord, all bytes equal PyAV's")
