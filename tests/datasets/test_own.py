"""Your own videos: what is read, and that every problem of every row is listed at once."""

from __future__ import annotations

import gc
import json
from pathlib import Path

import pytest

from pipeline.config.inputs import Dataset
from pipeline.config.schema import Config
from pipeline.core.errors import DatasetError
from pipeline.datasets import own, stage
from pipeline.datasets.folder import File, FolderFiles
from pipeline.jobs.videos import listing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.MKV", "deep/ä clip.v2.webm", "deep/a.mp4", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def dataset(folder: Path, text: str | None, suffix: str = ".csv", **settings) -> Dataset:
    annotations = ""
    if text is not None:
        path = folder / f"queries{suffix}"
        path.write_text(text, encoding="utf-8")
        annotations = str(path)
    return Dataset(kind="own", name="own", videos=str(folder), annotations=annotations, **settings)


def problems(error: pytest.ExceptionInfo[DatasetError]) -> list[str]:
    return [line.strip() for line in error.value.what.splitlines()[1:]]


def test_of_a_reading_nothing_stays_but_its_rows(folder: Path) -> None:
    """A plan of a large collection runs without the collector of cycles, so what is read on the way must go by itself."""
    gc.collect()
    gc.disable()
    try:
        rows = own.read(dataset(folder, "path,query,split\na.mp4,a dog runs,train\n"))
        left = [type(each).__name__ for each in gc.get_objects() if isinstance(each, FolderFiles | own._Reader | File)]
    finally:
        gc.enable()
    assert len(rows.queries) == 1
    assert left == []


def test_csv_gives_ids_from_paths_and_clean_text(folder: Path) -> None:
    text = 'path,query,split,start,end,query_id,group,mood\na.mp4,"  a dog,\t runs ",train,1,2.5,q1,pets,happy\n'
    text += "deep/ä clip.v2.webm,x,test,,,,,\n"
    rows = own.read(dataset(folder, "\ufeff" + text))
    missing = list(rows.missing)
    assert [video.video_id for video in rows.videos] == ["a", "deep/ä clip.v2"]
    first, second = rows.queries
    assert (first.text, first.moments, first.query_id, first.group, first.extra) == (
        "a dog, runs",
        ((1.0, 2.5),),
        "q1",
        "pets",
        {"mood": "happy"},
    )
    assert (second.query_id, second.moments, second.split) == ("deep/ä clip.v2#enc#0", (), "test")
    assert missing == []
    assert "2 videos of the folder have no query" in rows.notes[0]


def test_jsonl_and_tsv_say_the_same_as_csv(folder: Path) -> None:
    rows = [
        {"video_id": "a", "query": "one", "split": "train", "start": 0, "end": 3},
        {"video_id": "deep/a", "query": "two", "split": "val"},
    ]
    jsonl = own.read(dataset(folder, "".join(json.dumps(row) + "\n" for row in rows), ".jsonl"))
    tsv = own.read(dataset(folder, "video_id\tquery\tsplit\tstart\tend\na\tone\ttrain\t0\t3\ndeep/a\ttwo\tval\t\t\n", ".tsv"))
    assert jsonl == tsv
    assert [video.video_id for video in tsv.videos] == ["a", "deep/a"]


def test_jsonl_takes_several_moments(folder: Path) -> None:
    rows = own.read(dataset(folder, '{"path": "a.mp4", "query": "x", "split": "test", "moments": [[5, 9], [1, 2]]}\n', ".jsonl"))
    assert rows.queries[0].moments == ((1.0, 2.0), (5.0, 9.0))


def test_every_problem_of_every_row_is_listed_at_once(folder: Path) -> None:
    (folder / "a.mkv").write_bytes(b"another")
    text = "\n".join(
        [
            "path,video_id,query,split,start,end,query_id",
            "a.mp4,,fine,train,,,q1",
            "a.mkv,,another file of the same stem,train,,,",
            ",a,which of the two,train,,,",
            "b.MKV,,,trian,3,,q1",
            "no.mp4,,x,test,,,",
            ",deep/aa,x,test,,,",
            ",,x,test,,,",
            "b.MKV,,x,test,4,2,",
            "b.MKV,,x,test,one,2,",
            "b.MKV,,x,test,-1,2,",
            "../b.MKV,,x,test,,,",
            "deep,,x,test,,,",
            "deep/a.mp4,,x,test,,,,surplus",
            "b.MKV,,x,val,,,",
        ]
    )
    with pytest.raises(DatasetError) as error:
        own.read(dataset(folder, text))
    assert problems(error) == [
        "line 4: video_id 'a' fits several files, whose ids are a.mkv, a.mp4",
        "line 5: no query",
        "line 5: split 'trian' is none of train, val, test (nearest: train)",
        "line 5: start without end",
        "line 5: query_id 'q1' was used on line 2",
        "line 6: no file 'no.mp4'",
        "line 7: no video 'deep/aa' in the folder (nearest: 'deep/a')",
        "line 8: neither path nor video_id",
        "line 9: time span 4 to 2: 0 <= start < end is expected",
        "line 10: time span 'one' to '2': seconds are expected",
        "line 11: time span -1 to 2: 0 <= start < end is expected",
        "line 12: path '../b.MKV' is outside the folder of videos",
        "line 13: path 'deep' is a folder",
        "line 14: more fields than the header has (put quotes round a query with a comma)",
        "line 15: video 'b' is in split val here and in test on line 9",
    ]
    assert error.value.code == "DATASET"
    assert "queries.csv" in str(error.value)


def test_missing_files_are_left_out_only_when_allowed(folder: Path) -> None:
    text = "path,query,split\na.mp4,x,train\ngone.mp4,y,test\ngone.mp4,z,test\n"
    with pytest.raises(DatasetError, match=r"line 3: no file 'gone\.mp4'"):
        own.read(dataset(folder, text))
    rows = own.read(dataset(folder, text, allow_missing_videos=True))
    missing = list(rows.missing)
    assert [video.video_id for video in rows.videos] == ["a"]
    assert missing == ["gone (test): line 3: no file 'gone.mp4'", "gone (test): line 4: no file 'gone.mp4'"]
    assert "1 videos with 2 queries are not on disk and left out" in rows.notes


def test_a_folder_alone_is_enough_for_features_and_search(folder: Path) -> None:
    rows = own.read(dataset(folder, None))
    assert [(video.video_id, video.split) for video in rows.videos] == [
        ("a", "none"),
        ("b", "none"),
        ("deep/a", "none"),
        ("deep/ä clip.v2", "none"),
    ]
    assert rows.queries == ()


def test_videos_without_queries_join_on_request(folder: Path) -> None:
    text = "path,query,split\na.mp4,x,test\n"
    rows = own.read(dataset(folder, text, include_unlabelled=True))
    assert [(video.video_id, video.split) for video in rows.videos] == [
        ("a", "test"),
        ("b", "none"),
        ("deep/a", "none"),
        ("deep/ä clip.v2", "none"),
    ]


def test_files_of_one_stem_keep_their_extension(folder: Path) -> None:
    (folder / "b.mov").write_bytes(b"two of them")
    assert [video.video_id for video in own.read(dataset(folder, None)).videos] == ["a", "b.MKV", "b.mov", "deep/a", "deep/ä clip.v2"]
    lines = ["path,video_id,query,split", "b.mov,,one,train", ",b.MKV,two,test", ",a.mp4,three,test"]
    rows = own.read(dataset(folder, "\n".join(lines), include_unlabelled=True))
    named = {video.video_id: Path(video.files[0]).name for video in rows.videos}
    assert named == {"b.mov": "b.mov", "b.MKV": "b.MKV", "a": "a.mp4", "deep/a": "a.mp4", "deep/ä clip.v2": "ä clip.v2.webm"}
    assert [query.query_id for query in rows.queries] == ["b.mov#enc#0", "b.MKV#enc#0", "a#enc#0"]
    (folder / "b.mov.mkv").write_bytes(b"a third whose stem is the id of the second")
    with pytest.raises(DatasetError, match=r"b\.mov: b\.mov, b\.mov\.mkv"):
        own.read(dataset(folder, None))


@pytest.mark.parametrize(
    ("text", "suffix", "message"),
    [
        ("path,qeury,split\na.mp4,x,train\n", ".csv", r"columns are missing: query(.|\n)*to do: rename 'qeury' to 'query';"),
        ("Path,Query,Split\na.mp4,x,train\n", ".csv", "rename 'Path' to 'path', 'Query' to 'query', 'Split' to 'split';"),
        ("path;query;split\na.mp4;x;train\n", ".csv", "to do: its columns are separated by semicolons: save it again with commas"),
        ("path\tquery\tsplit\na.mp4\tx\ttrain\n", ".csv", "to do: its columns are separated by tabs: save it again with commas"),
        ("path,query,split\na.mp4,x,train\n", ".tsv", "to do: its columns are separated by commas: save it again with tabs"),
        ("query,split\nx,train\n", ".csv", r"columns are missing: path \(or video_id\)"),
        ("path,query,split\n", ".csv", "no row"),
        ('{"path": "a.mp4"', ".jsonl", "line 1: no JSON"),
        ("[1]\n", ".jsonl", "line 1: a JSON object is expected"),
        ("x", ".xlsx", "cannot be read"),
    ],
)
def test_unreadable_annotations_say_why(folder: Path, text: str, suffix: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        own.read(dataset(folder, text, suffix))


def test_foreign_encodings_and_absent_files_say_why(folder: Path) -> None:
    (folder / "latin.csv").write_bytes("path,query,split\na.mp4,x,train\na.mp4,caf\xe9,train\n".encode("latin-1"))
    with pytest.raises(DatasetError, match="line 3 is not UTF-8"):
        own.read(Dataset(kind="own", videos=str(folder), annotations=str(folder / "latin.csv")))
    with pytest.raises(DatasetError, match="does not exist"):
        own.read(Dataset(kind="own", videos=str(folder), annotations=str(folder / "none.csv")))
    with pytest.raises(DatasetError, match="folder of videos does not exist"):
        own.read(Dataset(kind="own", videos=str(folder / "none")))


def _config(folder: Path, text: str) -> Config:
    section = dataset(folder, text).model_dump()
    encoder = {"kind": "open_clip"}
    return Config.model_validate(
        {"results": str(folder / "results"), "dataset": section, "encoders": {"clip": encoder}, "features": ["clip"], "text": "clip"}
    )


def test_a_renamed_file_keeps_its_fingerprint_and_a_changed_one_does_not(folder: Path) -> None:
    config = _config(folder, "path,query,split\na.mp4,x,train\nb.MKV,y,test\n")
    before = {source.video_id: source for source in listing(config, config.layout).videos}
    (folder / "a.mp4").rename(folder / "c.mp4")
    (folder / "b.MKV").write_bytes(b"other content")
    config = _config(folder, "path,query,split\nc.mp4,x,train\nb.MKV,y,test\n")
    after = {source.video_id: source for source in listing(config, config.layout).videos}
    assert after["c"].fingerprint == before["a"].fingerprint
    assert after["b"].fingerprint != before["b"].fingerprint
    assert after["b"].duration is None


def test_splits_no_query_is_of_are_all_named_before_anything_runs(folder: Path) -> None:
    config = _config(folder, "path,query,split\na.mp4,x,train\nb.MKV,y,train\n")
    second = {"training": {"selection_split": "test"}, "evaluation": {"split": "val"}}
    config = config.model_copy(update={"experiments": {"main": {}, "second": second}})
    with pytest.raises(DatasetError) as error:
        stage.run(config, config.layout)
    assert problems(error) == [
        "experiment main: evaluation.split is test, which has none",
        "experiment main: training.selection_split is val, which has none",
        "experiment second: evaluation.split is val, which has none",
        "experiment second: training.selection_split is test, which has none",
    ]
    assert "train 2" in error.value.fix
    assert not config.layout.annotations.exists()


def test_a_test_split_alone_is_for_checkpoints_trained_elsewhere(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = _config(folder, "path,query,split\na.mp4,x,test\n")
    stage.run(config, config.layout)
    assert "no training queries (there are test 1)" in capsys.readouterr().err


def row(**fields: object) -> str:
    return json.dumps({"path": "a.mp4", "query": "a dog", "split": "train", **fields})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (row(query=["one", "two"]), "query is a list, a sentence is expected (one line each)"),
        (row(query={"en": "a dog"}), "query is an object, a sentence is expected (one line each)"),
        (row(query=True), "query is a truth value, a sentence is expected (one line each)"),
        (row(path=["a.mp4"]), "path is a list, a text is expected"),
        (row(query="a \0 dog"), "'query' holds a NUL character"),
        (row(path="a.mp4\0"), "'path' holds a NUL character"),
        (row(query="a \ud83d dog"), "'query' holds half a character (a cut emoji)"),
        (row(mood={"deep": ["a \ud83d"]}), "'mood' holds half a character (a cut emoji)"),
        (row(**{"m\ud83d": 1}), "'m\\ud83d' holds half a character (a cut emoji)"),
        (row()[:-1] + ', "query": "a cat"}', "no JSON (query given twice)"),
        (row()[:-1] + f', "deep": {"[" * 5000}{"]" * 5000}}}', "nested too deep"),
        (
            row()[:-1] + f', "n": {"9" * 5000}}}',
            "no JSON (Exceeds the limit (4300 digits) for integer string conversion: value has 5000 digits",
        ),
        (row(start=10**400, end=10**401), f"time span {10**400} to {10**401}: seconds are expected"),
        (row(start=False, end=True), "time span False to True: seconds are expected"),
        (row(moments="[" * 5000), f"moments {'[' * 5000!r} is no list of [start, end] pairs"),
    ],
)
def test_a_row_that_cannot_be_meant_is_a_line(folder: Path, line: str, said: str) -> None:
    with pytest.raises(DatasetError) as caught:
        own.read(dataset(folder, f"{row()}\n{line}\n", ".jsonl"))
    (problem,) = problems(caught)
    assert problem.startswith(f"line 2: {said}")
    str(caught.value).encode()


def test_a_nul_in_a_csv_is_a_line(folder: Path) -> None:
    with pytest.raises(DatasetError, match="line 2: 'query' holds a NUL character"):
        own.read(dataset(folder, "path,query,split\na.mp4,a\0b,train\n"))


def test_a_column_given_twice_is_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="columns are given twice: path, query"):
        own.read(dataset(folder, "path,path,query,split, query\nnone.mp4,a.mp4,a,train,b\n"))


def test_a_quote_that_does_not_end_is_a_line(folder: Path) -> None:
    with pytest.raises(DatasetError, match="the row that begins on line 3 cannot be read"):
        own.read(dataset(folder, 'path,query,split\na.mp4,a,train\na.mp4,"a "dog" runs",train\n'))


def test_a_folder_may_begin_with_two_dots(folder: Path) -> None:
    (folder / "..cam").mkdir()
    (folder / "..cam" / "x.mp4").write_bytes(b"x")
    rows = own.read(dataset(folder, "path,query,split\n..cam/x.mp4,a,train\n"))
    assert [video.video_id for video in rows.videos] == ["..cam/x"]
    with pytest.raises(DatasetError, match="outside the folder"):
        own.read(dataset(folder, "path,query,split\n../x.mp4,a,train\n"))


def test_both_path_and_id_of_a_video(folder: Path) -> None:
    """The path says which video it is; the other name is kept and it is said."""
    rows = own.read(dataset(folder, "path,video_id,query,split\na.mp4,42,a,train\n"))
    assert (rows.queries[0].video_id, rows.queries[0].extra) == ("a", {"video_id": "42"})
    assert any(note.startswith("1 rows give both path and video_id") for note in rows.notes)


def test_mended_rows_are_read(folder: Path) -> None:
    """What the messages ask for; nothing remembers the file as it was."""
    for bad, good in (("path,split\na.mp4,train\n", "path,query,split\na.mp4,x,train\n"), ("path,query,split\na.mp4,,train\n",) * 2):
        with pytest.raises(DatasetError, match=r"docs/own-videos\.md describes the columns"):
            own.read(dataset(folder, bad))
        assert len(own.read(dataset(folder, good.replace(",,", ",x,"))).queries) == 1
