"""The evaluation stage on a tiny dataset: the files it writes, and their numbers against literal loops."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.config.schema import Config
from pipeline.core.errors import DatasetError, StoreError, StoreMissing, StoreSchema, TrainingError
from pipeline.core.store import open_store
from pipeline.datasets import table as table_of_annotations
from pipeline.evaluation import inputs, stage, table
from pipeline.jobs import recipes
from pipeline.models.base import Words
from pipeline.models.checkpoint import load_model
from pipeline.ranking import gallery
from pipeline.ranking.metrics import recalls

from .conftest import QUARANTINED, World


def evaluated(world: World, experiment: str = "main", seed: int = 1) -> tuple[dict[str, Any], Any]:
    stage.run(world.config, world.layout, experiment, seed, recipes.evaluation(world.config, experiment))
    with open_store(world.layout.evaluation(experiment, seed), stage="evaluation") as store:
        return json.loads(world.layout.metrics(experiment, seed).read_text()), store.table("queries")


def test_a_checkpoint_under_another_runs_name_is_refused(world: World) -> None:
    """Before anything of it counts: of another seed, of another experiment, of other values under the same name."""
    for experiment, seed, said in (("main", 2, "its seed is 2"), ("second", 1, "its experiment is 'second'")):
        world.train(experiment, seed)
        shutil.copy(world.layout.checkpoint(experiment, seed), world.layout.checkpoint("main", 1))
        with pytest.raises(StoreSchema, match=said):
            evaluated(world)
    chosen = world.config.experiment("main").model_dump(exclude={"evaluation"})
    world.train("main", 1, recipe={"experiment": chosen, "seed": 1})
    evaluated(world)
    world.train("main", 1, recipe={"experiment": {**chosen, "variant": "another"}, "seed": 1})
    with pytest.raises(StoreSchema, match="another recipe than expected: experiment"):
        evaluated(world)


def literal(world: World) -> tuple[list[str], list[str], dict[str, torch.Tensor]]:
    """Scores one query and one video at a time, straight from the model and the stored rows."""
    found = inputs.load(world.layout, world.config.experiment("main"), "test")
    model, _, _ = load_model(world.layout.checkpoint("main", 1))
    videos = [video for video in world.ids if video != QUARANTINED]
    queries = [query for query in world.words if query.split("#")[0] in videos]
    scores = {name: torch.zeros(len(queries), len(videos)) for name in ("clip", "frame", "zero_shot")}
    with torch.no_grad():
        tokens = [model.encode_videos(batch) for batch in found.split.videos.batches(1, torch.device("cpu"))]
        for i, query in enumerate(queries):
            words = torch.from_numpy(world.words[query].astype(np.float32))
            words = (words / (words.norm(dim=1, keepdim=True) + 1e-5))[:8]
            vector = model.encode_queries(Words(words[None], torch.ones(1, len(words))))["pooled"]
            for j, video in enumerate(videos):
                scores["clip"][i, j] = F.cosine_similarity(vector, tokens[j]["clips"][0], dim=1).max()
                scores["frame"][i, j] = F.cosine_similarity(vector, tokens[j]["frames"][0], dim=1).max()
                rows, sentence = (torch.from_numpy(np.asarray(a, dtype=np.float32)) for a in (world.rows[video], world.sentence[query]))
                scores["zero_shot"][i, j] = F.cosine_similarity(sentence[None], rows, dim=1).max()
    scores["fused"] = 0.4 * scores["clip"] + 0.6 * scores["frame"]
    return queries, videos, scores


def test_ranks_recalls_and_top_videos_equal_the_literal_loop(world: World) -> None:
    metrics, found = evaluated(world)
    queries, videos, scores = literal(world)
    assert found["query_id"].tolist() == queries
    truth = torch.tensor([videos.index(query.split("#")[0]) for query in queries])
    for branch, matrix in scores.items():
        target = matrix.gather(1, truth[:, None])
        ranks = 1 + (matrix > target + 1e-6).sum(1)
        np.testing.assert_array_equal(found[f"rank_{branch}"], ranks)
        assert metrics["recalls"][branch] == pytest.approx(recalls(ranks))
    assert found["best_video"].tolist() == [videos[i] for i in scores["fused"].argmax(1)]
    assert metrics["recalls"]["zero_shot"]["R@1"] == 100.0
    with open_store(world.layout.evaluation("main", 1)) as store:
        assert store.array("videos").tolist() == videos
        np.testing.assert_allclose(store.array("top/scores"), scores["fused"].sort(1, descending=True).values, atol=1e-5)
        assert json.loads(store.array("metrics")[0]) == metrics


def test_what_is_printed_with_every_result(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    metrics, _ = evaluated(world)
    text = capsys.readouterr().out
    assert "33 queries, 11 videos (whole); reported on test, epoch 3 chosen on test" in text
    assert "the epoch was chosen on the split that is reported" in text
    assert "left out: 1 videos without clips, 3 queries about them" in text
    assert metrics["excluded"] == {"videos": [QUARANTINED], "queries": [f"{QUARANTINED}#{k}" for k in range(3)], "moments": []}
    assert metrics["chance"]["R@1"] == pytest.approx(100 / 11)
    assert (metrics["split"], metrics["selection_split"], metrics["seed"]) == ("test", "test", 1)


def test_groups_are_measured_apart(world: World) -> None:
    metrics, found = evaluated(world)
    assert set(metrics["groups"]) == {"motion"}
    chosen = found[found["group"] == "motion"]
    assert metrics["groups"]["motion"]["queries"] == len(chosen) == 11
    assert metrics["groups"]["motion"]["fused"] == pytest.approx(recalls(chosen["rank_fused"].to_numpy(copy=True)))


def test_moments_of_ours_and_of_zero_shot(world: World) -> None:
    metrics, found = evaluated(world)
    known = found[found["inside_moment"] >= 0]
    assert len(known) == 22  # the first query of each video has no moment
    assert metrics["moments"]["frame"]["inside"] == pytest.approx(100 * known["inside_moment"].mean())
    assert metrics["moments"]["frame"]["chance"] == pytest.approx(100 * known["ratio"].mean())
    # A sentence is a copy of the row its moment covers.
    assert metrics["moments"]["zero_shot"]["inside"] == 100.0
    assert sum(row["queries"] for row in metrics["moments"]["by_ratio"]) == 22


def test_times_that_are_no_seconds_are_named_and_hit_by_no_chance(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Milliseconds: a moment that begins after its video's end is none, and one that merely ends there is cut."""
    known = table_of_annotations.load(world.layout.annotations)
    asked = [f"{video}#1" for video in world.ids if video != QUARANTINED]
    wrong, late = asked[:6], asked[6]
    before, _ = evaluated(world)
    capsys.readouterr()
    for query in wrong:
        known.moments[query] = known.moments[query] * 1000 + 1000
    known.moments[late] = np.array([[0.0, 900.0]])
    table_of_annotations.save(world.layout.annotations, known)
    metrics, found = evaluated(world)
    assert metrics["excluded"]["moments"] == wrong
    some = ", ".join(wrong[:5])
    assert f"moments after the end of the video are left out: 6 queries ({some}, ...); are their times seconds?" in capsys.readouterr().out
    ratio = found.set_index("query_id")["ratio"]
    assert np.isnan(ratio[wrong]).all()
    assert ratio[late] == 1.0
    assert metrics["moments"]["frame"]["queries"] == before["moments"]["frame"]["queries"] - 6


def test_collapse_measures_are_there_and_json_holds_no_nan(world: World) -> None:
    metrics, _ = evaluated(world)
    json.loads(world.layout.metrics("main", 1).read_text(), parse_constant=lambda name: pytest.fail(f"{name} in metrics.json"))
    collapse = metrics["collapse"]
    assert collapse["video"]["model"]["total_released"] is None  # 11 videos x 32 rows lie in one block of 400
    assert collapse["text"]["agreement_with_foundation"]["queries"] == 33
    cells = collapse["against_zero_shot"]["R@1"]
    assert cells["both"] + cells["only_reference"] == 100.0


def test_the_fields_formats(world: World) -> None:
    _, found = evaluated(world)
    folder = world.layout.run("main", 1)
    run = [line.split(" ") for line in (folder / "run.trec").read_text().splitlines()]
    assert len(run) == 33 * 11
    assert {len(fields) for fields in run} == {6}
    assert run[0][:2] == ["test/00%20a#0", "Q0"]
    assert run[0][3:] == ["1", run[0][4], "tiny-whole-main-seed1"]
    ranked = {(query, video): int(rank) for query, _, video, rank, _, _ in run}
    assert ranked["test/00%20a#0", "test/00%20a"] == found["rank_fused"][0]
    lines = [json.loads(line) for line in (folder / "queries.jsonl").read_text().splitlines()]
    assert lines[0]["query"] == "text 0"
    assert lines[0]["ratio"] is None
    assert lines[5]["top"][0][0] == found["best_video"][5]
    assert len(lines[0]["top"]) == 10
    predicted = [json.loads(line) for line in (folder / "moments.jsonl").read_text().splitlines()]
    assert [line["qid"] for line in predicted] == found["query_id"].tolist()
    assert predicted[1]["pred_relevant_windows"][0][:2] == [found["moment_start"][1], found["moment_end"][1]]
    assert predicted[1]["pred_relevant_windows"][0][0] <= found["best_time"][1] <= predicted[1]["pred_relevant_windows"][0][1]
    assert len(predicted[1]["pred_saliency_scores"]) == len(world.rows[found["video_id"][1]])
    assert (folder / "recall.png").read_bytes()[:4] == b"\x89PNG"


def test_the_same_inputs_give_the_same_bytes(world: World) -> None:
    evaluated(world)
    folder = world.layout.run("main", 1)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    evaluated(world)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == first


def test_zero_shot_says_why_it_is_absent(world: World) -> None:
    elsewhere = world.config.model_copy(update={"experiments": {"main": {"features": ["other"]}}, "features": ["other"]})
    chosen = world.config.experiment("main")
    found = inputs.load(world.layout, chosen, "test")
    absent = chosen.model_copy(update={"features": ["other"]})
    reference, reason = stage._zero_shot(elsewhere, world.layout, absent, found, torch.device("cpu"))
    assert reference is None
    assert reason == "the images of clip are not among the features of any experiment"


def test_a_split_without_queries_names_the_splits_there_are(world: World) -> None:
    with pytest.raises(TrainingError, match=r"split 'val' has no query.*test \(36\), train \(3\)"):
        inputs.load(world.layout, world.config.experiment("main"), "val")


def test_one_query_is_ordinary(world: World) -> None:
    found = inputs.load(world.layout, world.config.experiment("main"), "train")
    model, _, _ = load_model(world.layout.checkpoint("main", 1))
    whole = stage.rank(model, found, world.config.experiment("main"), torch.device("cpu"), None)
    assert whole.top_scores.shape == (3, 1)
    assert whole.ranks["fused"].tolist() == [1, 1, 1]


def test_in_blocks_and_from_mapped_files_the_results_are_the_same_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten of 33 queries at a time, and no room for clips or gallery in memory; with judgements, whose pairs lie in several blocks."""
    labels = world.layout.root / "labels.jsonl"
    usable = [video for video in world.ids if video != QUARANTINED]
    asked = [query for query in world.words if query.split("#")[0] in usable][::2]
    lines = [{"query_id": query, "gt_video_ids": usable[i % 3 :: 3]} for i, query in enumerate(asked)]
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.setattr(gallery, "SCORED", 5)  # of a product of fewer rows the last bits may be others
    results = []
    for block, memory in ((2**30, None), (4 * len(usable) * 12, 0)):
        monkeypatch.setattr(gallery, "BLOCK", block)
        given = {"evaluation": {"relevance": str(labels)}, "runtime": {"device": "cpu", "memory": memory}}
        world.config = Config.model_validate(world.config.model_dump() | given)
        evaluated(world)
        results.append({path.name: path.read_bytes() for path in world.layout.run("main", 1).iterdir()})
    assert len(list(gallery.blocks(33, len(usable)))) == 4
    assert {"evaluation.h5", "metrics.json", "run.trec", "queries.jsonl", "moments.jsonl"} < set(results[0])
    assert results[0] == results[1]


def test_the_table_of_runs(world: World) -> None:
    with pytest.raises(StoreMissing, match="no run has been evaluated"):
        table.run_table(world.config, world.layout)
    for experiment, seed in (("main", 1), ("main", 2), ("second", 1)):
        world.train(experiment, seed)
        evaluated(world, experiment, seed)
    text = table.run_table(world.config, world.layout)
    assert (world.layout.root / "table.md").read_text() == text + "\n"
    metrics = [json.loads(world.layout.metrics("main", seed).read_text())["recalls"]["fused"]["SumR"] for seed in (1, 2)]
    line = next(line for line in text.splitlines() if line.startswith("| main (2 seeds)"))
    assert f"{np.mean(metrics):.1f} ± {np.std(metrics, ddof=1):.1f}" in line
    assert "| zero-shot max-sim " in text
    assert "Queries of group motion (11)" in text
    assert "Not evaluated yet: second seed 2." in text
    assert "published" not in text
    rows = table.pd.read_csv(world.layout.root / "table.csv")
    assert rows["model"].tolist() == ["zero-shot max-sim", "main", "second"]
    assert rows["SumR"][1] == pytest.approx(np.mean(metrics))


def test_runs_of_two_galleries_never_stand_in_one_table(world: World) -> None:
    for seed in (1, 2):
        world.train("main", seed)
        evaluated(world, "main", seed)
    path = world.layout.metrics("main", 2)
    metrics = json.loads(path.read_text())
    metrics["gallery"]["name"] = "another"
    path.write_text(json.dumps(metrics))
    with pytest.raises(StoreError, match=r"several galleries.*\n +main seed 1: whole\n +main seed 2: another"):
        table.run_table(world.config, world.layout)


def test_every_file_of_a_result_names_the_gallery(world: World) -> None:
    metrics, _ = evaluated(world)
    assert metrics["gallery"]["name"] == "whole"
    with open_store(world.layout.evaluation("main", 1)) as store:
        assert store.attrs["gallery"] == "whole"
    metrics["gallery"]["videos"] = 4430
    rows = [row.split(" | ") for row in table.render({"main": [metrics]}, "activitynet").splitlines() if row.startswith("| ")]
    gallery = {row[0].strip("| "): row[2].strip() for row in reversed(rows) if len(row) == 8}  # the first table of two comes last
    assert (gallery["main"], gallery["published: DL-DKD"], gallery["published: MSC"]) == ("whole, 4,430", "mssl, 4,430", "4,917 or 4,430")


def test_several_relevant_videos_beside_the_own_one(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Judged are a third of the queries: their own video, the next one, one of the training split and one in quarantine."""
    judged = [f"{video}#0" for video in world.ids if video != QUARANTINED]
    usable = [video for video in world.ids if video != QUARANTINED]
    wanted = {query: [query.split("#")[0], usable[(i + 1) % len(usable)]] for i, query in enumerate(judged)}
    lines = [{"query_id": query, "gt_video_ids": [*videos, "train/0", QUARANTINED]} for query, videos in wanted.items()]
    lines += [{"query_id": "train/0#0", "gt_video_ids": ["train/0"]}, {"query_id": f"{usable[0]}#1", "gt_video_ids": []}]
    labels = tmp_path / "labels.jsonl"
    labels.write_text("".join(json.dumps(line) + "\n" for line in lines))
    world.config = Config.model_validate(world.config.model_dump() | {"evaluation": {"relevance": str(labels)}})
    found = evaluated(world)[0]["relevance"]
    assert (found["queries"], found["without"], found["outside"], found["mean"], found["several"]) == (11, 1, 22, 2.0, 11)
    queries, videos, scores = literal(world)
    for branch, matrix in scores.items():
        places = matrix.argsort(dim=1, descending=True, stable=True).argsort(dim=1) + 1
        best = [min(int(places[queries.index(query), videos.index(video)]) for video in wanted[query]) for query in judged]
        own = [int(places[queries.index(query), videos.index(wanted[query][0])]) for query in judged]
        measured = found["measures"][branch]
        assert measured["any R@5"] == pytest.approx(100 * np.mean(np.array(best) <= 5))
        assert measured["R@5"] == pytest.approx(100 * np.mean(np.array(own) <= 5))
    assert "11 queries, 2.00 relevant videos each, 11 with several; 0 whose own video is not among them" in capsys.readouterr().out
    world.config.experiments.pop("second")
    text = table.run_table(world.config, world.layout)
    assert "Several videos may answer a query" in text
    assert f"{found['measures']['fused']['mAP']:.1f}" in text
    labels.write_text('{"query_id": "nobody", "gt_video_ids": []}\n')
    with pytest.raises(DatasetError, match="query nobody"):
        evaluated(world)


GALLERIES = [("tvr", 2179, "263.1"), ("activitynet", 4917, "202.1"), ("charades", 1334, "99.7"), ("qvhighlights", 474, "234.6")]


@pytest.mark.parametrize(("kind", "videos", "line"), GALLERIES)
def test_published_numbers_stand_beside_ones_own_on_the_same_gallery(world: World, kind: str, videos: int, line: str) -> None:
    metrics, _ = evaluated(world)
    text = table.render({"main": [metrics]}, kind)
    assert "published:" not in text
    assert f"on a gallery of {'4,917 or 4,430' if kind == 'activitynet' else f'{videos:,}'} videos are not shown beside one of 11." in text
    assert table.frame({"main": [metrics]}, kind)["source"].eq("this run").all()
    metrics["gallery"]["videos"] = videos
    text = table.render({"main": [metrics]}, kind)
    assert any("published: MSC " in row and row.rstrip(" |").endswith(line) for row in text.splitlines())
    numbers = table.frame({"main": [metrics]}, kind)
    full = numbers[numbers["R@1"].notna() & (numbers["source"] != "this run")]
    # A mistyped digit would show: SumR is the sum of the four, to the rounding of each.
    assert (full["SumR"] - full[["R@1", "R@5", "R@10", "R@100"]].sum(axis=1)).abs().max() <= 0.21


def test_a_video_nobody_asks_for_is_a_wrong_answer_all_the_same(world: World) -> None:
    """Of the split's videos, as in the selection split; its queries are gone from the annotations, not its clips."""
    known = table_of_annotations.load(world.layout.annotations)
    silent = world.ids[0]
    left = known.queries[known.queries["video_id"] != silent].reset_index(drop=True)
    table_of_annotations.save(world.layout.annotations, dataclasses.replace(known, queries=left))
    stage.run(world.config, world.layout, "main", 1, recipes.evaluation(world.config, "main"))
    with open_store(world.layout.evaluation("main", 1), stage="evaluation") as store:
        videos, top = store.array("videos").tolist(), store.array("top/videos")
    assert silent in videos
    assert (top == videos.index(silent)).any(1).all()
    assert json.loads(world.layout.metrics("main", 1).read_text())["gallery"]["videos"] == len(videos)
