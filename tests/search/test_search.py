"""Search on a tiny run: the answers are the evaluation's, and the videos are encoded once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.clips.recipe import recipe_name
from pipeline.config.encoders import Imported
from pipeline.core.errors import ConfigError, DiskError, EncoderError, StoreMissing, StoreSchema
from pipeline.core.layout import Layout
from pipeline.core.store import create, open_store
from pipeline.evaluation import inputs, stage
from pipeline.jobs import recipes
from pipeline.ranking import gallery
from pipeline.search import index
from pipeline.search import searcher as search
from pipeline.search.searcher import Searcher
from tests.evaluation.conftest import QUARANTINED, World, typeable


@pytest.fixture
def searchable(tmp_path: Path) -> World:
    """The tiny dataset with a real text encoder behind its queries."""
    world = typeable(tmp_path)
    world.train("main", 1, text_dim=64)
    return world


def test_a_typed_query_ranks_as_the_stored_one(searchable: World) -> None:
    stage.run(searchable.config, searchable.layout, "main", 1, recipes.evaluation(searchable.config, "main"))
    with open_store(searchable.layout.evaluation("main", 1)) as store:
        table, videos = store.table("queries"), store.array("videos").tolist()
        top, scores = store.array("top/videos"), store.array("top/scores")
    searcher = Searcher(searchable.config, searchable.layout, "main", 1)
    hits = {hit.video_id: hit for hit in searcher.search(" text   1 ", k=100)}
    assert set(hits) == {video for video in (*searchable.ids, "train/0") if video != QUARANTINED}
    for row in np.flatnonzero(table["query_id"].str.endswith("#1")):
        for video, score in zip(top[row], scores[row], strict=True):
            # The index holds float16 tokens.
            assert hits[videos[video]].score == pytest.approx(score, abs=1e-3)
        own = hits[table["video_id"][row]]
        assert (own.start, own.end) == (table["moment_start"][row], table["moment_end"][row])
        assert own.start <= own.best <= own.end
    assert [hit.score for hit in searcher.search("text 1", k=3)] == sorted((hit.score for hit in hits.values()), reverse=True)[:3]


def test_the_second_query_encodes_no_video(searchable: World, monkeypatch: pytest.MonkeyPatch) -> None:
    config, layout = searchable.config, searchable.layout
    first = search.search(config, layout, "main", 1, "text 2", k=2)
    monkeypatch.setattr(index, "_shard", lambda *_: pytest.fail("encoded again"))
    assert search.search(config, layout, "main", 1, "text 2", k=2) == first
    monkeypatch.undo()
    searchable.train("main", 1, text_dim=64)  # written anew, the same weights
    before = files(layout, 1)
    assert search.search(config, layout, "main", 1, "text 2", k=2) == first
    assert files(layout, 1) == before
    status = layout.checkpoint("main", 1).stat()
    searchable.train("main", 1, text_dim=64, weights=2)  # other weights under the old time
    os.utime(layout.checkpoint("main", 1), ns=(status.st_atime_ns, status.st_mtime_ns))
    assert search.search(config, layout, "main", 1, "text 2", k=2) != first


def files(layout: Layout, seed: int) -> dict[str, bytes]:
    """What is kept of a run's encoded videos."""
    return {path.name: path.read_bytes() for path in sorted(index.folder_of(layout, "main", seed).glob("*.h5"))}


def test_a_video_more_is_encoded_alone_and_leaves_the_files_of_an_index_made_anew(
    searchable: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of clips come and go with their videos: what is kept of a video goes by its clips, not by its name or its shard."""
    config, layout = searchable.config, searchable.layout
    shards = sorted(layout.clips(recipe_name(config.experiment("main")), "*").parent.glob("*.h5"))
    held = shards[1].read_bytes()
    with open_store(shards[1]) as store:
        later = len(store.table("videos"))
    shards[1].unlink()
    encoded: list[int] = []
    encode = gallery.encode_videos
    monkeypatch.setattr(gallery, "encode_videos", lambda model, batches: (encoded.append(len(batches)), encode(model, batches))[1])
    few = Searcher(config, layout, "main", 1)
    assert len(encoded) == len(few.ids)
    assert set(files(layout, 1)) == {path.name for path in shards if path != shards[1]}
    encoded.clear()
    shards[1].write_bytes(held)
    more = Searcher(config, layout, "main", 1)
    assert len(encoded) == later == more.videos.added
    grown = files(layout, 1)
    shutil.rmtree(index.folder_of(layout, "main", 1))
    assert len(Searcher(config, layout, "main", 1).ids) == len(more.ids)
    assert files(layout, 1) == grown, "byte for byte"
    encoded.clear()
    _renamed(shards[0])
    renamed = Searcher(config, layout, "main", 1)
    assert encoded == [], "a new name is no new video"
    assert set(renamed.ids) - set(more.ids) == {"renamed"}
    shards[1].unlink()
    Searcher(config, layout, "main", 1)
    assert encoded == []
    assert set(files(layout, 1)) == {path.name for path in shards if path != shards[1]}


def _renamed(shard: Path) -> None:
    """The same shard of clips, its first video under another name."""
    with open_store(shard) as store:
        videos, attrs = store.table("videos"), {k: store.attrs[k] for k in ("stage", "recipe")}
        other = {k: v for k, v in store.attrs.items() if k not in ("stage", "recipe", "recipe_hash", "prvr_schema", "digest")}
        arrays = {name: store.array(name) for name in store.names() if not name.startswith("videos/")}
    videos.loc[0, "video_id"] = "renamed"
    with create(shard, **attrs, **other) as writer:
        writer.table("videos", videos)
        for name, values in arrays.items():
            writer.array(name, values)


def test_an_index_is_of_its_run_whatever_its_name_and_time(searchable: World) -> None:
    config, layout = searchable.config, searchable.layout
    searchable.train("main", 2, text_dim=64)
    first, second = (search.search(config, layout, "main", seed, "text 2", k=2) for seed in (1, 2))
    assert first != second
    indices = [index.folder_of(layout, "main", seed) / "000.h5" for seed in (1, 2)]
    shutil.copy2(indices[0], indices[1])
    assert search.search(config, layout, "main", 2, "text 2", k=2) == second
    indices[1].write_bytes(indices[1].read_bytes()[:-100])
    assert search.search(config, layout, "main", 2, "text 2", k=2) == second
    file = sorted(layout.clips(recipe_name(config.experiment("main")), "*").parent.glob("*.h5"))[0]
    file.unlink()  # its videos are searched no more
    assert len(Searcher(config, layout, "main", 2).ids) < len(searchable.ids)


def test_a_run_under_another_ones_name_is_not_searched(searchable: World) -> None:
    searchable.train("main", 2, text_dim=64)
    shutil.copy(searchable.layout.checkpoint("main", 2), searchable.layout.checkpoint("main", 1))
    with pytest.raises(StoreSchema, match="its seed is 2, expected was 1"):
        Searcher(searchable.config, searchable.layout, "main", 1)


def test_where_nothing_can_be_kept_it_searches_all_the_same(
    searchable: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DiskError("Read-only file system")

    monkeypatch.setattr(index, "create", refuse)
    unkept = search.search(searchable.config, searchable.layout, "main", 1, "text 2", k=3)
    assert "not kept for the next search: Read-only file system" in capsys.readouterr().err
    monkeypatch.undo()
    assert search.search(searchable.config, searchable.layout, "main", 1, "text 2", k=3) == unkept  # now kept
    assert search.search(searchable.config, searchable.layout, "main", 1, "text 2", k=3) == unkept  # read back


def test_what_cannot_be_searched_is_said(searchable: World) -> None:
    config, layout = searchable.config, searchable.layout
    with pytest.raises(EncoderError, match="the query is empty"):
        search.search(config, layout, "main", 1, "  ")
    with pytest.raises(StoreMissing):
        search.search(config, layout, "main", 7, "text")
    imported = config.model_copy(update={"encoders": {**config.encoders, "clip": Imported()}})
    with pytest.raises(EncoderError, match="clip is of kind imported, which has no text tower: it cannot encode a typed query"):
        search.search(imported, layout, "main", 1, "text")
    searchable.train("main", 3, text_dim=5)
    with pytest.raises(EncoderError, match="gives 64 values a word, the model was trained on 5"):
        search.search(config, layout, "main", 3, "text")
    for shard in layout.clips(recipe_name(config.experiment("main")), "*").parent.glob("*.h5"):
        shard.unlink()
    with pytest.raises(StoreMissing, match="no video has been prepared"):
        search.search(config, layout, "main", 1, "text")


def test_a_query_longer_than_the_encoder_reads_is_noted(searchable: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert search.search(searchable.config, searchable.layout, "main", 1, "word " * 40, k=1)
    assert "longer than the encoder reads" in capsys.readouterr().err


def test_the_model_is_left_as_it_was(searchable: World) -> None:
    searcher = Searcher(searchable.config, searchable.layout, "main", 1)
    assert next(searcher.model.parameters()).device == torch.device("cpu")
    found = inputs.load(searchable.layout, searchable.config.experiment("main"), "test")
    assert len(found.split.videos) + 1 == len(searcher.ids)


@pytest.mark.parametrize("kind", ["msc", "ms_sl", "gmmformer", "dl_dkd", "amdnet"])
def test_a_moment_as_a_query_is_compared_in_the_models_own_space(tmp_path: Path, kind: str) -> None:
    model = {"kind": kind, "hidden": 16, "heads": 2, "max_words": 8}
    world = typeable(tmp_path, model=model)
    world.train("main", 1, text_dim=64)
    searcher = Searcher(world.config, world.layout, "main", 1)
    for video in (0, 5):
        row = int(searcher.videos.frame_count[video]) // 2
        middle = float(searcher.videos.start[video, row] + searcher.videos.end[video, row]) / 2
        answer, asked = searcher.like(video, middle, k=3)
        assert answer.hits[0].video_id == searcher.ids[video]
        assert answer.hits[0].score == pytest.approx(1.0, abs=1e-3)
        similarity, start, end = searcher.rows(asked, [video])
        best = int(similarity[0].argmax())  # a short video repeats its rows: several tokens are of one time
        assert start[0, best] <= middle <= end[0, best]
        assert answer.hits[0].start <= middle <= answer.hits[0].end
        assert np.isneginf(similarity[0, int(searcher.videos.frame_count[video]) :]).all()


def test_what_a_model_cannot_compare_is_said_in_words(searchable: World) -> None:
    searcher = Searcher(searchable.config, searchable.layout, "main", 1)
    with pytest.raises(ConfigError, match=r"main, seed 1 reads no pictures.*\n.*\n.*ask the frozen encoder \(--zero-shot\)"):
        searcher.picture(np.zeros((8, 8, 3), np.uint8))
    for shard in searcher.videos.shards:
        shard.gallery.pop("frames")
    with pytest.raises(ConfigError, match="keeps no token of a frame, so moments cannot be compared with moments"):
        searcher.like(0, 1.0)
