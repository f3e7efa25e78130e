"""The four benchmarks' original annotation files: every count of the PRVR splits, and every known trap."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.inputs import Dataset
from pipeline.core.errors import DatasetError
from pipeline.datasets import activitynet, caption_list, qvhighlights, table, tvr
from pipeline.datasets.files import document, find, records
from pipeline.datasets.readers import annotated
from pipeline.datasets.rows import Query, Rows
from pipeline.interchange import captioned
from tests.datasets.miniature import KINDS, build, write_jsonl


@pytest.fixture(scope="module")
def read(shared: Path):
    """Reads a benchmark from its real files, once."""
    known: dict[tuple, Rows] = {}

    def reader(kind: str, gallery: str | None = None) -> Rows:
        if (kind, gallery) not in known:
            known[kind, gallery] = annotated(Dataset(kind=kind, annotations=str(shared / "annotations" / kind), gallery=gallery))
        return known[kind, gallery]

    return reader


@pytest.mark.parametrize(
    ("kind", "gallery", "videos", "queries"),
    [
        ("qvhighlights", None, {"train": 2214, "test": 474}, {"train": 7218, "test": 1550}),
        ("qvhighlights", "test", {"train": 2214, "val": 474, "test": 476}, {"train": 7218, "val": 1550, "test": 1542}),
        ("activitynet", "val_1", {"train": 10009, "test": 4917}, {"train": 37421, "test": 17505}),
        ("activitynet", "mssl", {"train": 10009, "test": 4430}, {"train": 37421, "test": 15753}),
        ("charades", None, {"train": 5338, "test": 1334}, {"train": 12408, "test": 3720}),
    ],
)
def test_counts_of_every_split(read, kind: str, gallery: str | None, videos: dict, queries: dict) -> None:
    rows = read(kind, gallery)
    assert Counter(video.split for video in rows.videos) == videos
    assert Counter(query.split for query in rows.queries) == queries
    counts = table.of(rows).counts().set_index("split")
    assert counts["videos"].to_dict() == videos
    assert counts["queries"].to_dict() == queries


def test_counts_of_tvr(shared: Path) -> None:
    folder = shared / "annotations" / "tvr"
    videos = tvr.videos(document(folder / "tvr_video2dur_idx.json.gz"))
    assert Counter(video.split for video in videos) == {"train": 17435, "test": 2179}
    durations = document(folder / "tvr_video2dur_idx.json.gz")
    queries = tvr._queries(folder / "tvr_val_release.jsonl.gz", "val", durations)
    assert len(queries) == 10895
    assert {query.split for query in queries} == {"test"}
    assert Counter(query.extra["type"] for query in queries) == {"v": 8097, "vt": 1834, "t": 964}
    assert Counter(query.group for query in queries) == {"visual": 8097, "both": 1834, "subtitle": 964}  # rows of every table
    assert [int(query.query_id) for query in sorted(queries, key=lambda q: int(q.query_id))] == list(range(87175, 98070))
    assert set(Counter(query.video_id for query in queries).values()) == {5}


def test_the_counts_of_tvr_are_told_without_its_train_release(shared: Path) -> None:
    with pytest.raises(DatasetError, match=r"no query for the 17,435 training videos \(the 2,179 test videos have their 10,895\)"):
        annotated(Dataset(kind="tvr", annotations=str(shared / "annotations" / "tvr")))


def test_qvhighlights_moves_moments_to_the_joined_time_line(read) -> None:
    rows = read("qvhighlights")
    videos = {video.video_id: video for video in rows.videos}
    assert max(video.duration for video in rows.videos) == 750
    assert any("_" in name[:-1] for name in videos)
    assert any("-" in name for name in videos)
    for query in rows.queries:
        video, extra = videos[query.video_id], query.extra
        parts = [part[0] for part in video.parts]
        assert extra["vid"] in parts
        assert [float(part.rsplit("_", 2)[1]) for part in parts] == sorted(float(part.rsplit("_", 2)[1]) for part in parts)
        assert query.moments == tuple(sorted((a + extra["offset"], b + extra["offset"]) for a, b in extra["windows"]))
        assert all(0 <= start < end <= video.duration for start, end in query.moments)
        assert len(extra["saliency"]["clip_ids"]) == len(extra["saliency"]["scores"])
    several = sum(len(query.moments) > 1 for query in rows.queries if query.split == "train")
    assert 0.30 < several / 7218 < 0.36


def test_qvhighlights_counts_the_durations_of_clips_not_their_ids(tmp_path: Path) -> None:
    clips = [("_a-b_c_210.0_360.0", 150, [[0, 10]]), ("_a-b_c_60.0_210.0", 140, [[20, 30]]), ("_a-b_c_1000.0_1150.0", 150, [[2, 4]])]
    rows = [{"qid": i, "query": "x", "duration": d, "vid": vid, "relevant_windows": w} for i, (vid, d, w) in enumerate(clips)]
    for name in ("train", "val"):
        write_jsonl(tmp_path / f"highlight_{name}_release.jsonl", rows if name == "train" else [])
    read = qvhighlights.read(Dataset(kind="qvhighlights", annotations=str(tmp_path)))
    video = read.videos[0]
    assert (video.video_id, video.duration) == ("_a-b_c", 440)
    assert [part[0] for part in video.parts] == ["_a-b_c_60.0_210.0", "_a-b_c_210.0_360.0", "_a-b_c_1000.0_1150.0"]
    assert [query.moments for query in read.queries] == [((140, 150),), ((20, 30),), ((292, 294),)]


def test_activitynet_mends_and_flags_moments(read) -> None:
    rows = read("activitynet", "val_1")
    flags = {split: Counter(flag for query in rows.queries if query.split == split for flag in query.flags) for split in ("train", "test")}
    assert flags["train"] == {"reversed": 2, "zero_length": 2, "clamped": 261}
    assert flags["test"] == {"clamped": 134}
    duration = {video.video_id: video.duration for video in rows.videos}
    assert all(0 <= start <= end <= duration[query.video_id] for query in rows.queries for start, end in query.moments)
    assert all(query.text == " ".join(query.text.split()) for query in rows.queries)
    stray = [query for query in rows.queries if query.text == "The girl dances around the room while the camera captures her movements."]
    assert stray[0].query_id == "v_QOlSCBRmfWY#enc#1"


def test_activitynet_keeps_its_galleries_apart(read, shared: Path) -> None:
    full, part = read("activitynet", "val_1"), read("activitynet", "mssl")
    assert {q.query_id for q in part.queries} < {q.query_id for q in full.queries}
    assert (full.gallery, part.gallery) == ("val_1", "mssl")
    with pytest.raises(DatasetError, match="two evaluation galleries"):
        read("activitynet", None)
    with pytest.raises(DatasetError, match="no gallery 'val_2'"):
        read("activitynet", "val_2")


def test_activitynet_ids_with_and_without_their_prefix() -> None:
    assert activitynet.bare("v_GGSY1Qvo990") == "GGSY1Qvo990"
    assert activitynet.bare("GGSY1Qvo990") == "GGSY1Qvo990"
    assert activitynet.bare("v_v_345678901") == "v_345678901"
    assert activitynet.bare("v_345678901") == "v_345678901"  # an 11 character YouTube id that itself begins so
    assert activitynet.prefixed("GGSY1Qvo990") == "v_GGSY1Qvo990"


def test_charades_durations_come_from_its_table(read) -> None:
    rows = read("charades")
    flags = Counter(flag for query in rows.queries for flag in query.flags)
    assert flags == {"reversed": 4, "clamped": 2367, "zero_length": 3}
    assert Counter(q.video_id for q in rows.queries if "reversed" in q.flags) == {"AKKWU": 2, "LEOL6": 1, "IOL8Q": 1}
    first = next(query for query in rows.queries if query.split == "test")
    assert (first.query_id, first.text, first.moments) == ("3MSZA#enc#0", "person turn a light on.", ((24.3, 30.4),))
    assert next(video.duration for video in rows.videos if video.video_id == "3MSZA") == 30.96
    repeated = Counter(query.text for query in rows.queries if query.split == "test")
    assert sum(count for count in repeated.values() if count > 1) > 0  # one text, several queries: none is dropped


def test_caption_lists_round_trip(read, shared: Path, tmp_path: Path) -> None:
    rows = read("activitynet", "mssl")
    for split in ("train", "test"):
        captions = caption_list.of(query for query in rows.queries if query.split == split)
        caption_list.write(tmp_path / f"{split}.txt", captions)
        assert caption_list.read(tmp_path / f"{split}.txt") == captions
    again = tmp_path / "annotations"
    again.mkdir()
    source = shared / "annotations" / "activitynet"
    for name in ("train.json", "val_1.json"):
        (again / f"{name}.gz").symlink_to(source / f"{name}.gz")
    (tmp_path / "train.txt").rename(again / "activitynettrain.caption.txt")
    (tmp_path / "test.txt").rename(again / "activitynetval.caption.txt")
    listed = annotated(Dataset(kind="activitynet", annotations=str(again), gallery="mssl"))
    assert (listed.videos, listed.queries) == (rows.videos, rows.queries)


ALL = [("qvhighlights", None), ("qvhighlights", "test"), ("activitynet", "val_1"), ("activitynet", "mssl"), ("charades", None)]


def tvr_val(shared: Path) -> Rows:
    """The part of TVR whose annotation files are at hand."""
    folder = shared / "annotations" / "tvr"
    durations = document(folder / "tvr_video2dur_idx.json.gz")
    queries = tvr._queries(folder / "tvr_val_release.jsonl.gz", "val", durations)
    return Rows(tuple(video for video in tvr.videos(durations) if video.split == "test"), tuple(queries))


@pytest.mark.parametrize(("kind", "gallery"), [*ALL, ("tvr", None)])
def test_every_real_row_survives_a_caption_list(read, shared: Path, tmp_path: Path, kind: str, gallery: str | None) -> None:
    """Canonical table -> MS-SL lists -> canonical table: every id, video, split, text and their order; times join again by caption id."""
    rows = tvr_val(shared) if kind == "tvr" else read(kind, gallery)
    by_cap_id = {query.cap_id: query for query in rows.queries}
    assert len(by_cap_id) == len(rows.queries)
    again: list[Query] = []
    for split in dict.fromkeys(video.split for video in rows.videos):
        path = tmp_path / f"{kind}{split}.caption.txt"
        caption_list.write(path, caption_list.of(query for query in rows.queries if query.split == split))
        listed = captioned.read_list(path, split)
        again += [replace(by_cap_id[c.cap_id], cap_id=c.cap_id, video_id=c.video_id, split=c.split, text=c.text) for c in listed]
        first_mention = list(dict.fromkeys(query.video_id for query in listed))
        if kind != "tvr":  # its table of durations has an order of its own
            assert first_mention == [video.video_id for video in rows.videos if video.split == split]
    assert again == list(rows.queries)


@pytest.mark.parametrize(("kind", "gallery"), [*ALL, ("tvr", None)])
def test_every_real_row_survives_the_store(read, shared: Path, tmp_path: Path, kind: str, gallery: str | None) -> None:
    rows = tvr_val(shared) if kind == "tvr" else read(kind, gallery)
    table.save(tmp_path / "annotations.h5", table.of(rows), dataset=kind)
    loaded = table.rows_of(table.load(tmp_path / "annotations.h5"))
    assert loaded.queries == rows.queries
    assert [(v.video_id, v.split, v.duration) for v in loaded.videos] == [(v.video_id, v.split, v.duration) for v in rows.videos]


@pytest.mark.parametrize("kind", KINDS)
def test_absent_annotation_files_are_all_named(kind: str, tmp_path: Path) -> None:
    gallery = "val_1" if kind == "activitynet" else None
    with pytest.raises(DatasetError) as error:
        annotated(Dataset(kind=kind, annotations=str(tmp_path), gallery=gallery))
    needed = {
        "qvhighlights": ["highlight_train_release.jsonl", "highlight_val_release.jsonl"],
        "tvr": ["tvr_video2dur_idx.json", "tvr_val_release.jsonl"],
        "activitynet": ["train.json", "val_1.json"],
        "charades": ["charades_sta_train.txt", "Charades_v1_train.csv", "charades_sta_test.txt", "Charades_v1_test.csv"],
    }
    assert [line.strip() for line in error.value.what.splitlines()[1:]] == needed[kind]
    assert "docs/datasets.md" in error.value.fix


def test_tvr_without_its_train_release(tmp_path: Path) -> None:
    mini = build("tvr", tmp_path)
    (mini.annotations / "tvr_train_release.jsonl.gz").rename(tmp_path / "kept.jsonl.gz")
    with pytest.raises(DatasetError, match=r"neither tvr_train_release.jsonl nor tvrtrain.caption.txt"):
        annotated(Dataset(kind="tvr", annotations=str(mini.annotations)))
    rows = records(tmp_path / "kept.jsonl.gz", ("vid_name",))
    captions = [caption_list.Caption(f"{row['vid_name']}#enc#{n}", row["desc"].strip()) for n, row in enumerate(rows)]
    caption_list.write(mini.annotations / "tvrtrain.caption.txt", captions)
    read = annotated(Dataset(kind="tvr", annotations=str(mini.annotations)))
    train = [query for query in read.queries if query.split == "train"]
    assert len(train) == len(rows)
    assert all(query.moments == () for query in train)
    assert "moments are unknown" in read.notes[0]


def test_rows_that_contradict_each_other_are_all_listed(tmp_path: Path) -> None:
    mini = build("tvr", tmp_path)
    path = mini.annotations / "tvr_val_release.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows += [dict(rows[0]), {**rows[0], "desc_id": 777, "vid_name": "nowhere"}, {**rows[0], "desc_id": 778, "desc": "  "}]
    write_jsonl(path, rows)
    with pytest.raises(DatasetError) as error:
        annotated(Dataset(kind="tvr", annotations=str(mini.annotations)))
    assert "rows that contradict each other (3)" in error.value.what
    for part in ("the id is used twice", "query 777: its video nowhere is not in the list", "query 778: no text"):
        assert part in error.value.what


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train.json", "{", "no JSON"),
        ("train.json.gz", "not gzip", "no JSON"),
        ("train.json", '{"v_1": {"duration": 1, "timestamps": [], "sentences": ["x"]}}', r"bad video entries \(1\)"),
    ],
)
def test_damaged_annotation_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    (tmp_path / "val_1.json").write_text("{}")
    with pytest.raises(DatasetError, match=message) as error:
        annotated(Dataset(kind="activitynet", annotations=str(tmp_path), gallery="val_1"))
    assert error.value.where.endswith(name)
    assert find(tmp_path, "train.json") == tmp_path / name
