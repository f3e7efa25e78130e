"""MS-SL caption lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.core.errors import DatasetError
from pipeline.datasets.caption_list import Caption, read, write
from pipeline.datasets.rows import normalise

IDS = st.text(st.characters(codec="utf-8", exclude_categories=("Z", "C"), exclude_characters="#"), min_size=1)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"))).map(normalise).filter(bool)


@given(st.lists(st.tuples(IDS, st.integers(0, 30), TEXTS), unique_by=lambda row: row[:2]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_caption_survives(tmp_path: Path, rows: list[tuple[str, int, str]]) -> None:
    captions = [Caption(f"{video}#enc#{n}", text) for video, n, text in rows]
    write(tmp_path / "list.txt", captions)
    assert read(tmp_path / "list.txt") == captions


def test_bad_lines_are_all_listed(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("v_1#enc#0 A dog.\n\nno id here\nv_1#enc#1\nv_1#enc#0 Again.\n#enc#0 x\n")
    with pytest.raises(DatasetError) as error:
        read(path)
    assert [line.split(":")[0].strip() for line in error.value.what.splitlines()[1:]] == ["line 3", "line 4", "line 5", "line 6"]


def test_ids_the_format_cannot_hold_are_all_listed(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot hold \(2\)"):
        write(tmp_path / "list.txt", [Caption("my video#enc#0", "x"), Caption("a#b#enc#0", "y"), Caption("fine#enc#0", "z")])
    assert not (tmp_path / "list.txt").exists()
