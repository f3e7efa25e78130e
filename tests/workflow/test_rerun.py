"""For each change, exactly which jobs run: the table of docs/rerun.md, row by row, on the real workflow."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pipeline.config.reading import load
from pipeline.core.provenance import content
from pipeline.core.shards import shard_names, shard_of
from pipeline.core.store import open_store
from pipeline.jobs.dag import Dag
from tests.workflow.workspace import ROOT, Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
Change = Callable[[Workspace], None]

# The small world: 13 videos in 2 shards, 3 image or motion encoders, 1 text encoder, 2 experiments with their own clips, 1 seed.
E, S, X = 3, 2, 2
FROM_TRAIN = {"train": X, "evaluate": X, "table": 1, "report": 1}
FROM_CLIPS = {"clips": X * S, **FROM_TRAIN}
WITH_ONE_MORE = {"frames": S, "features": S, "quarantine": 1, "clips": S, "train": 1, "evaluate": X + 1, "table": 1, "report": 1}
QUERIES = {"annotations": 1, "text": 1, **FROM_TRAIN}


def features(encoders: int, shards: int, **first: int) -> dict[str, int]:
    """The jobs from the frames on when so many encoders' features of so many shards change."""
    return {**first, "frames": shards, "features": encoders * shards, "quarantine": 1, "clips": X * shards, **FROM_TRAIN}


def queries(work: Workspace, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = work.folder / "data" / "queries.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)


def videos(work: Workspace) -> list[Path]:
    return sorted((work.folder / "data" / "videos").rglob("*.mp4"))


def row_of(work: Workspace, table: pd.DataFrame, video: Path) -> pd.Series:
    """The rows of a video in the CSV, by whichever column names it."""
    name = video.relative_to(work.folder / "data" / "videos")
    return table["video_id"] == name.with_suffix("").as_posix() if "video_id" in table else table["path"] == name.as_posix()


def named(work: Workspace, video: Path) -> dict[str, str]:
    """How the CSV names a video."""
    name, table = video.relative_to(work.folder / "data" / "videos"), pd.read_csv(work.folder / "data" / "queries.csv")
    return {"video_id": name.with_suffix("").as_posix()} if "video_id" in table else {"path": name.as_posix()}


def config(*path: str, value: object) -> Change:
    """Set one value of the configuration."""

    def change(work: Workspace) -> None:
        place = work.config
        for key in path[:-1]:
            place = place.setdefault(key, {})
        place[path[-1]] = value

    return change


def relevance(work: Workspace) -> None:
    """A file of relevant videos is named, and the run brought up to date; then one of its lines changes."""
    query = pd.read_csv(work.folder / "data" / "queries.csv").query("split == 'test'")["query_id"].iloc[0]
    labels = work.folder / "labels.qrels"
    labels.write_text(f"{query} 0 {query.split('#')[0]} 1\n")
    config("evaluation", "relevance", value="labels.qrels")(work)
    work.write()
    assert dict(work.planned()) == {"evaluate": X, "table": 1, "report": 1}
    work.snakemake()
    assert dict(work.planned()) == {}
    labels.write_text(labels.read_text().replace(" 1\n", " 2\n"))


COMPARED = {"cost": X, "compare": 1}


def test_compare_runs_only_what_changed(finished: Workspace, tmp_path: Path) -> None:
    """`snakemake compare`: the rows of docs/rerun.md about it, one after another on one folder."""
    work = finished.copy(tmp_path / "work")
    work.config.pop("compare", None)  # the demo's own has many more methods
    work.write()
    assert dict(work.planned("compare")) == COMPARED  # its runs are those of the table
    work.snakemake("compare")
    shown = (work.results / "compare.md").read_text()
    assert "| main " in shown
    assert "| no-motion " in shown
    assert "Cost (" in shown
    costs = {path: path.read_bytes() for path in (work.results / "costs").glob("*.json")}  # measured again they would differ
    assert len(costs) == X
    assert dict(work.planned("compare")) == dict(work.planned()) == {}
    config("compare", "seeds", value=[9527, 2])(work)
    work.write()
    assert dict(work.planned("compare")) == {"train": X, "evaluate": X, "compare": 1}
    config("compare", "seeds", value=None)(work)
    config("training", "learning_rate", value=2.0e-3)(work)  # a step takes as long as before
    work.write()
    assert dict(work.planned("compare")) == {"train": X, "evaluate": X, "compare": 1}
    config("training", "batch_videos", value=3)(work)
    work.write()
    assert dict(work.planned("compare")) == {"train": X, "evaluate": X, **COMPARED}
    config("training", "batch_videos", value=4)(work)
    config("training", "learning_rate", value=1.0e-3)(work)
    config("compare", "methods", value=["main", "msc"])(work)  # a preset is one more method; features and, here, clips are there
    work.write()
    assert dict(work.planned("compare")) == {"train": 1, "evaluate": 1, "cost": 1, "compare": 1}
    assert dict(work.planned()) == {}
    assert costs == {path: path.read_bytes() for path in costs}


def nothing(work: Workspace) -> None:
    """Nothing is changed."""


def touched(work: Workspace) -> None:
    os.utime(videos(work)[0])
    os.utime(work.folder / "data" / "queries.csv")


def intermediates_touched(work: Workspace) -> None:
    """Each in its turn, in no sensible order; manifests too large for Snakemake's checksums."""
    for path in work.results.rglob("*.json"):
        value = json.loads(path.read_text())
        if "trace" in value:
            path.write_text(json.dumps({**value, "padding": "x" * 2_000_000}))
    files = sorted((path for path in work.results.rglob("*") if path.is_file()), key=lambda path: path.name[::-1])
    for number, path in enumerate(files):
        os.utime(path, (1.7e9 + number, 1.7e9 + number))


def copied(work: Workspace) -> None:
    """As `cp -r` does, and a clone: every file is as new as the moment it was written."""
    before, work.folder = work.folder, work.folder.with_name("copied")
    shutil.copytree(before, work.folder, copy_function=shutil.copyfile)
    shutil.rmtree(before)


def restored(work: Workspace) -> None:
    """The results alone, from a place that keeps neither times nor Snakemake's memory."""
    copied(work)
    shutil.rmtree(work.folder / ".snakemake")


def restored_older(work: Workspace) -> None:
    """The results of another learning rate come back, and Snakemake remembers those of today."""
    intermediates = work.results.with_name("older")
    shutil.copytree(work.results, intermediates)
    for path in [*intermediates.rglob("checkpoint.json"), *intermediates.rglob("evaluation.json"), *intermediates.glob(".*.json")]:
        path.write_text(json.dumps({**json.loads(path.read_text()), "trace": "0" * 12}))
    shutil.rmtree(work.results)
    intermediates.rename(work.results)


def checkpoint_deleted(work: Workspace) -> None:
    (work.results / "runs" / "main" / "seed9527" / "checkpoint.h5").unlink()


def report_deleted(work: Workspace) -> None:
    (work.results / "report.html").unlink()


def moved(work: Workspace) -> None:
    work.folder = work.folder.rename(work.folder.with_name("elsewhere"))


def project_moved(work: Workspace) -> None:
    work.own_project()


def fewer_cores(work: Workspace) -> None:
    work.cores = 1


def frames_absent(work: Workspace) -> None:
    shutil.rmtree(work.results / "frames")


def clips_deleted(work: Workspace) -> None:
    shutil.rmtree(work.results / "clips")


def features_store_deleted(work: Workspace) -> None:
    min((work.results / "features").rglob("*.h5")).unlink()


def features_store_cut(work: Workspace) -> None:
    path = min((work.results / "features").rglob("*.h5"))
    path.write_bytes(path.read_bytes()[:5000])


def tracked(work: Workspace) -> None:
    work.config |= {"tracking": "tensorboard", "runtime": {**work.config.get("runtime", {}), "keep_runs": 1}}


def another_seed(work: Workspace) -> None:
    work.config["seeds"] = [*work.config["seeds"], 99]


def another_experiment(work: Workspace) -> None:
    name = next(iter(work.config["experiments"]))
    work.config["experiments"]["more"] = {**work.config["experiments"][name], "training": {"patience": 3}}


def experiment_before(work: Workspace) -> None:
    another_experiment(work)
    work.config["experiments"] = {"more": work.config["experiments"].pop("more"), **work.config["experiments"]}


def sampling(work: Workspace) -> None:
    for encoder in work.config["encoders"].values():
        encoder["sampling"] = {**encoder.get("sampling", {}), "every": 2.0}


def weights(work: Workspace, change: Callable[[Path], object]) -> None:
    encoder = work.config["encoders"]["demo-clip-l14"]
    shutil.copytree(ROOT / encoder["weights"], work.folder / "weights")
    encoder["weights"] = "weights"
    change(next((work.folder / "weights").glob("*.safetensors")))


def weights_moved(work: Workspace) -> None:
    weights(work, lambda file: os.utime(file))


def weights_replaced(work: Workspace) -> None:
    weights(work, lambda file: file.write_bytes(file.read_bytes() + b" "))


def caption(work: Workspace) -> None:
    queries(work, lambda table: table.assign(query=["something else entirely happens", *table["query"][1:]]))


def query_added(work: Workspace) -> None:
    extra = {"query_id": "added", "query": "one more thing happens"}
    queries(work, lambda table: pd.concat([table, table.iloc[[0]].assign(**extra)]))


def end_time(work: Workspace) -> None:
    queries(work, lambda table: table.assign(end=[table["end"][0] - 0.25, *table["end"][1:]]))


def video_added(work: Workspace) -> None:
    added = videos(work)[0].with_name("added.mp4")
    added.write_bytes(videos(work)[0].read_bytes() + b"\0")
    queries(work, lambda table: pd.concat([table, table.iloc[[0]].assign(query_id="added", **named(work, added))]))


def video_removed(work: Workspace) -> None:
    gone = videos(work)[0]
    queries(work, lambda table: table[~row_of(work, table, gone)])
    gone.unlink()


def video_replaced(work: Workspace) -> None:
    """It was not in the last shard, where its new content goes, which is the dearer case."""
    names = shard_names(len(videos(work)), work.config["video"]["shard_size"])
    path = next(path for path in videos(work) if shard_of(content(path), names) != names[-1])
    path.write_bytes(path.read_bytes() + b"\0")


def video_renamed(work: Workspace) -> None:
    old = videos(work)[0]
    new = old.rename(old.with_name("renamed.mp4"))
    table = pd.read_csv(work.folder / "data" / "queries.csv")
    for column, value in named(work, new).items():
        table.loc[row_of(work, table, old), column] = value
    table.to_csv(work.folder / "data" / "queries.csv", index=False)


def library(name: str) -> Change:
    """Another version of an installed library, as far as its metadata says."""

    def change(work: Workspace) -> None:
        about = work.folder / "site" / f"{name}-99.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 99.0\n")
        work.env["PYTHONPATH"] = str(about.parent)

    return change


def code(*files: str, edit: Callable[[str], str] = lambda text: text + "\nEDITED = 1\n") -> Change:
    """Source files of a copy of the project are edited."""

    def change(work: Workspace) -> None:
        project = work.own_project()
        for file in files:
            path = project / file
            path.write_text(edit(path.read_text()))
            assert path.read_text() != (ROOT / file).read_text()

    return change


def reworded(text: str) -> str:
    """Another docstring and one more comment."""
    return '"""Other words."""\n' + text.split('"""\n', 1)[1] + "\n\n# an afterthought\n"


def from_page(section: str) -> tuple[str, dict]:
    """The code and the configuration of a section of docs/extending.md."""
    page = (ROOT / "docs" / "extending.md").read_text().partition(f"## {section}\n")[2].partition("\n## ")[0]
    code, entry = (re.search(rf"```{kind}\n(.*?)```", page, flags=re.S)[1] for kind in ("python", "yaml"))
    return code, yaml.safe_load(entry)


def own_encoder_edited(work: Workspace) -> None:
    """An encoder of the user's own, copied from the page, is added and run first; that leaves the others' features as they were."""
    import torch
    from torchvision.models import convnext_tiny

    code, entry = from_page("A video encoder")
    assert 25 <= len(code.splitlines()) <= 40
    file = work.folder / "my_encoders" / "convnext.py"
    file.parent.mkdir()
    file.write_text(code)
    (name, settings), *others = entry["encoders"].items()
    assert not others
    torch.manual_seed(1)
    torch.save(convnext_tiny().half().state_dict(), work.folder / settings["weights"])
    clip = work.config["features"][0]
    work.config["encoders"][name] = settings
    work.config["experiments"]["mine"] = {"features": [clip, name]}
    work.write()
    assert dict(work.planned()) == {
        "frames": S,
        "features": S,
        "quarantine": 1,
        "clips": S,
        "train": 1,
        "evaluate": X + 1,
        "table": 1,
        "report": 1,
    }
    before = {path: path.stat().st_mtime_ns for path in (work.results / "features").rglob("*.h5")}
    work.snakemake()
    assert {path: path.stat().st_mtime_ns for path in before} == before
    made = sorted((work.results / "features" / name).glob("*.h5"))
    assert len(made) == S
    with open_store(made[0], stage="features") as store:
        assert store.attrs["dim"] == store.ragged("features").values.shape[1] == 768
        assert store.attrs["recipe"]["encoder"]["kind"] == settings["kind"]
    assert json.loads((work.results / "runs" / "mine" / "seed9527" / "metrics.json").read_text())["gallery"]["videos"] == 4
    file.write_text(code.replace("convnext_tiny()\n", "convnext_tiny(stochastic_depth_prob=0.0)\n", 1))
    assert file.read_text() != code


def as_didemo(work: Workspace) -> dict[str, list[dict]]:
    """The queries in DiDeMo's form: five-second segments that two people marked and a third did not."""
    lists: dict[str, list[dict]] = {"train": [], "val": [], "test": []}
    for i, row in enumerate(pd.read_csv(work.folder / "data" / "queries.csv").to_dict("records")):
        run = [int(row["start"] // 5), int(row["end"] // 5)]
        entry = {"annotation_id": i, "video": row["path"], "description": f" {row['query']} ", "times": [run, [0, 0], run]}
        lists[row["split"]].append(entry)
    return lists


def own_reader_edited(work: Workspace) -> None:
    """A dataset reader of the user's own, copied from the page, reads the same videos; it is edited once everything has run."""
    code, entry = from_page("A dataset reader")
    assert 25 <= len(code.splitlines()) <= 40
    file, annotations = work.folder / "my_datasets" / "didemo.py", work.folder / "data" / "annotations"
    for folder in (file.parent, annotations):
        folder.mkdir()
    file.write_text(code)
    for split, entries in as_didemo(work).items():
        (annotations / f"{split}_data.json").write_text(json.dumps(entries))
    work.config["dataset"] = {**entry["dataset"], "name": work.config["dataset"]["name"]}
    work.write()
    assert dict(work.planned()) == QUERIES  # the videos are the same ones
    before = {path: path.stat().st_mtime_ns for path in work.results.glob("[fc]*/*/*.h5")}
    work.snakemake()
    assert before == {path: path.stat().st_mtime_ns for path in before}
    with open_store(work.results / "annotations.h5", stage="annotations") as store:
        moments = store.ragged("moments")
        assert store.attrs["recipe"]["kind"] == entry["dataset"]["kind"]
        assert len(moments.ids) == len(pd.read_csv(work.folder / "data" / "queries.csv"))
        assert all((moments[query] % 5 == 0).all() and len(moments[query]) == 1 for query in moments.ids)
    file.write_text(code.replace("SECONDS = 5.0", "SECONDS = 2.5 * 2"))
    assert file.read_text() != code


def reader_added(work: Workspace) -> None:
    """One more reader among ours, and one of the user's own that no configuration names."""
    project = work.own_project()
    code, _ = from_page("A dataset reader")
    for file in (project / "pipeline" / "datasets" / "didemo.py", work.folder / "my_datasets" / "didemo.py"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)


SHARED = [
    path.relative_to(ROOT).as_posix() for room in ("core", "config", "jobs") for path in sorted((ROOT / "pipeline" / room).glob("*.py"))
]
# What changed, in the words of docs/rerun.md, and the jobs expected.
TABLE: list[tuple[str, Change, dict[str, int]]] = [
    ("nothing", nothing, {}),
    ("a video and the annotations touched, their content the same", touched, {}),
    ("every intermediate touched, of any size", intermediates_touched, {}),
    ("the folder copied with `cp -r`, or cloned", copied, {}),
    ("the results restored without times and without `.snakemake`", restored, {}),
    ("results of another learning rate restored over these", restored_older, FROM_TRAIN),
    ("another number of cores", fewer_cores, {}),
    ("the folder moved", moved, {}),
    ("the project's code moved", project_moved, {}),
    ("`runtime.batch_size`", config("runtime", "batch_size", value=7), {}),
    ("`runtime.threads`", config("runtime", "threads", value=2), {}),
    ("`runtime.keep_runs` and `tracking`", tracked, {}),
    ("`video.frames`", config("video", "frames", value="streamed"), {}),
    ("temporary frames absent", frames_absent, {}),
    ("clips deleted, the final results there", clips_deleted, {}),
    ("a stored HDF5 of features deleted", features_store_deleted, {}),
    ("a stored HDF5 of features cut off", features_store_cut, {}),
    ("a checkpoint deleted", checkpoint_deleted, {"train": 1, "evaluate": 1, "table": 1, "report": 1}),
    ("the report deleted", report_deleted, {"report": 1}),
    ("a video added", video_added, features(E, 1, annotations=1, text=1)),
    ("a video removed", video_removed, features(E, 1, annotations=1, text=1)),
    ("a video replaced by another of its name", video_replaced, features(E, 2)),
    ("a video renamed, in the annotations too", video_renamed, features(E, 1, annotations=1, text=1)),
    ("a caption changed", caption, QUERIES),
    ("a query added", query_added, QUERIES),
    ("an end time changed", end_time, QUERIES),
    ("`video.shard_size` halved", config("video", "shard_size", value=4), features(E, 2 * S)),
    ("`sampling.every`", sampling, features(E, S)),
    ("one CLIP's weights in another folder", weights_moved, {}),
    ("one CLIP's weights replaced", weights_replaced, features(1, S)),
    ("`clips.tau`", config("clips", "tau", value=0.55), FROM_CLIPS),
    ("`clips.method`", config("clips", "method", value="uniform"), FROM_CLIPS),
    ("`training.threads`", config("training", "threads", value=2), FROM_TRAIN),
    ("`training.learning_rate`", config("training", "learning_rate", value=2.0e-3), FROM_TRAIN),
    ("`evaluation.split`", config("evaluation", "split", value="val"), {"evaluate": X, "table": 1, "report": 1}),
    ("the file of `evaluation.relevance`", relevance, {"evaluate": X, "table": 1, "report": 1}),
    ("`evaluation.clip_weight`", config("evaluation", "clip_weight", value=0.3), FROM_TRAIN),
    ("`video.max_bad_fraction`", config("video", "max_bad_fraction", value=0.5), {"quarantine": 1, "report": 1}),
    ("one more seed", another_seed, {"train": X, "evaluate": X, "table": 1, "report": 1}),
    ("one more experiment with the same clips", another_experiment, {"train": 1, "evaluate": 1, "table": 1, "report": 1}),
    ("the same, named before the others", experiment_before, {"train": 1, "evaluate": 1, "table": 1, "report": 1}),
    ("code in `datasets/` that all readers use", code("pipeline/datasets/folder.py"), QUERIES),
    ("code of the dataset's reader", code("pipeline/datasets/own.py"), QUERIES),
    ("code of another dataset's reader", code("pipeline/datasets/activitynet.py", "pipeline/datasets/charades.py"), {}),
    ("a dataset reader added", reader_added, {}),
    ("code of a user's own dataset reader", own_reader_edited, QUERIES),
    ("code in `video/`", code("pipeline/video/decode.py"), features(E, S)),
    ("code in `encoders/` that all kinds use", code("pipeline/encoders/preprocess.py"), features(E, S, text=1)),
    ("code of SlowFast", code("pipeline/encoders/slowfast.py"), {**features(1, S), "clips": S, "train": 1}),
    ("code of open_clip's encoders", code("pipeline/encoders/open_clip.py"), features(2, S, text=1)),
    (
        "code of a user's own encoder",
        own_encoder_edited,
        WITH_ONE_MORE,
    ),
    ("code in `clips/`", code("pipeline/clips/op_tome.py"), FROM_CLIPS),
    ("code in `models/`", code("pipeline/models/cpu/branches.py"), FROM_TRAIN),
    ("code in `objectives/`", code("pipeline/objectives/tcpl.py"), FROM_TRAIN),
    ("code in `training/`", code("pipeline/training/loop.py"), FROM_TRAIN),
    ("code in `evaluation/`", code("pipeline/evaluation/collapse.py"), {"evaluate": X, "table": 1, "report": 1}),
    ("code in `ranking/`, which training validates with", code("pipeline/ranking/metrics.py"), FROM_TRAIN),
    ("code in `demo/`, with one's own videos", code("pipeline/demo/world.py", "pipeline/demo/stage.py"), {}),
    (
        "code in `interchange/`, `search/`, `tools/`, `cli/`",
        code("pipeline/interchange/bundle.py", "pipeline/search/searcher.py", "pipeline/tools/plan.py", "pipeline/cli/stages.py"),
        {},
    ),
    ("code in `report/`", code("pipeline/report/plots.py"), {"report": 1}),
    ("the template, style or script of the report", code("pipeline/report/static/report.css"), {"report": 1}),
    ("code in `core/`, `config/`, `jobs/`", code(*SHARED), {}),
    ("a comment and a docstring", code("pipeline/video/decode.py", "pipeline/training/loop.py", edit=reworded), {}),
    ("an environment file", code("envs/cpu.yaml", "envs/gpu.yaml", edit=lambda text: text + "  - zlib\n"), {}),
    ("blank lines in a rule", code("workflow/rules/evaluation.smk", edit=lambda text: text.replace("    params:", "\n    params:")), {}),
    (
        "white space inside a rule's `shell:`",
        code("workflow/rules/evaluation.smk", edit=lambda text: text.replace("prvr evaluate ", "prvr  evaluate ")),
        {"evaluate": X, "table": 1, "report": 1},
    ),
    ("another version of open_clip", library("open_clip_torch"), features(2, S, text=1)),
    ("another version of pytorchvideo", library("pytorchvideo"), {**features(1, S), "clips": S, "train": 1}),
    ("another version of PyAV", library("av"), features(E, S)),
]


@pytest.mark.parametrize(("change", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_exactly_these_jobs_run(finished: Workspace, tmp_path: Path, change: Change, expected: dict[str, int]) -> None:
    work = finished.copy(tmp_path / "work")
    change(work)
    work.write()
    assert dict(work.planned()) == expected


OTHERS = {
    "no profile": ["--workflow-profile", "none"],
    "times and input lists asked for": ["--workflow-profile", "none", "--rerun-triggers", "mtime", "input", "params", "code"],
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_times_decide_nothing_in_any_profile(finished: Workspace, tmp_path: Path, options: list[str]) -> None:
    work = finished.copy(tmp_path / "work")
    intermediates_touched(work)
    work.profile = options
    assert dict(work.planned()) == {}
    config("training", "learning_rate", value=2.0e-3)(work)
    work.write()
    assert dict(work.planned()) == FROM_TRAIN


def test_touch_adopts_results(finished: Workspace, tmp_path: Path) -> None:
    """Also where Snakemake's memory goes later."""
    work = finished.copy(tmp_path / "work")
    code("pipeline/clips/op_tome.py")(work)
    assert dict(work.planned()) == FROM_CLIPS
    work.snakemake("--touch")
    assert dict(work.planned()) == {}
    shutil.rmtree(work.folder / ".snakemake")
    assert dict(work.planned()) == {}


def test_the_page_lists_these_rows(root: Path) -> None:
    page = (root / "docs" / "rerun.md").read_text().partition("\n## ")[0].split("| what changed |")[1]  # its first table
    lines = [line for line in page.partition("\n\n")[0].splitlines() if line.startswith("| ")][1:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")][:2] for line in lines]
    assert [row[0] for row in rows] == [row[0] for row in TABLE]
    for (name, _, expected), (_, listed) in zip(TABLE, rows, strict=True):
        assert set(re.findall(r"\w+", listed)) == (set(expected) or {"none"}), name


def computed(work: Workspace) -> list[int]:
    """How many videos each features job that ran last encoded."""
    return [json.loads(path.read_text())["computed"] for path in sorted((work.results / "features").rglob("*.json"))]


def test_a_renamed_video_is_neither_decoded_nor_encoded(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    before = {path: path.stat().st_mtime_ns for path in (work.results / "features").rglob("*.h5")}
    video_renamed(work)
    work.snakemake("extract")
    ran = [path for path, time in before.items() if path.stat().st_mtime_ns != time]
    assert len(ran) == E
    assert [json.loads(path.with_suffix(".json").read_text())["computed"] for path in ran] == [0] * E
    assert dict(work.planned("extract")) == {}


def test_frames_are_decoded_for_an_encoder_of_an_ablation_alone(
    finished: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = finished.copy(tmp_path / "work")
    first = work.config["features"][0]
    work.config |= {"features": [first], "experiments": {"main": {}}, "ablations": {"motion": {"features": [first, "demo-slowfast"]}}}
    work.write()
    monkeypatch.chdir(work.folder)
    assert {shard: Dag.of(load("config.yaml")).wanted(shard) for shard in ("000", "001")} == {"000": set(), "001": set()}
    shutil.rmtree(work.results / "features" / "demo-slowfast")
    dag = Dag.of(load("config.yaml"))
    assert dag.wanted("000") | dag.wanted("001") == {source.video_id for shard in dag.shards.values() for source in shard}
    assert len(dag.wanted("000") | dag.wanted("001")) == len(videos(work))


def test_a_deleted_store_is_made_again_when_something_needs_it(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    features_store_deleted(work)
    work.snakemake("extract")
    assert dict(work.planned("extract")) == {}
    assert all(path.with_suffix(".h5").exists() for path in (work.results / "features").rglob("*.json"))


def test_another_number_of_shards_decodes_and_encodes_nothing(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    work.config["video"]["shard_size"] = 16
    work.write()
    work.snakemake()
    assert computed(work) == [0] * E
    assert dict(work.planned()) == {}
    assert json.loads((work.results / "runs" / "main" / "seed9527" / "metrics.json").read_text())["gallery"]["videos"] == 4


@pytest.mark.long
def test_edited_code_computes_every_video_again(finished: Workspace, tmp_path: Path) -> None:
    work = finished.copy(tmp_path / "work")
    code("pipeline/video/decode.py")(work)
    work.snakemake("extract")
    assert sum(computed(work)) == E * len(videos(work))
    assert dict(work.planned("extract")) == {}
