"""The frames stage: what it writes, that interruptions leave no trace, and the quarantine it hands on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.schema import Config
from pipeline.config.streams import Stream
from pipeline.core.atomic import write_json
from pipeline.core.errors import QuarantineError, StoreDamaged
from pipeline.core.layout import Layout
from pipeline.core.source import Source
from pipeline.core.store import open_store
from pipeline.jobs import recipes
from pipeline.video import quarantine, stage
from pipeline.video.grids import rows
from pipeline.video.messages import Job, Outcome
from pipeline.video.specimens import SPECIMENS, make
from pipeline.video.spool import Spool

STREAMS = {s.name: s for s in (Stream(0.5, "middle", 32), Stream(0.4, "window", 48, 8, 25.0, 1))}
FILES = ("plain.mp4", "hevc.mp4", "edit_list.mp4", "stream.ts", "uneven.mkv", "one.mp4")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    for specimen in SPECIMENS:
        if specimen.file in FILES:
            make(specimen, folder)
    (folder / "note.mp4").write_text("not a video\n" * 40)
    (folder / "zero.mp4").touch()
    return folder


def sources(folder: Path) -> list[Source]:
    return [Source(path.name, (str(path),), f"{path.stat().st_size}", None) for path in sorted(folder.iterdir())]


def settings(results: Path, **video: object) -> tuple[Config, Layout]:
    encoders = {"clip": {"kind": "open_clip"}}
    config = Config.model_validate({"results": str(results), "encoders": encoders, "features": ["clip"], "text": "clip", "video": video})
    return config, config.layout


def run(results: Path, folder: Path, wanted: set[str] | None = None, workers: int = 1, **video: object) -> tuple[Layout, dict]:
    config, layout = settings(results, **video)
    found = sources(folder)
    chosen = {s.video_id for s in found} if wanted is None else wanted
    stage.run(config, layout, "000", found, STREAMS, chosen, recipes.frames(config, STREAMS), workers=workers)
    return layout, json.loads(layout.frames_manifest("000").read_text())


def contents(layout: Layout) -> dict[str, bytes]:
    return {str(path.relative_to(layout.root)): path.read_bytes() for path in sorted((layout.root / "frames").rglob("*")) if path.is_file()}


def test_what_is_written(clips: Path, tmp_path: Path) -> None:
    layout, manifest = run(tmp_path, clips, workers=2)
    assert set(manifest["videos"]) == set(FILES)
    assert [(entry["id"], entry["code"], entry["bytes"]) for entry in manifest["quarantine"]] == [
        ("note.mp4", "NOT_VIDEO", 480),
        ("zero.mp4", "EMPTY", 0),
    ]
    assert manifest["skipped"] == []
    assert set(contents(layout)) == {"frames/000.json", *(f"frames/{name}/000.h5" for name in STREAMS)}  # no spool, no temporary file
    for name, stream in STREAMS.items():
        with open_store(layout.frames(name, "000"), stage="frames") as store:
            assert store.attrs["recipe"]["stream"] == stream.recipe
            assert {"pyav", "decord", "libavcodec"} <= set(store.attrs)
            frames, windows = store.ragged("frames"), store.ragged("windows")
        assert frames.ids == windows.ids == sorted(FILES)
        assert frames.values.shape[1:] == (stream.size, stream.size, 3)
        assert windows.values.dtype == np.int32
        for video_id, about in manifest["videos"].items():
            place = windows.rows(video_id)
            start, end = rows(about["duration"], stream.every)
            np.testing.assert_array_equal(windows.columns["start"][place], start)
            np.testing.assert_array_equal(windows.columns["end"][place], end)
            assert about["rows"][name] == len(start)
            held = frames.rows(video_id)
            assert set(windows[video_id].reshape(-1).tolist()) == set(range(held.stop - held.start))  # every kept frame is wanted
            assert (np.diff(frames.columns["time"][held]) > 0).all()
        assert windows.items["decoder"].tolist() == ["pyav"] * len(FILES)


def test_same_bytes_with_any_number_of_processes(clips: Path, tmp_path: Path) -> None:
    assert contents(run(tmp_path / "one", clips)[0]) == contents(run(tmp_path / "two", clips, workers=2)[0])


def test_only_wanted_videos(clips: Path, tmp_path: Path) -> None:
    _, manifest = run(tmp_path, clips, wanted={"hevc.mp4", "zero.mp4"})
    assert set(manifest["videos"]) == {"hevc.mp4"}
    assert [entry["id"] for entry in manifest["quarantine"]] == ["zero.mp4"]
    assert len(manifest["skipped"]) == len(FILES)


def test_files_are_there_when_nothing_is_wanted(clips: Path, tmp_path: Path) -> None:
    layout, manifest = run(tmp_path, clips, wanted=set())
    assert (manifest["videos"], manifest["quarantine"]) == ({}, [])
    for name, stream in STREAMS.items():
        with open_store(layout.frames(name, "000"), stage="frames") as store:
            frames, windows = store.ragged("frames"), store.ragged("windows")
        assert (len(frames), frames.values.shape) == (0, (0, stream.size, stream.size, 3))
        assert (len(windows), windows.values.shape) == (0, (0, stream.count))
        assert set(windows.items) == {"fingerprint", "duration", "decoder", "reason", "origin"}


def killed(results: Path, folder: Path, root: Path) -> list[Path]:
    """A shard whose job is killed after its fifth video; returns the folders of what it had decoded."""
    work = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from pipeline.video import spool
        from tests.video import test_stage
        keep = spool.Spool.keep
        def keep_and_die(self, source, outcome):
            keep(self, source, outcome)
            if source.video_id == "one.mp4":
                os.kill(os.getpid(), signal.SIGKILL)
        spool.Spool.keep = keep_and_die
        test_stage.run(Path({str(results)!r}), Path({str(folder)!r}))
    """)
    done = subprocess.run([sys.executable, "-c", work], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert done.returncode == -signal.SIGKILL
    _, layout = settings(results)
    finished = [path for path in layout.frames_manifest("000").with_name(".000.spool").iterdir() if not path.suffix]
    assert len(finished) >= 3
    return sorted(finished)


def going_on(results: Path, folder: Path) -> tuple[Layout, int]:
    """Run the shard again; how many videos were given to be decoded."""
    decoded: list[str] = []
    real = stage.Pool.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage.Pool, "run", lambda self, jobs: (decoded.extend(job.video_id for job in jobs), real(self, jobs))[1])
        layout, _ = run(results, folder)
    return layout, len(decoded)


def test_a_killed_shard_keeps_finished_videos(clips: Path, tmp_path: Path, root: Path) -> None:
    finished = killed(tmp_path / "shot", clips, root)
    layout, decoded = going_on(tmp_path / "shot", clips)
    assert decoded == len(sources(clips)) - len(finished)
    assert contents(layout) == contents(run(tmp_path / "calm", clips)[0])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) * 2 // 3] ^= 4
    file.write_bytes(content)


def test_a_damaged_spool_is_decoded_again(clips: Path, tmp_path: Path, root: Path) -> None:
    """One byte of the frames, of the times, of what is said of a video: each is noticed, and the results are those of a calm run."""
    finished = killed(tmp_path / "shot", clips, root)
    flip(next(finished[0].glob("*.frames")))
    flip(next(finished[1].glob("*.windows.npy")))
    flip(finished[2] / "about.json")
    layout, decoded = going_on(tmp_path / "shot", clips)
    assert decoded == len(sources(clips)) - len(finished) + 3
    assert contents(layout) == contents(run(tmp_path / "calm", clips)[0])


@pytest.mark.parametrize("change", [flip, Path.unlink])
def test_frames_that_change_before_they_are_stored(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any) -> None:
    keep = Spool.keep

    def keep_badly(self: Spool, source: Source, outcome: Any) -> None:
        keep(self, source, outcome)
        if source.video_id == "one.mp4":
            change(sorted(self._place(source).glob("*.frames"))[0])

    monkeypatch.setattr(Spool, "keep", keep_badly)
    with pytest.raises(StoreDamaged, match="run the workflow again"):
        run(tmp_path, clips)
    assert not list(tmp_path.rglob("*.h5"))
    monkeypatch.undo()
    assert "one.mp4" in run(tmp_path, clips)[1]["videos"]


def test_a_changed_recipe_forgets_the_spool(tmp_path: Path, clips: Path) -> None:
    spool = Spool(tmp_path / ".000.spool", {"recipe": 1})
    source = sources(clips)[0]
    folder = spool.begin(source)
    spool.keep(source, Outcome(Job(source.video_id, source.paths, {}, folder), duration=1.0))
    assert spool.take(source).about["duration"] == 1.0
    assert Spool(tmp_path / ".000.spool", {"recipe": 2}).find(source) is None


def features(layout: Layout, manifest: dict, shard: str = "000") -> None:
    write_json(
        layout.features_manifest("clip", shard), {"videos": len(manifest["videos"]), "rows": 1, "quarantine": manifest["quarantine"]}
    )
    layout.features("clip", shard).touch()  # its time is when the videos were tried


def test_quarantine_is_gathered_checked_and_tried_again(clips: Path, tmp_path: Path) -> None:
    layout, manifest = run(tmp_path, clips)
    features(layout, manifest)
    features(layout, {"videos": dict.fromkeys(range(10)), "quarantine": []}, "001")
    config, _ = settings(tmp_path, max_bad_fraction=0.2)
    found = quarantine.collect(config, layout, ["000", "001"], ["clip"])
    assert [(entry["id"], entry["code"]) for entry in found] == [("note.mp4", "NOT_VIDEO"), ("zero.mp4", "EMPTY")]
    table = quarantine.read(layout.quarantine)
    assert list(table[0]) == quarantine.COLUMNS
    assert table[0]["when"].endswith("Z")
    strict, _ = settings(tmp_path, max_bad_fraction=0.1)
    with pytest.raises(QuarantineError, match=r"2 of 18 videos.*EMPTY: 1 \(zero.mp4\); NOT_VIDEO"):
        quarantine.collect(strict, layout, ["000", "001"], ["clip"])
    assert len(quarantine.read(layout.quarantine)) == 2  # listed all the same
    assert quarantine.retry(layout, ["000", "001"], ["zero.mp4"]) == {"000": ["zero.mp4"]}
    assert not layout.features_manifest("clip", "000").exists()
    assert layout.features_manifest("clip", "001").exists()
    assert quarantine.retry(layout, ["000", "001"]) == {}


def test_a_message_cannot_break_the_table(tmp_path: Path) -> None:
    row = quarantine.row("a\tb", str(tmp_path / "none.mp4"), "DECODE_ERROR", 'two\nlines\tand "quotes"', "pyav")
    quarantine.write(tmp_path / "q.tsv", [{**row, "when": ""}])
    assert quarantine.read(tmp_path / "q.tsv")[0] | {"bytes": 0} == {**row, "when": ""}


def test_a_mended_file_leaves_the_quarantine(clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    shutil.copytree(clips, folder)
    assert len(run(tmp_path / "r", folder)[1]["quarantine"]) == 2
    shutil.copy(folder / "plain.mp4", folder / "zero.mp4")
    _, manifest = run(tmp_path / "r", folder)
    assert [entry["id"] for entry in manifest["quarantine"]] == ["note.mp4"]
