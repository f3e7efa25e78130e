"""What the probe says of good files, and the code it gives each kind of bad one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.core.errors import VideoError
from pipeline.video import packets
from pipeline.video.choose import choose
from pipeline.video.containers import structure
from pipeline.video.decode import inspect
from pipeline.video.probe import probe
from pipeline.video.specimens import SPECIMENS, make

BY_FILE = {specimen.file: specimen for specimen in SPECIMENS}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for name in (
        "plain.mp4",
        "edit_list.mp4",
        "late.mkv",
        "stream.ts",
        "uneven.mp4",
        "turn90.mp4",
        "fragmented.mp4",
        "bframes.avi",
        "windows.wmv",
    ):
        make(BY_FILE[name], folder)
    return folder


def code(path: Path, **reading: bool) -> str:
    with pytest.raises(VideoError) as caught:
        inspect([str(path)], **reading)
    assert caught.value.fix
    assert caught.value.where == str(path)
    return caught.value.code


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_good_files_are_described(clips: Path) -> None:
    found = probe(str(clips / "plain.mp4"))
    assert (found.codec, found.frames, found.width, found.height, found.rotation) == ("h264", 50, 128, 96, 0)
    assert found.duration == pytest.approx(2.0)
    assert found.bframes
    assert found.regular
    assert not found.edit_list
    assert probe(str(clips / "late.mkv")).origin == pytest.approx(5.0)
    assert not probe(str(clips / "uneven.mp4")).regular
    assert probe(str(clips / "turn90.mp4")).rotation == 90
    cut = probe(str(clips / "edit_list.mp4"))
    assert cut.edit_list
    assert (cut.frames, cut.duration) == (33, pytest.approx(33 / 25))


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "zero.mp4").touch()
    assert code(tmp_path / "zero.mp4") == "EMPTY"
    (tmp_path / "folder").mkdir()
    assert code(tmp_path / "folder") == "EMPTY"


def test_missing(tmp_path: Path) -> None:
    assert code(tmp_path / "absent.mp4") == "MISSING"


@pytest.mark.parametrize(
    "content",
    [
        b"This is a note about a video, not a video.\n" * 50,
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"1\n00:00:01,000 --> 00:00:02,000\nHello\n\n2\n00:00:03,000 --> 00:00:04,000\nBye\n",
        b"WEBVTT\n\n00:01.000 --> 00:02.000\nHello\n",
        b"#EXTM3U\n#EXTINF:10,\nplain.mp4\n",
        b"ffconcat version 1.0\nfile plain.mp4\n",
        json.dumps({"error": "video unavailable"}).encode(),
        bytes(4096),
        bytes(range(7, 256)) * 40,
    ],
)
def test_not_a_video(clips: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plain.mp4").write_bytes((clips / "plain.mp4").read_bytes())  # a list may not lead to it
    (tmp_path / "note.mp4").write_bytes(content)
    assert code(tmp_path / "note.mp4") == "NOT_VIDEO"


def test_picture_is_not_a_video(tmp_path: Path) -> None:
    from PIL import Image

    for kind in ("jpeg", "png", "webp"):
        Image.new("RGB", (64, 64)).save(tmp_path / "picture.mp4", format=kind)
        assert code(tmp_path / "picture.mp4") == "NOT_VIDEO"


def test_audio_only(tmp_path: Path) -> None:
    assert code(sound(tmp_path / "sound.mp4")) == "NO_VIDEO_STREAM"


@pytest.mark.parametrize("name", ["plain.mp4", "fragmented.mp4", "late.mkv", "bframes.avi", "stream.ts", "windows.wmv"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated(clips: Path, tmp_path: Path, name: str, share: float) -> None:
    data = (clips / name).read_bytes()
    length = int(len(data) * share)
    cut = tmp_path / name
    cut.write_bytes(data[: length + (length % 188 == 0)])  # a transport stream cut between packets is a shorter stream
    assert code(cut) == "TRUNCATED"


def test_bytes_that_follow_a_whole_file_do_no_harm(clips: Path, tmp_path: Path) -> None:
    for name in ("plain.mp4", "fragmented.mp4", "late.mkv", "bframes.avi", "stream.ts"):
        padded = tmp_path / name
        padded.write_bytes((clips / name).read_bytes() + bytes([0xA3, 1, 2, 3]) * 50)
        assert not structure(padded).missing
        assert probe(str(padded)).frames == 50


def test_truncated_file_is_kept_when_asked(clips: Path, tmp_path: Path) -> None:
    data = (clips / "late.mkv").read_bytes()
    (tmp_path / "late.mkv").write_bytes(data[: len(data) * 6 // 10])
    (part,) = inspect([str(tmp_path / "late.mkv")], keep_truncated=True)
    assert 0.5 < part.duration < 1.8


def test_stream_without_frames_is_short(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "none.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        container.start_encoding()
    assert code(tmp_path / "none.avi") == "SHORT"


@pytest.mark.parametrize(
    ("codec", "first", "last", "hidden"),
    [
        ("vp8", 0b0001_0000, 0, False),
        ("vp8", 0b0000_0001, 0, True),
        ("vp9", 0b1000_0110, 0, False),  # a shown inter frame
        ("vp9", 0b1000_0100, 0, True),
        ("vp9", 0b1000_1000, 0, False),  # shows a frame made before
        ("vp9", 0b1011_0011, 0, False),  # profile 3, one bit later
        ("vp9", 0b1011_0010, 0, True),
        ("vp9", 0b1000_0100, 0b1100_0000, False),  # a superframe ends with a shown one
        ("h264", 0, 0, False),
    ],
)
def test_hidden_frames_are_told_by_their_header(codec: str, first: int, last: int, hidden: bool) -> None:
    assert packets._hidden(codec, bytes([first, 0, last])) is hidden


def test_rule_names_its_reason(clips: Path) -> None:
    found = probe(str(clips / "plain.mp4"))
    assert choose(found).decoder == "pyav"
    assert choose(found, "decord").decoder == "decord"
    for change in (
        {"container": "mpegts"},
        {"codec": "av1"},
        {"discarded": 3},
        {"edits": 2},
        {"hidden": 1},
        {"unstamped": 1},
        {"repeated": 1},
        {"repeats": 1},
        {"leading": 2},
        {"key_first": False},
        {"first_shown_first": False},
        {"has_duration": False},
        {"pixels": "yuv420p10le"},
        {"interlaced": True},
        {"width": 131},
        {"width": 32},
        {"width": 1920, "height": 1080},
        {"changes": 1},
        {"truncated": "half of it"},
    ):
        choice = choose(replace(found, **change), "decord")
        assert choice.decoder == "pyav", change
        assert choice.reason
