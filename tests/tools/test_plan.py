"""`prvr plan` on real dry runs: which jobs and why, what is cached inside them, and no silence about output that cannot be read."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.config.reading import load, read
from pipeline.config.schema import merge
from pipeline.core.errors import PlanError
from pipeline.jobs.dag import Dag
from pipeline.tools.dryrun import dry_run, planned_jobs
from pipeline.tools.forecast import Row
from pipeline.tools.plan import plan
from tests.datasets.miniature import build
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def caption_changed(work: Workspace) -> None:
    path = work.folder / "data" / "queries.csv"
    table = pd.read_csv(path)
    table.assign(query=["something else entirely happens", *table["query"][1:]]).to_csv(path, index=False)


def video_added(work: Workspace) -> None:
    path, first = work.folder / "data" / "queries.csv", min((work.folder / "data" / "videos").rglob("*.mp4"))
    first.with_name("added.mp4").write_bytes(first.read_bytes() + b"\0")
    table, name = pd.read_csv(path), first.with_name("added.mp4").relative_to(work.folder / "data" / "videos")
    pd.concat([table, table.iloc[[0]].assign(query_id="added", path=name.as_posix())]).to_csv(path, index=False)


def rows(work: Workspace) -> dict[str, Row]:
    return {row.name: row for row in plan(Dag.of(load("config.yaml")), "config.yaml", cores=2).rows}


def test_jobs_and_reasons_are_those_of_snakemake(work: Workspace) -> None:
    work.config["experiments"]["main"] = {**work.config["experiments"]["main"], "training": {"learning_rate": 2.0e-3}}
    work.config["experiments"]["more"] = {"clips": {"tau": 0.55}}
    work.write()
    jobs = planned_jobs(dry_run("config.yaml"))
    assert Counter(job.rule for job in jobs) == Counter(clips=2, train=2, evaluate=2, table=1, report=1)
    why = {(job.rule, job.wildcards.get("experiment", "")): job.why for job in jobs}
    assert why == {
        ("clips", ""): "not made yet",
        ("train", "main"): "its configuration changed",
        ("train", "more"): "not made yet",
        ("evaluate", "main"): "follows a stage that runs",
        ("evaluate", "more"): "not made yet",
        ("table", ""): "follows a stage that runs",
        ("report", ""): "follows a stage that runs",
    }
    assert {job.wildcards["seed"] for job in jobs if job.rule == "train"} == {"9527"}
    assert {job.wildcards["shard"] for job in jobs if job.rule == "clips"} == {"000", "001"}


def test_output_that_cannot_be_read_is_an_error(work: Workspace) -> None:
    caption_changed(work)
    printed = dry_run("config.yaml")
    why = {job.rule: job.why for job in planned_jobs(printed)}
    assert why.pop("annotations") == "videos or annotations changed"
    assert why == dict.fromkeys(["text", "train", "evaluate", "table", "report"], "follows a stage that runs")
    block = re.search(r"^(local)?rule text:\n(    .*\n)+", printed, flags=re.M)
    assert block is not None
    for changed, said in (
        (printed.replace(block[0], ""), "text: 0 of 1"),
        (printed.replace("    reason: ", "    cause: "), "annotations: 0 of 1"),
        (re.sub(r"^rule ", "step ", printed, flags=re.M), "train: 0 of 2"),
        (printed.replace("Job stats:", "Jobs:"), "neither"),
        (re.sub(r"^total( +)9$", r"total\g<1>10", printed, flags=re.M), "lists 9 jobs and counts 10"),
        ("", "neither"),
    ):
        assert changed != printed
        with pytest.raises(PlanError, match=said):
            planned_jobs(changed)


def test_nothing_to_do(work: Workspace) -> None:
    assert planned_jobs(dry_run("config.yaml")) == []
    assert {(row.todo, row.why) for row in rows(work).values()} == {(0, "up to date")}


def test_a_dry_run_that_fails_is_an_error(work: Workspace) -> None:
    work.config["features"] = ["nothing"]
    work.write()
    with pytest.raises(PlanError, match="names encoder 'nothing'"):
        dry_run("config.yaml")


def test_one_more_video_is_the_only_one_to_encode_and_speeds_are_measured(work: Workspace) -> None:
    video_added(work)
    planned = rows(work)
    assert (planned["frames"].todo, planned["frames"].total) == (1, 14)
    row = planned["features demo-slowfast"]
    assert (row.todo, row.total, row.measured, row.why) == (1, 14, True, "follows a stage that runs")
    (shard,) = {job.wildcards["shard"] for job in planned_jobs(dry_run("config.yaml")) if job.rule == "frames"}
    benchmarks = list((work.results / "benchmarks" / "features" / "demo-slowfast").glob("*.tsv"))
    assert len(benchmarks) == 2
    assert row.seconds == pytest.approx(sum(pd.read_csv(path, sep="\t")["s"][0] for path in benchmarks) / 14)
    clips = next(row for name, row in planned.items() if name.startswith("clips "))
    assert clips.todo == len(Dag.of(load("config.yaml")).shards[shard])
    assert (planned["train"].todo, planned["train"].total, planned["table"].todo) == (2, 2, 1)


def test_a_fresh_dataset_is_planned_in_full(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mini = build("activitynet", tmp_path / "data")
    values = merge(read(root / "config" / "activitynet.yaml"), {"results": str(tmp_path / "results"), "dataset": mini.values})
    Path("activitynet.yaml").write_text(yaml.safe_dump(values))
    made = plan(Dag.of(load("activitynet.yaml")), "activitynet.yaml", cores=2)
    rows_by_name = {row.name: row for row in made.rows}
    assert (
        rows_by_name["frames"].todo,
        rows_by_name["features clip-l14"].todo,
        rows_by_name["train"].todo,
        rows_by_name["evaluate"].todo,
    ) == (10, 10, 2, 2)
    assert rows_by_name["annotations"].todo == rows_by_name["annotations"].total == 20
    assert {row.why for row in rows_by_name.values()} == {"not made yet"}
    text = made.text()
    for part in ("gallery val_1", "train: 6 videos, 12 queries", "videos     10, 2 min (as annotated)", "not made yet", "ViT-L-14.pt"):
        assert part in text
