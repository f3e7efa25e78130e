"""Streamed frames: every encoder's features as they are from stored frames, from one decoding, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from pipeline.cli.main import app
from pipeline.config.reading import load
from pipeline.config.streams import Stream
from pipeline.core.errors import ConfigError
from pipeline.jobs import collection, streaming
from pipeline.jobs.dag import Dag
from pipeline.jobs.estimates import Costs, Machine
from pipeline.jobs.lengths import Lengths
from pipeline.jobs.resources import disk
from pipeline.jobs.stages import STAGES
from pipeline.video import stage
from pipeline.video.messages import Event
from pipeline.video.pool import Pool
from pipeline.video.specimens import SPECIMENS, make
from tests.encoders.conftest import SIZE, clip_dir, one_thread, own_home, slowfast_dir  # noqa: F401
from tests.workflow.interrupting import until

FILES = ("edit_list.mp4", "hevc.mp4", "one.mp4", "open_gop.mp4", "plain.mp4", "uneven.mkv")
GOOD, BAD = [Path(name).stem for name in FILES], ["note", "same note"]
Make = Callable[..., Path]


@pytest.fixture
def work(
    tmp_path: Path,
    clip_dir: Path,  # noqa: F811
    slowfast_dir: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    """Makes a folder to work in: one shard of good videos, one of them twice, and two unusable ones of one content; two small encoders."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for specimen in SPECIMENS:
        if specimen.file in FILES:
            make(specimen, videos)
    shutil.copy(videos / "plain.mp4", videos / "twice.mp4")
    for name in BAD:
        (videos / f"{name}.mp4").write_text("not a video\n" * 40)
    encoders: dict[str, dict[str, Any]] = {
        "clip": {"kind": "open_clip", "architecture": "tiny", "weights": str(clip_dir), "size": SIZE},
        "motion": {"kind": "slowfast", "architecture": "tiny", "weights": str(slowfast_dir), "size": SIZE, "frames": 8},
    }
    for encoder in encoders.values():
        encoder["sampling"] = {"every": 0.2}

    def make_folder(name: str, features: tuple[str, ...] = ("clip", "motion"), **video: Any) -> Path:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        config = {
            "dataset": {"name": "d", "kind": "own", "videos": str(videos)},
            "video": {"max_bad_fraction": 0.5, "workers": 2, **video},
            "encoders": encoders,
            "features": list(features),
            "text": "clip",
            "experiments": {"main": {}},
            "ablations": {},
            "sweeps": {},
            "runtime": {"device": "cpu", "batch_size": 2},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        monkeypatch.chdir(folder)
        return folder

    return make_folder


def prvr(*command: str) -> None:
    """A job, as the workflow starts it."""
    app([*command, "--shard", "000", "--config", "config.yaml"], standalone_mode=False)


def extract(*encoders: str) -> None:
    if not Dag.of(load("config.yaml")).streamed:
        prvr("frames")
    for encoder in encoders:
        prvr("features", "--encoder", encoder)


def stores(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted((folder / "results" / "d" / "features").glob("*/000.h5"))}


def manifest(folder: Path, encoder: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "results" / "d" / "features" / encoder / "000.json").read_text())
    return read


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[str, ...]]]:
    """(video, streams) of everything that is decoded."""
    given: list[tuple[str, tuple[str, ...]]] = []
    run = Pool.run

    def counted(self: Pool, jobs: Any) -> Any:
        jobs = list(jobs)
        given.extend((job.video_id, tuple(job.streams)) for job in jobs)
        return run(self, jobs)

    monkeypatch.setattr(stage.Pool, "run", counted)
    return given


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread", "own_home")
def test_features_are_those_of_stored_frames(
    work: Make, decoded: list, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes and manifests are the same; each content is decoded once for both encoders; switching back and forth leaves nothing to do."""
    stored = work("stored", frames="stored")
    extract("clip", "motion")
    decoded.clear()
    streamed = work("streamed", frames="streamed")
    dag = Dag.of(load("config.yaml"))
    assert [len(STAGES[name].jobs(dag)) for name in ("frames", "features")] == [0, 2]
    assert dag.fed("motion", "000") == ["clip", "motion"]
    capsys.readouterr()
    feed, asked = streaming.feed, []
    monkeypatch.setattr(streaming, "feed", lambda *given: (asked.append(list(given[4])), feed(*given))[1])
    extract("clip", "motion")
    said = capsys.readouterr().err
    assert asked == [["clip", "motion"], []]  # the second job, beside which a third may run, looks at its own store alone
    assert sorted(name for name, _ in decoded) == sorted([*GOOD, "note"])  # of two of one content one
    assert {frozenset(streams) for _, streams in decoded} == {frozenset(dag.streams)}
    assert "clip 000: " in said
    assert "motion 000: " in said
    assert said.count("idle ") >= 2
    assert stores(streamed) == stores(stored)
    for encoder in ("clip", "motion"):
        ours, theirs = manifest(streamed, encoder), manifest(stored, encoder)
        assert [entry["id"] for entry in ours["quarantine"]] == BAD
        assert {**ours, "stats": 0, "trace": 0} == {**theirs, "stats": 0, "trace": 0}
        assert ours["stats"]["videos"] == ours["computed"] == len(GOOD)
        assert 0 <= ours["stats"]["idle_share"] <= 1
    assert [path.name for path in (streamed / "results" / "d" / "frames").rglob("*")] == ["000.json"]

    for folder, frames in ((stored, "streamed"), (streamed, "stored"), (streamed, "auto")):
        work(folder.name, frames=frames)
        now = Dag.of(load("config.yaml"))
        assert all(now.current(encoder, "000") for encoder in ("clip", "motion"))
        assert disk(Costs(now, Machine(1, gpu=False)), Lengths(now), 1) == disk(Costs(dag, Machine(1, gpu=False)), Lengths(dag), 1)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread", "own_home")
def test_an_encoder_added_later_decodes_for_itself_alone(work: Make, decoded: list) -> None:
    """Quarantined videos are not tried again where nothing changed, and a video that came is decoded alone, for both encoders."""
    both = work("both", frames="streamed")
    extract("clip", "motion")
    one = work("one", features=("clip",), frames="streamed")
    extract("clip")
    decoded.clear()
    work("one", frames="streamed")
    dag = Dag.of(load("config.yaml"))
    motion = dag.config.network("motion").stream.name
    assert dag.fed("motion", "000") == ["motion"]
    extract("motion")
    assert {streams for _, streams in decoded} == {(motion,)}
    assert stores(one) == stores(both)
    (both / "results/d/features/clip/000.json").unlink()
    work("both", frames="streamed")
    decoded.clear()
    extract("clip")
    assert decoded == []  # it is all in the store, and the bad ones are known
    videos = both.parent / "videos"
    (videos / "new.mp4").write_bytes((videos / "hevc.mp4").read_bytes() + b"\0")
    extract("clip", "motion")
    assert sorted(decoded) == [("new", decoded[0][1]), ("note", decoded[0][1])]
    assert set(decoded[0][1]) == set(dag.streams)


# The encoders stop when two more videos are whole, while another is being decoded.
HELD = """
import sys, time
from pathlib import Path
from pipeline.encoders import batching, stage
stage.FLUSH_EVERY = 0.0
compute, finished = batching.compute, lambda: len(list(Path("results").rglob(".000.parts/*.h5")))
before = finished()
def slow(*args):
    if finished() >= before + 2:
        Path("now").touch()
        time.sleep(60)
    return compute(*args)
batching.compute = slow
sys.argv = ["prvr", "features", "--encoder", "clip", "--shard", "000", "--config", "config.yaml"]
from pipeline.cli.main import main
main()
"""


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.usefixtures("one_thread", "own_home")
def test_ended_in_the_middle_it_leaves_nothing_and_goes_on(work: Make, root: Path) -> None:
    """By two signals: no process, no file that is not whole; what was finished is not made again, and the bytes are a calm run's."""
    calm = work("calm", frames="streamed")
    extract("clip", "motion")
    shot, now = work("shot", frames="streamed", workers=1), Path("now")
    for number, how in enumerate((signal.SIGTERM, signal.SIGKILL), start=1):
        now.unlink(missing_ok=True)
        run = subprocess.Popen([sys.executable, "-c", HELD], env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.DEVNULL)
        try:
            until(lambda run=run: now.exists() or run.poll() is not None, 600)
            assert run.poll() is None, "it ended by itself"
            children = psutil.Process(run.pid).children(recursive=True)
            assert children, "no decoding process"
            run.send_signal(how)
            assert run.wait(300) != 0
        finally:
            run.kill()
        until(lambda children=children: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 300)
        parts = list((shot / "results").rglob(".000.parts/*.h5"))
        assert 2 * number <= len(parts) < 2 * len(GOOD)
        unfinished = [path for path in (shot / "results" / "d").rglob("*") if path.suffix in (".h5", ".tmp", ".part") and path not in parts]
        assert how == signal.SIGKILL or not unfinished
        assert all(path.parent.name == ".000.parts" for path in unfinished)  # which go with the parts
    extract("clip", "motion")
    assert sum(manifest(shot, encoder)["computed"] for encoder in ("clip", "motion")) == 2 * len(GOOD) - len(parts)
    assert stores(shot) == stores(calm)
    assert not list((shot / "results").rglob(".*"))


@pytest.mark.usefixtures("one_thread", "own_home")
def test_a_decoder_that_dies_loses_nothing(work: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its video is read again from the beginning, by another process; rows that came before count for nothing."""
    calm = work("calm", features=("clip",), frames="streamed")
    extract("clip")
    killed: list[str] = []
    heard = Pool._heard

    def shoot(self: Pool, child: Any, job: Any, message: dict) -> Event:
        if "row" in message and job.video_id == "hevc" and not killed:
            killed.append(job.video_id)
            child.process.kill()
        return heard(self, child, job, message)

    monkeypatch.setattr(Pool, "_heard", shoot)
    shot = work("shot", features=("clip",), frames="streamed")
    extract("clip")
    assert killed
    assert stores(shot) == stores(calm)


def test_what_an_interrupted_stored_run_left_goes(work: Make) -> None:
    folder = work("was stored", frames="streamed")
    dag = Dag.of(load("config.yaml"))
    spool, (stream, *_) = dag.layout.spool("000"), dag.streams
    spool.mkdir(parents=True)
    dag.layout.frames(stream, "000").parent.mkdir()
    dag.layout.frames(stream, "000").touch()
    streaming._forget_stored(dag, "000")
    assert not [path for path in (folder / "results" / "d" / "frames").rglob("*") if path.is_file() or path.suffix == ".spool"]


def test_auto_goes_by_the_frames_of_a_shard_and_the_free_disk(work: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job does as its run decided, whatever the disk holds meanwhile."""
    work("auto", frames="auto")
    dag = Dag.of(load("config.yaml"))
    streams: list[Stream] = list(dag.streams.values())
    frames = sum(stream.frame_bytes(len(dag.members({})) * collection.mean_seconds(dag.members({}))) for stream in streams)
    for share, streamed in ((1.01, False), (0.99, True)):
        monkeypatch.setattr(collection, "free_disk", lambda folder, share=share: share * frames / collection.FRAMES_SHARE)
        whole = Dag.of(load("config.yaml"))
        assert whole.streamed is streamed
        whole.save_listing()
        monkeypatch.setattr(collection, "free_disk", lambda folder: 1 / 0)
        assert Dag.of(load("config.yaml"), started=True).streamed is streamed
    work("auto", frames="auto", keep_frames=True)
    assert not Dag.of(load("config.yaml")).streamed
    work("auto", frames="streamed", keep_frames=True)
    with pytest.raises(ConfigError, match="keep_frames: streamed frames lie nowhere"):
        load("config.yaml")


def test_what_a_streamed_job_takes(work: Make) -> None:
    """The first encoder's job decodes and encodes for both, and none puts frames on the disk."""
    work("takes", frames="stored")
    stored = Dag.of(load("config.yaml"))
    work("takes", frames="streamed")
    dag = Dag.of(load("config.yaml"))
    of, load_ = {"shard": "000"}, Lengths(dag).load({"shard": "000"})

    def needs(collection: Dag, stage: str, gpu: bool, **more: str) -> Any:
        return STAGES[stage].needs(Costs(collection, Machine(1, gpu=gpu)), load_, {**of, **more})

    for gpu in (False, True):
        frames = needs(stored, "frames", gpu)
        clip, motion = (needs(stored, "features", gpu, encoder=encoder) for encoder in ("clip", "motion"))
        first, second = (needs(dag, "features", gpu, encoder=encoder) for encoder in ("clip", "motion"))
        assert max(frames.seconds, clip.seconds, motion.seconds) <= first.seconds <= frames.seconds + clip.seconds + motion.seconds
        assert first.disk == clip.disk + motion.disk
        assert first.memory >= max(frames.memory, clip.memory + motion.memory)
        assert second.seconds < motion.seconds
    assert disk(Costs(stored, Machine(1, gpu=False)), Lengths(stored), 1) >= frames.disk
    assert disk(Costs(dag, Machine(1, gpu=False)), Lengths(dag), 1) < frames.disk
