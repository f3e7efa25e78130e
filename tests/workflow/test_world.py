"""A small world-1 through the workflow: the truth the generator knows is measured beside R@K and shown, and nothing runs twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import world_claims, world_queries, world_rows
from pipeline.config.inputs import Demo
from pipeline.config.reading import load
from pipeline.core.store import open_store
from pipeline.datasets import table
from pipeline.demo.render import draw
from pipeline.demo.scenes import FPS
from pipeline.demo.world import relevant, world
from pipeline.report.pick import read
from tests.workflow.workspace import ROOT, Workspace, demo_config, small

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished_world(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The small world-1 taken to the end. Do not change it: copy it."""
    config = small(demo_config(), demo={"world": "world-1", "seed": 1, "train": 4, "val": 2, "test": 3})
    config["evaluation"]["relevance"] = "generated"
    config |= {
        "encoders": {"demo-clip-b16": config["encoders"]["demo-clip-b16"]},
        "features": ["demo-clip-b16"],
        "experiments": {"main": {}},
    }
    work = Workspace(tmp_path_factory.mktemp("world") / "work", config)
    work.snakemake()
    return work


def test_from_a_seed_to_complete_relevance(finished_world: Workspace) -> None:
    work, config = finished_world, finished_world.config
    answers = {query: videos for query, videos in relevant(Demo(**config["demo"])).items() if query.startswith("test/")}
    measured = json.loads((work.results / "runs/main/seed9527/metrics.json").read_text())["relevance"]
    assert measured["queries"] == len(answers)
    assert measured["mean"] == pytest.approx(sum(map(len, answers.values())) / len(answers))
    assert measured["own_not_relevant"] == measured["outside"] == 0
    assert "Nothing to be done" in work.snakemake("--dry-run").stdout

    command = [sys.executable, "-m", "benchmarks.world", "--configfile", "config.yaml"]
    printed = subprocess.run(
        command, cwd=work.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    rows = {
        cells[0]: cells[1:] for line in printed.stdout.splitlines() if len(cells := [c.strip() for c in line.strip("|").split("|")]) > 1
    }
    assert rows["videos"] == ["4", "2", "3"]
    assert float(rows["chance"][0]) < float(rows["oracle"][0]) <= 100
    assert float(rows["one video's queries"][0].split()[0]) <= 1
    assert 0 < float(rows["clip borders, F1"][0].split()[0]) <= 1


def test_rows_of_several_machines_stand_in_one_table(finished_world: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `save` writes is all that `table` needs; seeds of one recipe become one row, others and other queries are refused."""
    monkeypatch.chdir(finished_world.folder)
    config = load("config.yaml")
    row = world_rows.saved(config, "main", [9527], None)
    metrics = json.loads(config.layout.metrics("main", 9527).read_text())
    elsewhere = json.loads(world_rows.as_text(row).replace("9527", "7"))
    both = world_rows.saved(config, "main", [9527], elsewhere)
    assert sorted(both["ranks"]) == ["7", "9527"]
    (tmp_path / "main.json").write_text(world_rows.as_text(both))
    other = {
        **both,
        "measured": ["0.5 [0.4, 0.6]"] * len(world_claims.CLAIMS),
        "ranks": {seed: [1] * len(ranks) for seed, ranks in both["ranks"].items()},
    }
    (tmp_path / "perfect.json").write_text(world_rows.as_text(other))

    method, measured = world_rows.read(config, tmp_path / "main.json", world_rows.asked(config))
    within = (method.ranks[0] <= 1).mean() * 100
    assert within == pytest.approx(metrics["recalls"]["fused"]["R@1"])
    assert measured is None
    monkeypatch.chdir(tmp_path)  # no run lies here
    printed = world_rows.tables(config, tmp_path)
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in printed.splitlines() if line.startswith("| main ")]
    assert cells[0][6] == "2"  # seeds
    assert cells[0][7] == f"{within:.1f} ± 0.0"
    assert "| perfect " in printed
    assert "| clip borders, F1 |" in printed
    assert printed.count("0.5 [0.4, 0.6]") == len(world_claims.CLAIMS)

    with pytest.raises(SystemExit, match=r"made with other settings: remove main\.json"):
        world_rows.saved(config, "main", [9527], {**row, "recipe": "0" * 12})
    (tmp_path / "main.json").write_text(world_rows.as_text({**row, "recipe": "0" * 12}))
    with pytest.raises(SystemExit, match=r"made with other settings: remove main\.json"):
        world_rows.tables(config, tmp_path)
    (tmp_path / "main.json").write_text(world_rows.as_text(row))
    with pytest.raises(SystemExit, match="not of the 1 queries"):
        world_rows.read(config, tmp_path / "main.json", world_rows.asked(config)[:1])


def test_one_command_makes_a_row(finished_world: Workspace, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.world_rows", "save", "measure", "table", "--configfile", "config.yaml"]
    command += ["--rows", str(tmp_path), "--experiments"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, "main"], cwd=finished_world.folder, env=environment, capture_output=True, text=True, check=True)
    assert "| main " in done.stdout
    assert len(json.loads((tmp_path / "world-1" / "main.json").read_text())["measured"]) == len(world_claims.CLAIMS)
    done = subprocess.run([*command, "mine"], cwd=finished_world.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "mine: none of its seeds was evaluated" in done.stderr
    (tmp_path / "world-1" / "main.json").unlink()
    del command[3]  # save
    done = subprocess.run([*command, "main"], cwd=finished_world.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "main: its row was not saved yet" in done.stderr


def test_films_are_found_by_their_windows(finished_world: Workspace, tmp_path: Path) -> None:
    """benchmarks/windows.py on the videos of the small world: joined in order, moments moved, each length of window a row."""
    words = ["benchmarks.windows", str(tmp_path / "films"), "--configfile", "config.yaml", "--hours", "0.08", "--windows", "60", "120"]
    command = [sys.executable, "-m", *words, "--seed", "9527", "--train", "120"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    printed = subprocess.run(command, cwd=finished_world.folder, env=environment, capture_output=True, text=True, check=True).stdout
    specs = [video for video in world(Demo(**finished_world.config["demo"])) if video.split == "test"]
    rows = {cells[0]: cells[1:] for line in printed.splitlines() if len(cells := [c.strip() for c in line.strip("|").split("|")]) > 1}
    assert 1 < int(rows["whole"][0]) <= len(specs)
    assert int(rows["whole"][0]) < int(rows["120 s"][0]) < int(rows["60 s"][0])
    ways = ("whole", "120 s", "60 s", "whole, trained so", "120 s, trained so")
    assert all(0 <= float(value) <= 100 for way in ways for value in rows[way][1:5])
    assert [rows[f"{way}, trained so"][0] for way in ways[:2]] == [rows[way][0] for way in ways[:2]]
    known = table.load(tmp_path / "films/films/annotations.h5")
    film_of = dict(zip(known.queries["query_id"], known.queries["video_id"], strict=True))
    before: dict[str, float] = {}
    for spec in specs:
        (film,) = {film_of[query.query_id] for query in spec.queries}
        for query in spec.queries:
            assert known.moments[query.query_id][0] - before.get(film, 0.0) == pytest.approx([query.start, query.end], abs=4)
        before[film] = before.get(film, 0.0) + spec.duration
    assert known.videos["duration"][known.videos["split"] == "test"].tolist() == pytest.approx(list(before.values()), abs=6)


def test_the_picture_of_queries_marks_what_is_true(finished_world: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished_world.folder)
    config, answers = load("config.yaml"), relevant(Demo(**finished_world.config["demo"]))
    asked = {row["query_id"]: row for row in map(json.loads, (config.layout.run("main", 9527) / "queries.jsonl").read_text().splitlines())}
    with open_store(config.layout.evaluation("main", 9527), stage="evaluation") as store:
        ranking, ids = read(store), store.array("queries/query_id").tolist()
    chosen = world_queries.some_queries(config, asked, 0)
    assert len({query.query_id for query in chosen}) == 12
    assert chosen != world_queries.some_queries(config, asked, 1)
    kinds = set()
    for query in chosen:
        moment, *found = world_queries.shots(config, query, ids.index(query.query_id), ranking)
        own = query.query_id.partition("#")[0]
        assert (moment.video, moment.kind) == (own, "asked")
        assert query.start < moment.seconds < query.end
        assert [shot.video for shot in found] == [video for video, _ in asked[query.query_id]["top"][:3]]
        for shot in found:
            assert shot.kind == ("right" if shot.video == own else "also true" if shot.video in answers[query.query_id] else "wrong")
        kinds |= {shot.kind for shot in found}
    assert kinds >= {"right", "wrong"}

    page = world_queries.picture(config, "main", 9527)
    world_queries.save(page, tmp_path / "queries.png")
    assert (tmp_path / "queries.png").stat().st_size < 400_000
    # the frame of the first query's moment is what its scene shows
    first = chosen[0]
    (spec,) = (video for video in world(config.demo) if first in video.queries)
    (scene,) = (scene for scene in spec.scenes if round(scene.start / FPS, 3) == first.start)
    drawn = Image.fromarray(draw(scene)[(scene.end - scene.start) // 2]).resize((world_queries.WIDE, world_queries.HIGH))
    left, top = world_queries.MARGIN + world_queries.EDGE, world_queries.MARGIN + 2 * world_queries.LINE + 4 + world_queries.EDGE
    shown = page.crop((left, top, left + world_queries.WIDE, top + world_queries.HIGH))
    assert np.abs(np.asarray(shown, int) - np.asarray(drawn, int)).mean() < 12
