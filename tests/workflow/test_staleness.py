"""Nothing old is served as new, nothing imported is lost, and what a message asks for leads out of the state it is printed in."""

from __future__ import annotations

import re
import shlex
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.workflow.test_rerun import queries
from tests.workflow.workspace import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
RUN = Path("runs") / "main" / "seed9527"


@pytest.fixture
def work(finished: Workspace, tmp_path: Path) -> Workspace:
    return finished.copy(tmp_path / "work")


def imported(work: Workspace) -> Path:
    """The run `main` as an imported one: its own weights, by way of the released file."""
    work.prvr("export-checkpoint", "lent.ckpt", "--experiment", "main")
    work.prvr("import-checkpoint", "lent.ckpt", "--experiment", "main", "--force")
    return work.results / RUN / "checkpoint.h5"


def test_an_import_replaces_no_trained_run(work: Workspace) -> None:
    work.prvr("export-checkpoint", "lent.ckpt", "--experiment", "main")
    before = (work.results / RUN / "checkpoint.h5").read_bytes()
    refused = work.prvr("import-checkpoint", "lent.ckpt", "--experiment", "main", check=False)
    assert refused.returncode == 2
    assert "was trained here" in refused.stderr
    assert "--force" in refused.stderr
    assert (work.results / RUN / "checkpoint.h5").read_bytes() == before


def test_no_job_trains_or_removes_an_imported_checkpoint(work: Workspace) -> None:
    before = imported(work).read_bytes()
    assert dict(work.planned()) == {"evaluate": 1, "table": 1, "report": 1}
    queries(work, lambda table: table.assign(query=["something else entirely happens", *table["query"][1:]]))
    plan = work.planned()
    assert (plan["train"], plan["evaluate"]) == (1, 2)  # the other experiment
    refused = work.prvr("train", "--experiment", "main", "--seed", "9527", check=False)
    assert "was imported" in refused.stderr
    work.snakemake()
    assert (work.results / RUN / "checkpoint.h5").read_bytes() == before
    assert "main (imported: lent.ckpt)" in (work.results / "table.md").read_text()
    assert dict(work.planned()) == {}


def test_without_training_queries_nothing_is_trained(work: Workspace) -> None:
    queries(work, lambda table: table.assign(split="test"))
    assert not {"train", "evaluate", "table"} & set(work.planned())
    imported(work)
    plan = work.planned()
    assert (plan["train"], plan["evaluate"], plan["table"]) == (0, 1, 1)


def test_a_split_without_a_query_is_named_before_any_job(work: Workspace) -> None:
    work.config["evaluation"] = {**work.config.get("evaluation", {}), "split": "val"}
    queries(work, lambda table: table[table["split"] != "val"])
    work.write()
    refused = work.snakemake("--dry-run", check=False)
    assert refused.returncode != 0
    assert "evaluation.split is val, which has none" in refused.stdout


def test_old_answers_say_so(work: Workspace) -> None:
    work.config["model"]["hidden"] = 32
    work.write()
    for command in (["summary"], ["status"], ["search", "a dog"]):
        said = work.prvr(*command, check=False).stderr
        assert "main, seed 9527, was trained by another configuration" in said, command
        assert "model.hidden was 16, is 32" in said, command
    work.config["encoders"]["demo-clip-b16"]["sampling"] = {"every": 2.0}
    work.config["encoders"]["demo-clip-l14"]["sampling"] = {"every": 2.0}
    work.config["encoders"]["demo-slowfast"]["sampling"] = {"every": 2.0}
    work.write()
    store = str(work.results.relative_to(work.folder) / "features" / "demo-clip-b16" / "000.h5")
    assert f"{store} was made by another" in work.prvr("features", "compare", store, store).stderr


def todo(work: Workspace, said: str) -> Counter[str]:
    """Which jobs the command in a message would run."""
    command = re.search(r"\(`prvr (run.*?)`\)", said)
    assert command, said
    done = work.prvr(*shlex.split(command[1]), "--dry-run")
    return Counter(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, flags=re.M))


def test_what_a_message_asks_for_makes_the_lost_file_again(work: Workspace) -> None:
    (work.results / RUN / "checkpoint.h5").unlink()
    assert todo(work, work.prvr("search", "a dog", check=False).stderr)["train"] == 1
    cut = work.results / "features" / "demo-clip-b16" / "000.h5"
    cut.write_bytes(cut.read_bytes()[:5000])
    said = work.prvr("clips", "--experiment", "main", "--shard", "000", check=False).stderr
    assert "features/demo-clip-b16/000.json" in said
    assert todo(work, said)["features"] == 1
    (work.results / "text" / "demo-clip-b16.h5").unlink()
    said = work.prvr("evaluate", "--experiment", "no-motion", "--seed", "9527", check=False).stderr
    assert todo(work, said)["text"] == 1
    shutil.rmtree(work.results / "clips")
    said = work.prvr("search", "a dog", "--experiment", "no-motion", check=False).stderr
    assert todo(work, said)["clips"] == 4


def test_jobs_take_what_the_run_started_with(work: Workspace) -> None:
    """A line half written and a video lost meanwhile stop no job that needs neither."""
    published = max((work.folder / "results" / ".config").glob("*.json"))
    table = work.folder / "data" / "queries.csv"
    table.write_text(table.read_text() + "v41.mp4,a half-written li\n")
    config = ["--config", str(published.relative_to(work.folder))]
    work.prvr("clips", "--experiment", "main", "--shard", "000", *config)
    for video in (work.folder / "data" / "videos").rglob("*.mp4"):
        video.unlink()
    work.prvr("clips", "--experiment", "main", "--shard", "001", *config)


@pytest.mark.parametrize("results", ["r$(touch PWNED)`touch PWNED`", 'it\'s "my" results', "r&d; touch PWNED", "q*?[a]"])
def test_no_part_of_a_path_is_run(finished: Workspace, tmp_path: Path, results: str) -> None:
    work = finished.copy(tmp_path / "work")
    odd = work.folder / "data" / "q{a} $(touch PWNED).csv"
    (work.folder / "data" / "queries.csv").rename(odd)
    work.config |= {"results": results}
    work.config["dataset"]["annotations"] = f"data/{odd.name}"
    work.write()
    work.snakemake("--until", "annotations")
    assert not list(work.folder.rglob("PWNED"))
    assert (work.folder / results / "mine" / "annotations.h5").exists()
    assert set(path.name for path in work.folder.iterdir()) == {"config.yaml", "data", "results", ".snakemake", results}
    assert not work.planned()["annotations"]
