"""Batches made ahead of the step: the same ones in the same order, one in advance, and errors where they belong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipeline.core.errors import TrainingError
from pipeline.training.batches import Batches, Sampler, ahead
from tests.ranking.test_data import CPU, load
from tests.training import miniature


def test_one_item_is_made_in_advance_by_another_thread() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            assert threading.current_thread() is not threading.main_thread()
            made.append(number)
            yield number

    for number in ahead(items()):
        assert len(made) <= number + 2
    assert number == 4
    assert made == [0, 1, 2, 3, 4]
    assert list(ahead(iter([]))) == []


def test_what_making_an_item_raises_is_raised_after_those_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise TrainingError("no more", fix="none")

    found = []
    with pytest.raises(TrainingError, match="no more"):
        for item in ahead(items()):
            found.append(item)
    assert found == [1]


def test_an_epoch_is_what_gathering_one_batch_after_the_other_gives(tmp_path: Path) -> None:
    split = load(miniature.make(tmp_path, train=7, val=1))
    batches, sampler, other = Batches(split, 6, CPU), Sampler(7, 3, seed=5), Sampler(7, 3, seed=5)
    for _ in range(2):
        expected = [batches.gather(chosen) for chosen in other.epoch()]
        found = list(batches.epoch(sampler))
        assert [batch.ids for batch in found] == [batch.ids for batch in expected]
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours.videos.frames, theirs.videos.frames)
            assert torch.equal(ours.words.rows, theirs.words.rows)
            assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(sampler.state, other.state)
