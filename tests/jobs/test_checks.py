"""What imported queries cannot give is said before any job, for the target that is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.schema import Config
from pipeline.core.errors import ConfigError
from pipeline.core.shards import assign
from pipeline.core.store import create
from pipeline.datasets import table
from pipeline.datasets.rows import Query, Rows, Video
from pipeline.jobs import sentences
from pipeline.jobs.collection import Collection
from tests.workflow.workspace import Workspace

NO_TCPL = {"tcpl": {"distance": 0, "angle": 0}}


def bundle(folder: Path, *, words: int, sentences: bool, **values: Any) -> Workspace:
    """A workspace with an imported bundle of random features: `words` vectors a query, with a sentence vector or without."""
    ids = [f"{split}/{i}" for split in ("train", "test") for i in range(3)]
    encoders = {name: {"kind": "imported"} for name in ("video", "words")}
    main = {"main": {"objectives": NO_TCPL}}
    given = {"dataset": {"name": "b", "kind": "bundle"}, "encoders": encoders, "features": ["video"], "text": "words", "experiments": main}
    work = Workspace(folder, {**given, "training": {"selection_split": "test"}, "results": str(folder / "results"), **values})
    layout = Config.model_validate(work.config).layout
    videos = [Video(video, video.split("/")[0], 8.0) for video in ids]
    queries = [Query(video, video, video.split("/")[0], "a text", (), f"{video}#enc#0") for video in ids]
    table.save(layout.annotations, table.of(Rows(tuple(videos), tuple(queries))))
    for shard, members in assign(ids, 100).items():
        with create(layout.features("video", shard), stage="features", dim=4) as writer:
            for video in members:
                times = {"start": np.arange(8.0), "end": np.arange(8.0) + 1}
                writer.append("features", video, np.ones((8, 4), np.float16), times, {"key": "k", "duration": 8.0})
    with create(layout.text("words"), stage="text", architecture="published: test") as writer:
        for query in ids:
            items = {"sentence": np.ones(4, np.float16)} if sentences else {}
            writer.append("tokens", query, np.ones((words, 4), np.float16), None, {**items, "truncated": False, "key": "k"})
    return work


def refused(work: Workspace, *target: str) -> str:
    """What Snakemake says, having planned nothing."""
    done = work.snakemake("--dry-run", *target, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert "rule " not in done.stdout
    return done.stdout


@pytest.mark.slow
def test_tcpl_without_a_teacher(tmp_path: Path) -> None:
    """RoBERTa's rows have no sentence vector: MSC's preset needs a teacher, or TCPL switched off."""
    work = bundle(tmp_path, words=5, sentences=False, experiments={"main": {"preset": "msc/tvr"}})
    said = refused(work)
    assert "TCPL of main needs a sentence vector of every query, and words was imported without any" in said
    assert "name a `teacher` encoder" in said
    work.config["experiments"]["main"]["objectives"] = NO_TCPL
    work.write()
    assert work.planned()["train"] == 1


@pytest.mark.slow
def test_sentence_vectors_for_a_preset_that_reads_words(tmp_path: Path) -> None:
    work = bundle(tmp_path, words=1, sentences=True)
    work.config["compare"] = {"methods": {"late": {"preset": "ral/tvr"}}}
    work.write()
    said = refused(work, "compare")
    assert "words has one vector a query, and a model of kind ral reads words" in said
    assert work.planned()["train"] == 1  # nobody asked for that method


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["dl_dkd/tvr", "dl_dkd_plus_plus/tvr", "amdnet/tvr"])
def test_sentence_vectors_that_were_not_imported(tmp_path: Path, preset: str) -> None:
    """RoBERTa's words have none, which these methods need: as what the model reads, or as what it learns from."""
    said = refused(bundle(tmp_path, words=5, sentences=False, experiments={"main": {"preset": preset}}))
    assert "what was imported is not what these experiments need" in said
    wanted = "main: amdnet reads one sentence vector a query, and words holds none"
    taught = "main: an objective learns from frames and sentences of words, which holds no sentence vectors"
    assert (wanted if "amdnet" in preset else taught) in said


def test_a_teacher_of_frames_that_is_none(tmp_path: Path) -> None:
    """Sentences whose images were not imported, or are of another space; with `teacher` naming what has both, nothing is said."""
    experiments = {"main": {"preset": "dl_dkd/tvr"}}
    work = bundle(tmp_path, words=5, sentences=True, experiments=experiments)
    given = work.config
    with pytest.raises(ConfigError, match="sentences of words, of which only text was imported"):
        sentences.check(Collection.of(Config.model_validate(given)), ["main"])
    layout = Config.model_validate(given).layout
    for name, width in (("clip", 4), ("narrow", 3)):
        given["encoders"][name] = {"kind": "imported"}
        with create(layout.text(name), stage="text", architecture="published: test") as writer:
            item = {"sentence": np.ones(width, np.float16), "truncated": False, "key": "k"}
            writer.append("tokens", "train/0", np.ones((1, 4), np.float16), None, item)
        with create(layout.features(name, "000"), stage="features", dim=4) as writer:
            times = {"start": np.arange(8.0), "end": np.arange(8.0) + 1}
            writer.append("features", "train/0", np.ones((8, 4), np.float16), times, {"key": "k", "duration": 8.0})
    with pytest.raises(ConfigError, match="the rows of narrow have 4 values, its sentences 3"):
        sentences.check(Collection.of(Config.model_validate(given | {"teacher": "narrow"})), ["main"])
    sentences.check(Collection.of(Config.model_validate(given | {"teacher": "clip"})), ["main"])


@pytest.mark.slow
def test_a_method_that_does_not_fit_stops_compare_alone(tmp_path: Path) -> None:
    """Asked for by its name, by its file, or by the command line: said before any job. Nobody else needs that method."""
    work = bundle(tmp_path, words=5, sentences=True)
    work.config["compare"] = {"methods": ["main", "amdnet"], "seeds": [1]}
    work.write()
    assert work.planned()["train"] == 1
    for target in ("compare", str(work.results / "compare.md")):
        said = refused(work, target)
        assert "does not say which dataset's values of amdnet it takes" in said
        assert "methods: {amdnet: {preset: amdnet/tvr}}" in said
    assert "which dataset's values of amdnet" in work.prvr("compare", check=False).stderr
    work.config["compare"]["methods"] = {"amdnet": {"preset": "amdnet/tvr"}}  # what the message says
    work.write()
    assert work.planned("compare")["train"] == 1


@pytest.mark.slow
def test_generated_relevance_needs_a_generated_world(tmp_path: Path) -> None:
    work = bundle(tmp_path, words=5, sentences=True, evaluation={"relevance": "generated"})
    assert "evaluation.relevance: generated needs a generated world" in refused(work)
