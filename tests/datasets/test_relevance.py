"""Relevance files of both forms, and everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.core.errors import DatasetError
from pipeline.datasets.relevance import read, resolve

QUERIES = [("90200", "friends#enc#0"), ("a b", "own video#enc#0")]
VIDEOS = {"friends", "own video", "50%"}


def write(folder: Path, text: str) -> Path:
    path = folder / "labels"
    path.write_text(text)
    return path


def test_both_forms_say_the_same(tmp_path: Path) -> None:
    trec = read(write(tmp_path, "90200 0 friends 1\n90200 0 50% 2\n\na%20b Q0 own%20video 0\n"))
    lines = read(
        write(tmp_path, '{"query_id": 90200, "gt_video_ids": ["friends", "50%", "friends"]}\n{"query_id": "a b", "gt_video_ids": []}\n')
    )
    expected = {"90200": ["friends", "50%"], "a b": []}
    assert resolve(trec, QUERIES, VIDEOS, "f") == resolve(lines, QUERIES, VIDEOS, "f") == expected


def test_a_query_by_its_caption_id(tmp_path: Path) -> None:
    given = read(write(tmp_path, "friends#enc#0 0 own%20video 1\n"))
    assert resolve(given, QUERIES, VIDEOS, "f") == {"90200": ["own video"]}


def test_every_unknown_id_is_named(tmp_path: Path) -> None:
    given = read(write(tmp_path, "90200 0 nothing 1\n1 0 friends 1\n90200 0 friends 1\n"))
    with pytest.raises(
        DatasetError, match=r"unknown ids in the relevance file \(2\):\n +query 90200: no video nothing\n +query 1: no query"
    ):
        resolve(given, QUERIES, VIDEOS, "f")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("90200 0 friends\n", "line 1: 3 fields instead of 4"),
        ("90200 0 friends yes\n", "line 1: could not convert"),
        ('{"query_id": "a b", "gt_video_ids": "friends"}\n', "line 1: gt_video_ids is no list"),
        ('{"query_id": "a b", "gt_video_ids": []}\n{"query": 1}\n', "line 2: no object with query_id"),
        ('{"query_id": \n', "line 1: Expecting value"),
        ("\n", "names no query"),
    ],
)
def test_lines_that_cannot_be_meant_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        read(write(tmp_path, text))


def test_an_absent_or_binary_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read(tmp_path / "none")
    (tmp_path / "labels").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DatasetError, match="cannot be read"):
        read(tmp_path / "labels")
