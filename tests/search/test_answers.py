"""What an answer says: the moments, what is known of the video, and whether anything matches."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from pipeline.search.answers import Answer, Filter, Hit, Known, Moment, clock, render, verdict
from pipeline.search.unrelated import sentences

HIT = Hit("a/1", 0.71, (Moment(3.0, 9.5, 0.8), Moment(61.0, 64.0, 0.7)), 5.0, ("/v/a/1.mp4",), "train", ("a man opens a door", "second"))


def test_a_hit_is_told_with_its_moments_its_file_and_a_caption() -> None:
    first, also, caption, last = render(Answer("a door", "main, seed 1", (HIT,), 1.0)).splitlines()
    assert first.split() == ["1", "0.710", "0:03.0", "-", "0:09.5", "(best", "0:05.0)", "[train]", "/v/a/1.mp4"]
    assert also.strip() == "also 1:01.0 - 1:04.0"
    assert caption.strip() == '"a man opens a door"'
    assert last == "the best answer stands out: 100% of unrelated sentences find nothing that scores as high (main, seed 1)"


def test_a_weak_answer_is_said_to_be_weak_and_none_to_be_none() -> None:
    assert verdict(Answer("q", "m", (HIT,), 0.5)).startswith("nothing matches well: 50%")
    assert verdict(Answer("q", "m", (), 0.0)) == "no video is left to search in"


def test_unknown_times_are_words_for_people_and_null_for_programs() -> None:
    answer = Answer("q", "m", (Hit("v", 0.5),), 1.0)
    assert "time unknown" in render(answer)
    read = json.loads(answer.json())
    assert read["hits"][0]["best"] is None
    assert read["hits"][0]["moments"] == []
    assert read["matches"] is True


def test_hours_are_hours() -> None:
    assert clock(3725.04) == "1:02:05.0"
    assert clock(59.96) == " 1:00.0"


def test_videos_are_chosen_by_split_group_and_length() -> None:
    known = Known(split={"a": "test", "b": "train"}, groups={"a": frozenset({"kitchen"})})
    ids, seconds = ["a", "b", "c"], np.array([5.0, 60.0, np.nan])

    def chosen(**wanted: Any) -> list[str]:
        return [ids[i] for i in np.flatnonzero(known.chosen(ids, seconds, Filter(**wanted)))]

    assert chosen() == ["a", "b", "c"]
    assert chosen(split="test") == ["a"]
    assert chosen(group="kitchen") == ["a"]
    assert chosen(shortest=5.0) == ["a", "b"]  # where a length is asked for, one that is not known is not it
    assert chosen(longest=59.9) == ["a"]
    assert chosen(split="train", longest=59.9) == []
    assert known.of(Hit("c", 0.1)).split == ""


def test_the_caption_shown_is_of_the_moment_found() -> None:
    """Not the video's first one, which says that something else was found."""
    spans = (np.array([[0.0, 4.0]]), np.zeros((0, 2)), np.array([[4.0, 5.0], [8.0, 9.0]]))
    known = Known(captions={"a": ("a door opens", "no times", "the door closes")}, spans={"a": spans})
    assert known.of(Hit("a", 0.5, best=8.5)).captions == ("the door closes", "a door opens", "no times")
    assert known.of(Hit("a", 0.5, best=6.0)).captions == ("a door opens", "no times", "the door closes")
    assert known.of(Hit("a", 0.5)).captions == ("a door opens", "no times", "the door closes")


def test_a_filter_is_told_in_words() -> None:
    assert str(Filter("test", "kitchen", 5, 60)) == "split 'test' and group 'kitchen' and 5 to 60 seconds"
    assert str(Filter(shortest=5)) == "5 seconds or more"


def test_training_videos_are_marked_where_the_model_has_learnt_from_them() -> None:
    assert render(Answer("q", "m", (HIT,), 1.0, learnt=True)).splitlines()[-1].startswith("[train]: the model has learnt")
    assert "learnt" not in render(Answer("q", "m", (HIT,), 1.0))


def test_the_unrelated_sentences_are_the_same_every_time_and_no_two_alike() -> None:
    assert sentences() == sentences()
    assert len(set(sentences())) == 64
