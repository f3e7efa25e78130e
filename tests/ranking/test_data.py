"""What is read from the store, and how it is batched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.clips.pooling import average_to_fixed_length
from pipeline.clips.recipe import recipe_name
from pipeline.core.errors import TrainingError
from pipeline.core.store import create, open_store
from pipeline.ranking import data
from pipeline.ranking.room import Room
from pipeline.ranking.split import Split
from pipeline.training.batches import Batches, Sampler
from tests.training import miniature

CPU = torch.device("cpu")


def load(world: miniature.World, split: str = "train", **over) -> Split:
    clips = world.layout.clips(recipe_name(world.config.experiment("main")), "*").parent
    return data.load(split, annotations=world.layout.annotations, clips=clips, text=world.layout.text("clip"), **{"training": True, **over})


@pytest.fixture
def world(tmp_path: Path) -> miniature.World:
    return miniature.make(tmp_path, train=5, val=3)


def test_a_batch_holds_what_the_store_holds(world: miniature.World) -> None:
    split = load(world)
    chosen = torch.tensor([3, 0])
    batch = Batches(split, 6, CPU).gather(chosen)
    assert batch.ids == ["t3", "t0"]
    assert batch.labels.tolist() == [0, 0, 0, 1, 1, 1]
    with open_store(world.layout.text("clip")) as store:
        tokens = store.ragged("tokens")
    for row, (query, words, mask) in enumerate(
        zip(["t3#0", "t3#1", "t3#2", "t0#0", "t0#1", "t0#2"], batch.words.rows, batch.words.mask, strict=True)
    ):
        raw = tokens[query].astype(np.float32)
        expected = raw[:6] / (np.linalg.norm(raw[:6], axis=1, keepdims=True) + 1e-5)
        np.testing.assert_allclose(words[: len(expected)], expected, atol=1e-6)
        assert words[len(expected) :].abs().sum() == 0
        assert mask.sum() == len(expected)
        # the teacher is [EOS], also of a query cut to the word limit
        np.testing.assert_allclose(batch.teacher[row], raw[-1] / (np.linalg.norm(raw[-1]) + 1e-5), atol=1e-6)
    np.testing.assert_allclose(batch.videos.frames.norm(dim=-1), 1, atol=1e-3)
    assert batch.videos.sizes.sum(1).tolist() == [128, 128]
    assert batch.videos.clips.shape == (2, 32, miniature.DIM)


def test_an_epoch_sees_every_video_once_and_is_seeded() -> None:
    first, again, other = ([b.tolist() for b in Sampler(10, 4, seed).epoch()] for seed in (1, 1, 2))
    assert first == again != other
    assert [len(b) for b in first] == [4, 4, 2]
    assert sorted(i for batch in first for i in batch) == list(range(10))


def test_the_sampler_goes_on_from_its_state() -> None:
    sampler, resumed = Sampler(10, 4, 1), Sampler(10, 4, 99)
    list(sampler.epoch())
    resumed.state = sampler.state
    assert [b.tolist() for b in sampler.epoch()] == [b.tolist() for b in resumed.epoch()]


def test_videos_without_clips_are_counted(tmp_path: Path) -> None:
    split = load(miniature.make(tmp_path, train=5, val=2, missing=2))
    assert split.videos.ids == ["t0", "t1", "t2"]
    assert split.dropped == {"videos": 2, "queries": 6}
    assert split.queries.video.max() == 2


def test_a_split_without_queries_names_those_there_are(world: miniature.World) -> None:
    with pytest.raises(TrainingError, match=r"split 'test' .*train \(15\), val \(9\)"):
        load(world, "test")


def test_a_video_in_two_shards_is_refused(world: miniature.World) -> None:
    folder = world.layout.clips(recipe_name(world.config.experiment("main")), "*").parent
    (folder / "002.h5").write_bytes((folder / "001.h5").read_bytes())
    with pytest.raises(TrainingError, match="is also in"):
        load(world)


def test_missing_text_is_named(world: miniature.World) -> None:
    with create(world.layout.text("clip"), stage="text") as writer:
        writer.append("tokens", "t0#0", np.zeros((3, 4), np.float16))
    with pytest.raises(TrainingError, match=r"14 queries have no text states, the first is 't0#1'"):
        load(world)


def test_another_encoder_teaches_with_its_sentences(world: miniature.World) -> None:
    split = load(world, teacher=world.layout.text("clip"))
    np.testing.assert_allclose(split.queries.teacher.norm(dim=1), 1, atol=1e-3)
    assert load(world, needs_teacher=False).queries.teacher is None


def test_sentences_teach_where_they_are_not_the_last_token(world: miniature.World) -> None:
    """SigLIP pools a padded place, so the state of the last word says little; the store tells which it is."""
    path = world.layout.text("clip")
    with open_store(path, stage="text") as store:
        tokens = store.ragged("tokens")
    for teacher in ("last", "sentence"):
        with create(path, stage="text", teacher=teacher) as writer:
            for query in tokens.ids:
                sentence = np.arange(3) + tokens.index[query]
                writer.append("tokens", query, tokens[query], items={"sentence": sentence.astype(np.float16)})
        queries = load(world).queries
        raw = [np.arange(3.0) + tokens.index[query] if teacher == "sentence" else tokens[query][-1].astype(float) for query in queries.ids]
        np.testing.assert_allclose(queries.teacher, [row / (np.linalg.norm(row) + 1e-5) for row in raw], atol=1e-6)


def test_data_in_mapped_files_is_the_same(world: miniature.World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    room = Room(tmp_path / "room", gigabytes=0)
    here, there = load(world), load(world, room=room)
    assert list(room.folder.iterdir()) == []  # nothing to clean up after a kill
    assert isinstance(there.videos.start, np.memmap)
    assert "the clips of 'train' (0.0 GB) do not fit" in capsys.readouterr().err
    for name in ("frames", "clips", "sizes", "frame_to_clip", "context"):
        assert torch.equal(getattr(here.videos, name), getattr(there.videos, name))


def test_a_gallery_keeps_videos_nobody_asks_for(world: miniature.World) -> None:
    from pipeline.datasets import table

    known = table.load(world.layout.annotations)
    known.queries.drop(known.queries.index[known.queries["video_id"] == "v1"], inplace=True)
    table.save(world.layout.annotations, known)
    assert load(world, "val").videos.ids == ["v0", "v2"]
    assert load(world, "val", training=False).videos.ids == ["v0", "v1", "v2"]


def teacher(world: miniature.World, rows: dict[str, np.ndarray]) -> Path:
    """A folder of the clips of a teacher of frames: `rows` of each video, padded."""
    folder = world.layout.root / "seen"
    frames = np.zeros((len(rows), 128, next(iter(rows.values())).shape[1]), np.float32)
    for i, values in enumerate(rows.values()):
        frames[i, : len(values)] = values
    with create(folder / "000.h5", stage="clips") as writer:
        videos = pd.DataFrame({"video_id": pd.Series(list(rows), dtype=object), "duration": np.full(len(rows), 30.0)})
        writer.table("videos", videos)
        writer.array("frames", frames)
        writer.array("frame_count", np.asarray([len(values) for values in rows.values()], np.int32))
    return folder


def test_a_teachers_rows_stand_beside_the_frames(world: miniature.World) -> None:
    """Whatever the order of its file; one that sees more or fewer rows is pooled to the student's number by the rule of all pooling."""
    random = np.random.default_rng(0)
    counts = {"t4": 128, "t2": 64, "t0": 100, "v0": 3, "t1": 128, "t3": 1}
    rows = {video: random.normal(size=(count, miniature.TEXT)).astype(np.float32) for video, count in counts.items()}
    split = load(world, teacher_clips=teacher(world, rows))
    assert split.videos.teacher is not None
    for video, seen in zip(split.videos.ids, split.videos.teacher.numpy(), strict=True):
        np.testing.assert_array_equal(seen, average_to_fixed_length(rows[video], 128))
    batch = Batches(split, 6, CPU).gather(torch.tensor([3, 0]))
    assert batch.teacher_frames is not None
    assert batch.teacher_sentences is not None
    assert torch.equal(batch.teacher_frames, split.videos.teacher[[3, 0]])
    with open_store(world.layout.text("clip")) as store:
        tokens = store.ragged("tokens")
    for row, query in zip(batch.teacher_sentences, ["t3#0", "t3#1", "t3#2", "t0#0", "t0#1", "t0#2"], strict=True):
        np.testing.assert_array_equal(row, tokens[query][-1].astype(np.float32))  # as it is stored, not of unit length
    assert load(world).videos.teacher is None


def test_a_teacher_that_does_not_fit_is_refused(world: miniature.World) -> None:
    rows = {f"t{i}": np.ones((128, miniature.TEXT), np.float32) for i in range(4)}
    with pytest.raises(TrainingError, match="no rows of 1 videos, the first is 't4'"):
        load(world, teacher_clips=teacher(world, rows))
    rows = {f"t{i}": np.ones((128, miniature.TEXT + 1), np.float32) for i in range(5)}
    with pytest.raises(TrainingError, match="sentences have 12 values, its rows 13: they are not of one space"):
        load(world, teacher_clips=teacher(world, rows))


def test_rows_may_keep_their_length(world: miniature.World) -> None:
    """A model of `reads_raw_rows` sees what is stored; one that reads sentences gets their vectors as they are."""
    split, chosen = load(world), torch.tensor([1])
    batch = Batches(split, 6, CPU, raw=True).gather(chosen)
    assert torch.equal(batch.videos.clips, split.videos.clips[chosen].float())
    assert torch.equal(batch.videos.frames, split.videos.frames[chosen].float())
    assert split.queries.sentence is not None
    assert batch.words.sentence is not None
    assert torch.equal(batch.words.sentence, split.queries.sentence[split.queries.video == 1])
