"""The report's axes."""

from __future__ import annotations

import pytest

from pipeline.report.drawing import decades, drawn


@pytest.mark.parametrize(
    ("videos", "named"),
    [
        (1, ["1"]),
        (3, ["1", "2", "3"]),
        (78, ["1", "2", "5", "10", "20", "50"]),
        (5000, ["1", "5", "10", "50", "100", "500", "1,000", "5,000"]),
    ],
)
def test_a_rank_is_named_in_whole_numbers(videos: int, named: list[str]) -> None:
    with drawn() as (_, axes, svg):
        axes.plot(range(1, videos + 1), range(1, videos + 1))
        decades(axes, videos)
        assert [label.get_text() for label in axes.get_xticklabels()] == named
        assert len(axes.get_xticks(minor=True)) == 0
    assert "<svg" in svg[0]
