"""Search without training: the stored rows as they are, the same scores as the zero-shot row of the table."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.core.errors import ConfigError, StoreMissing
from pipeline.core.shards import shard_names
from pipeline.evaluation import zero_shot
from pipeline.search.answers import Filter
from pipeline.search.engine import Engine
from pipeline.search.frozen import Frozen
from pipeline.search.opening import engine, engines
from pipeline.video.picture import square
from tests.encoders.conftest import SIZE
from tests.evaluation.conftest import QUARANTINED, World, typeable


@pytest.fixture
def untrained(tmp_path: Path) -> World:
    return World(tmp_path)


def asked(world: World, query: str) -> torch.Tensor:
    return F.normalize(torch.from_numpy(world.sentence[query].astype(np.float32)), dim=-1)


def test_scores_are_the_zero_shot_row_of_the_table(untrained: World) -> None:
    frozen = Frozen(untrained.config)
    assert set(frozen.ids) == set(untrained.rows) - {QUARANTINED}
    queries = list(untrained.sentence)
    sentences = torch.stack([asked(untrained, query) for query in queries])
    rows = zero_shot.stored_rows(untrained.layout, "clip", shard_names(len(untrained.rows), 8), frozen.ids)
    expected = zero_shot.max_sim(sentences, torch.zeros(len(queries), dtype=torch.int64), frozen.ids, rows)
    for sentence, scores in zip(sentences, expected.rows, strict=True):
        assert frozen.scores(sentence) == pytest.approx(scores.numpy(), abs=1e-6)


def test_the_moment_is_the_row_the_sentence_points_at(untrained: World) -> None:
    frozen = Frozen(untrained.config)
    for query, row in untrained.target.items():
        video = query.rsplit("#", 1)[0]
        if video == QUARANTINED:
            continue
        similarity, start, end = frozen.rows(asked(untrained, query), [frozen.ids.index(video)])
        assert similarity.argmax() == row
        assert (start[0, row], end[0, row]) == (2.0 * row, 2.0 * row + 2)


def test_videos_of_different_lengths_do_not_mix(untrained: World) -> None:
    frozen, query = Frozen(untrained.config), next(iter(untrained.sentence))
    together, start, _ = frozen.rows(asked(untrained, query), range(len(frozen.ids)))
    for i, video in enumerate(frozen.ids):
        alone, _, _ = frozen.rows(asked(untrained, query), [i])
        length = len(untrained.rows[video])
        assert together[i, :length] == pytest.approx(alone[0], abs=1e-6)
        assert np.isneginf(together[i, length:]).all()
        assert np.isnan(start[i, length:]).all()


class Echo(Engine):
    """Scores that are typed in."""

    name, ids = "echo", ["a", "b", "c"]

    def __init__(self, world: World, values: dict[str, list[float]]) -> None:
        super().__init__(world.config, "clip")
        self.values = values

    def asked(self, query: str) -> str:
        return query

    @property
    def durations(self) -> np.ndarray:
        return np.array([4.0, 4.0, np.nan])

    def scores(self, asked: str) -> np.ndarray:
        return np.array(self.values.get(asked, [0.1, 0.2, 0.3]), np.float32)

    def rows(self, asked: str, chosen: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = (len(chosen), 4)
        return np.tile([0.0, 1.0, 0.0, 0.9], (len(chosen), 1)), np.tile(np.arange(4.0), (len(chosen), 1)), np.ones(shape) + np.arange(4.0)


def test_a_score_that_any_sentence_gets_is_no_match_and_a_higher_one_is(untrained: World) -> None:
    echo = Echo(untrained, {"right": [0.9, 0.2, 0.1], "wrong": [0.1, 0.3, 0.2]})
    right, wrong = echo.answer("right"), echo.answer("wrong")
    assert right.matches
    assert [hit.video_id for hit in right.hits] == ["a", "b", "c"]
    assert [(moment.start, moment.end) for moment in right.hits[0].moments] == [(1.0, 2.0), (3.0, 4.0)]
    assert not wrong.matches
    assert wrong.standing == 0.0
    assert len(echo.answer("right", 1, moments=1).hits[0].moments) == 1


def test_a_split_that_no_video_is_of_is_refused_with_those_there_are(untrained: World) -> None:
    frozen = Frozen(untrained.config)
    with pytest.raises(ConfigError, match=r"no video is of split 'tset'.*\n.*\n.*split: did you mean test\? there are: test, train"):
        frozen.answer("text", wanted=Filter("tset"))
    with pytest.raises(ConfigError, match="no video is of group 'kitchen'"):
        frozen.answer("text", wanted=Filter(group="kitchen"))


def test_without_a_run_the_frozen_encoder_answers_and_says_so(untrained: World) -> None:
    said: list[str] = []
    assert engine(untrained.config, say=said.append).name == "zero-shot, clip"
    assert said == ["main is not trained (seed 1): the frozen encoder answers"]
    with pytest.raises(StoreMissing):
        engine(untrained.config, "main", say=said.append)
    with pytest.raises(ConfigError, match="there is no experiment 'mian'"):
        engine(untrained.config, "mian", say=said.append)
    untrained.train("main", 1)
    assert engine(untrained.config, say=said.append).trained == ("main", 1)
    assert engine(untrained.config, zero_shot=True, say=said.append).trained is None
    assert len(said) == 1


def test_an_encoder_whose_images_are_not_there_is_refused(untrained: World) -> None:
    with pytest.raises(ConfigError, match="the frames were not encoded by other"):
        Frozen(untrained.config.model_copy(update={"text": "other"}))
    for path in untrained.layout.features("clip", "*").parent.glob("*.h5"):
        path.unlink()
    with pytest.raises(StoreMissing, match="no video has been encoded yet"):
        Frozen(untrained.config)


def test_an_answer_for_programs_is_json(untrained: World) -> None:
    read = json.loads(Echo(untrained, {}).answer("anything").json())
    assert [hit["video_id"] for hit in read["hits"]] == ["c", "b", "a"]


def test_a_moment_is_judged_against_moments_of_other_videos(untrained: World) -> None:
    frozen = Frozen(untrained.config)
    answer, asked = frozen.like(3, 1.0)
    assert answer.hits[0].video_id == frozen.ids[3]
    assert answer.hits[0].score == pytest.approx(1.0, abs=1e-5)
    others = np.delete(frozen.scores(asked), 3).max()
    rivals = []
    for video, seconds in enumerate(frozen.durations):
        scores = frozen.scores(frozen.of_row(video, float(seconds) / 2))
        rivals.append(np.delete(scores, [3, video]).max())
    assert answer.standing == pytest.approx(np.mean(np.array(rivals) < others))
    assert answer.against == "other moments of these videos"


def test_answers_come_in_stretches(untrained: World) -> None:
    frozen = Frozen(untrained.config)
    whole, _ = frozen.like(0, 1.0, 100)
    assert (whole.found, len(whole.hits)) == (len(frozen.ids), len(frozen.ids))
    part, _ = frozen.like(0, 1.0, 4, first=3)
    assert part.hits == whole.hits[3:7]
    assert (part.first, part.found, part.standing) == (3, whole.found, whole.standing)
    assert frozen.like(0, 1.0, 4, first=99)[0].hits == ()


def test_lengths_are_those_of_the_stored_rows(untrained: World) -> None:
    frozen = Frozen(untrained.config)
    assert frozen.durations.tolist() == [2.0 * len(untrained.rows[video]) for video in frozen.ids]
    shortest = float(np.median(frozen.durations))
    answer, _ = frozen.like(0, 1.0, 100, wanted=Filter(shortest=shortest))
    assert {hit.video_id for hit in answer.hits} == {v for v, s in zip(frozen.ids, frozen.durations, strict=True) if s >= shortest}
    with pytest.raises(ConfigError, match=r"no video is of 1000 seconds or more.*\n.*\n.*lengths: \d+ to \d+ seconds"):
        frozen.like(0, 1.0, wanted=Filter(shortest=1000))


def test_a_picture_is_seen_as_a_frame_of_a_video_is(tmp_path: Path) -> None:
    world = typeable(tmp_path)
    frozen, rgb = Frozen(world.config), np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    stored = frozen.encoder.encode(square(rgb, SIZE)[None])[0]  # type: ignore[attr-defined]
    assert frozen.of_picture(rgb) == pytest.approx(F.normalize(stored, dim=-1), abs=1e-6)


def test_every_trained_run_can_be_asked_and_the_frozen_encoder(untrained: World) -> None:
    assert list(engines(untrained.config)) == ["zero-shot"]
    for experiment, seed in (("main", 1), ("main", 2), ("second", 2)):
        untrained.train(experiment, seed)
    assert list(engines(untrained.config)) == ["main", "main, seed 2", "second, seed 2", "zero-shot"]
    assert list(engines(untrained.config, 2)) == ["main", "second", "zero-shot"]
    assert engines(untrained.config)["second, seed 2"]().trained == ("second", 2)
