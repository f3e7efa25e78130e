"""Every kind of clip gives the frame that is shown, by either decoder; what is read twice is the same."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.config.streams import Stream
from pipeline.core.errors import VideoError
from pipeline.video.decode import Decoded, decode, inspect
from pipeline.video.messages import Job
from pipeline.video.picture import square
from pipeline.video.pool import Pool
from pipeline.video.probe import probe
from pipeline.video.selftest import faults, job, self_test
from pipeline.video.specimens import SPECIMENS, Specimen, make, number

BY_FILE = {specimen.file: specimen for specimen in SPECIMENS}
STREAMS = {"still": Stream(0.2, "middle", 64), "window": Stream(0.4, "window", 64, 8, 25.0, 1)}


class Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.frames: dict[str, list[np.ndarray]] = {}

    def add(self, stream: str, frame: np.ndarray, times: int) -> None:
        self.frames.setdefault(stream, []).append(frame)

    def clear(self) -> None:
        self.frames = {}


def read(*paths: Path, streams: dict[str, Stream] = STREAMS, **reading: object) -> tuple[Decoded, Kept]:
    kept = Kept()
    return decode(inspect([str(path) for path in paths], **reading), streams, kept), kept  # type: ignore[arg-type]


def numbers(decoded: Decoded, kept: Kept, stream: str = "still") -> list[int]:
    return [number(kept.frames[stream][i]) for i in decoded.streams[stream].windows[:, 0]]


def test_an_encoder_leaves_this_thread_as_it_was_scheduled(tmp_path: Path) -> None:
    """SVT-AV1, run by root, gives it real-time priority, which every job started afterwards would have."""
    before = os.sched_getscheduler(0)
    make(BY_FILE["av1.mp4"], tmp_path)
    assert os.sched_getscheduler(0) == before


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_self_test_passes(decoder: str) -> None:
    results = self_test(decoder)
    assert [(name, detail) for name, ok, detail in results if not ok] == []
    assert sum(detail.startswith(decoder) for _, _, detail in results) >= 10


def test_self_test_notices_wrong_frames(tmp_path: Path) -> None:
    path = make(BY_FILE["plain.mp4"], tmp_path)
    with Pool(1, timeout=60.0, timeout_per_second=1.0, memory_mb=4096) as pool:
        (outcome,) = pool.run([job("plain", [path], tmp_path)])
    shown, times = BY_FILE["plain.mp4"].truth()
    assert faults(outcome, shown, times) == ""
    assert "frames are wrong" in faults(outcome, shown + 1, times)
    assert "frames are wrong" in faults(outcome, shown, times + 0.04 * (times > 1))


@pytest.mark.parametrize("file", ["plain.mp4", "open_gop.mkv", "hevc.mp4", "vp9.webm", "turn90.mp4", "turn180.mp4", "uneven.mp4"])
def test_both_decoders_give_the_same_bytes(file: str, tmp_path: Path) -> None:
    path = make(BY_FILE[file], tmp_path)
    (one, frames), (two, others) = read(path, decoder="pyav"), read(path, decoder="decord")
    assert (one.decoder, two.decoder) == ("pyav", "decord")
    for name in STREAMS:
        np.testing.assert_array_equal(frames.frames[name], others.frames[name])
        np.testing.assert_array_equal(one.streams[name].windows, two.streams[name].windows)
        np.testing.assert_allclose(one.streams[name].time, two.streams[name].time, atol=1e-9)


def test_frames_are_open_clips_own_resize(tmp_path: Path) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    rng = np.random.default_rng(0)
    transform = Compose([Resize(224, interpolation=InterpolationMode.BICUBIC), CenterCrop(224)])
    for shape in ((360, 640, 3), (640, 361, 3), (50, 70, 3), (224, 224, 3), (3, 200, 3), (720, 1280, 3)):
        rgb = rng.integers(0, 256, shape, dtype=np.uint8)
        expected = np.asarray(transform(Image.fromarray(rgb)))
        np.testing.assert_array_equal(square(rgb, 224), expected)


@pytest.mark.parametrize("shape", [(360, 640), (640, 361), (50, 70), (224, 224), (3, 200), (720, 1280), (1920, 1080)])
@pytest.mark.parametrize("size", [224, 48])
def test_windows_are_resized_close_to_it(shape: tuple[int, int], size: int) -> None:
    """Nowhere shifted: a picture of slopes and squares differs by a fraction of a grey level on average."""
    y, x = np.mgrid[: shape[0], : shape[1]] * (1080 / min(shape))
    waves = [128 + 90 * np.sin(x / 230 + c) * np.cos(y / 310) + 30 * ((x // 400 + y // 400) % 2) for c in range(3)]
    scene = np.stack(waves, 2).clip(0, 255).astype(np.uint8)
    difference = square(scene, size, exact=False).astype(int) - square(scene, size)
    assert np.abs(difference).mean() < 0.5
    assert abs(difference.mean()) < 0.1


@pytest.mark.parametrize(("resize", "interpolation"), [("squash", "bicubic"), ("squash", "bilinear"), ("shortest", "bilinear")])
@pytest.mark.parametrize("shape", [(360, 640), (640, 361), (720, 1280)])
def test_other_ways_to_resize_are_obeyed_by_windows(shape: tuple[int, int], resize: str, interpolation: str) -> None:
    y, x = np.mgrid[: shape[0], : shape[1]]
    fine = 60 * ((x // 17 + y // 13) % 2)
    scene = np.stack([100 + 90 * np.sin(x / 40 + c) * np.cos(y / 30) + fine for c in range(3)], 2).clip(0, 255).astype(np.uint8)
    ways = {"resize": resize, "interpolation": interpolation}
    exact, fast, usual = (
        square(scene, 48, exact=right, **given).astype(int)  # type: ignore[arg-type]
        for right, given in ((True, ways), (False, ways), (False, {}))
    )
    assert np.abs(fast - exact).mean() < min(1.0, 0.5 * np.abs(usual - exact).mean())


def test_each_stream_is_resized_its_own_way(tmp_path: Path) -> None:
    """Through the decoding process, from a wide file: squashed, by the short side, from a larger side, and windows to the last bit."""
    path = make(BY_FILE["plain.mp4"], tmp_path)
    ways = [{}, {"resize": "squash"}, {"interpolation": "bilinear"}, {"side": 80}, {"resize": "squash", "interpolation": "bilinear"}]
    streams = [Stream(0.4, "middle", 64, **way) for way in ways]  # type: ignore[arg-type]
    streams += [Stream(0.4, "window", 64, 4, 10.0, 1, interpolation="bilinear", exact=exact, corner="floor") for exact in (True, False)]
    assert len({stream.name for stream in streams}) == len(streams)
    with Pool(1, timeout=60.0, timeout_per_second=1.0, memory_mb=4096) as pool:
        named = {stream.name: stream.recipe for stream in streams}
        (outcome,) = pool.run([Job("one", (str(path),), named, tmp_path / "out")])
    assert not outcome.code, outcome.message
    whole = Kept()
    (part,) = inspect([str(path)])
    rgb = next(iter(part.frames()))[1]()
    for stream in streams:
        frames = np.fromfile(tmp_path / "out" / f"{stream.name}.frames", np.uint8).reshape(-1, 64, 64, 3)
        given = {"resize": stream.resize, "side": stream.side, "interpolation": stream.interpolation, "corner": stream.corner}
        decoded = decode([part], {"it": stream}, whole)
        np.testing.assert_array_equal(frames, whole.frames["it"])
        if decoded.streams["it"].time[0] == 0:
            np.testing.assert_array_equal(frames[0], square(rgb, 64, exact=stream.precise, **given))  # type: ignore[arg-type]


def test_one_frame_stands_for_rows_that_show_it(tmp_path: Path) -> None:
    slow = Specimen("slow", "slow.mkv", "libx264", frames=4, stamps=lambda i: 2.0 * i)  # the last is shown for 0.04 s, in no row's middle
    decoded, kept = read(make(slow, tmp_path))
    assert len(kept.frames["still"]) == 3
    assert decoded.streams["still"].time == pytest.approx([0, 2, 4])
    assert (np.diff(decoded.streams["still"].windows[:, 0]) >= 0).all()


def test_files_are_joined_on_one_clock(tmp_path: Path) -> None:
    first, second = make(BY_FILE["plain.mp4"], tmp_path), make(BY_FILE["late.mkv"], tmp_path)
    decoded, kept = read(first, second)
    assert decoded.duration == pytest.approx(4.0, abs=0.01)
    assert numbers(decoded, kept) == [*range(2, 50, 5), *range(2, 50, 5)]


def test_a_bad_part_names_itself(tmp_path: Path) -> None:
    first = make(BY_FILE["plain.mp4"], tmp_path)
    (tmp_path / "zero.mp4").touch()
    with pytest.raises(VideoError) as caught:
        read(first, tmp_path / "zero.mp4")
    assert (caught.value.code, caught.value.where) == ("EMPTY", str(tmp_path / "zero.mp4"))


@pytest.mark.parametrize("file", ["stream.ts", "program.mpg"])
def test_a_splice_goes_on_in_time(file: str, tmp_path: Path) -> None:
    path = make(BY_FILE[file], tmp_path)
    path.write_bytes(path.read_bytes() * 2)
    decoded, kept = read(path)
    assert decoded.duration == pytest.approx(4.0, abs=0.01)
    assert numbers(decoded, kept) == [*range(2, 50, 5), *range(2, 50, 5)]


def test_hidden_packets_are_not_counted(shared: Path) -> None:
    path = shared / "videos" / "ax_roadtrip-vp92-10bit.webm"
    found = probe(str(path))
    assert (found.frames, found.hidden) == (72, 8)
    assert read(path, decoder="decord")[0].decoder == "pyav"


def test_damage_is_noticed(tmp_path: Path) -> None:
    path = make(BY_FILE["plain.mp4"], tmp_path)
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 1000, data.index(b"moov") - 100
    for place in np.random.default_rng(1).integers(start, end, 40):
        data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(VideoError) as caught:
        read(path)
    assert caught.value.code == "DECODE_ERROR"


def test_start_off_a_key_frame(tmp_path: Path) -> None:
    long = Specimen("long", "long.ts", "libx264", frames=200, options={"x264-params": "keyint=60:scenecut=0"})
    data = make(long, tmp_path).read_bytes()
    packets = len(data) // 188
    (tmp_path / "tail.ts").write_bytes(data[: 188 * 3] + data[packets // 16 * 188 :])
    with pytest.raises(VideoError) as caught:
        read(tmp_path / "tail.ts")
    assert caught.value.code == "FRAME_COUNT_MISMATCH"


def test_truncated_file_keeps_what_it_holds(tmp_path: Path) -> None:
    path = make(BY_FILE["uneven.mkv"], tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    decoded, kept = read(path, keep_truncated=True)
    found = numbers(decoded, kept)
    assert found == sorted(found)
    assert 10 < found[-1] < 40


def test_folders_of_frames(tmp_path: Path) -> None:
    for i in range(12):
        Image.new("RGB", (80, 60), (i * 20, 0, 0)).save(tmp_path / f"{i + 1}.png")  # 10.png sorts before 2.png
    decoded, kept = read(tmp_path, streams={"still": Stream(1.0, "middle", 32)}, frames_fps=3.0)
    assert (decoded.duration, decoded.decoder) == (4.0, "frames")
    assert [int(frame[0, 0, 0]) for frame in kept.frames["still"]] == [20, 80, 140, 200]
    (tmp_path / "5.png").write_bytes(b"not a picture")
    with pytest.raises(VideoError) as caught:
        read(tmp_path, streams={"still": Stream(1.0, "middle", 32)}, frames_fps=3.0)
    assert caught.value.code == "DECODE_ERROR"
    assert str(caught.value.where).endswith("5.png")
