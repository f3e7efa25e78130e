"""What a moment's ffmpeg command does, pasted into a shell whatever the file is called."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import av
import pytest

from pipeline.search import media
from tests.datasets.miniature import encode

HOSTILE = [
    "a'; touch owned; '.mp4",
    "$(touch owned).mp4",
    "`touch owned`.mp4",
    "-y.mp4",
    "two\nlines.mp4",
    "http:x.mp4",
    "Ünïcødé 電影.mp4",
    "a\\b|c&d>e.mp4",
    "100%d.mp4",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_name_stays_one_word_of_the_command(name: str) -> None:
    words = shlex.split(media.cut_command(f"/v/{name}", 61.25, 64))
    assert words[:8] == ["ffmpeg", "-ss", "61.25", "-i", f"file:/v/{name}", "-t", "2.75", "-map"]
    assert words[-1] == f"file:./{Path(name).stem}-61-64.mp4"
    assert not any(name in word for word in words[8:-1])


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg here")
@pytest.mark.parametrize("name", HOSTILE)
def test_the_command_cuts_the_moment_and_nothing_else_happens(tmp_path: Path, name: str) -> None:
    """Run by a shell, of a file whose only key frame is the first one."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "here").mkdir()
    encode(tmp_path / "videos" / "plain.mp4", 4, 1)
    (tmp_path / "videos" / "plain.mp4").rename(tmp_path / "videos" / name)
    command = media.cut_command(str(tmp_path / "videos" / name), 1.0, 2.5)
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path / "here", capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-2000:]
    (cut,) = (tmp_path / "here").iterdir()
    assert cut.name == f"{Path(name).stem}-1-2.mp4"
    with av.open(f"file:{cut}") as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert float(stream.duration * stream.time_base) == pytest.approx(1.5, abs=0.11)


@pytest.mark.skipif(not shutil.which("ffmpeg"), reason="no ffmpeg here")
def test_odd_sizes_and_a_time_line_that_begins_late_are_cut_too(tmp_path: Path, shared: Path) -> None:
    for name, seconds in (("ax_bear-vp9-odd-dimensions.webm", 0.5), ("ax_bbb_800x640_768kbps_30fps_avc_2b_firstpts_10_sec.mp4", 1.0)):
        command = media.cut_command(str(shared / "videos" / name), 0.2, 0.2 + seconds)
        subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, check=True, stdin=subprocess.DEVNULL)
        (cut,) = tmp_path.glob(f"{Path(name).stem}*.mp4")
        with av.open(str(cut)) as container:
            stream = container.streams.video[0]
            assert float(stream.duration * stream.time_base) == pytest.approx(seconds, abs=0.1)
