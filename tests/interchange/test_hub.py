"""A run as a folder for the hub: read with the hub's and safetensors' own code, and back here to the same bits and numbers."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config.reading import load
from pipeline.core.errors import BundleError, ConfigError, LibraryError
from pipeline.core.kept import formers, hash_of
from pipeline.evaluation import stage
from pipeline.interchange import hub
from pipeline.interchange.cards import code
from pipeline.jobs import recipes
from pipeline.models.checkpoint import load_model
from tests.evaluation.conftest import World

huggingface_hub = pytest.importorskip("huggingface_hub")


class Exported:
    """An evaluated run, its folder, and a second results folder with the same videos to read it into."""

    def __init__(self, root: Path) -> None:
        self.root, self.world = root, World(root / "one")
        self.world.train("main", 1)
        stage.run(self.world.config, self.world.layout, "main", 1, recipes.evaluation(self.world.config, "main"))
        self.folder = root / "folder"
        for name in ("one", "two"):
            self.configure(name)
        self.call("one", "export", str(self.folder), "--layout", "hub", "--license", "cc-by-4.0")

    def configure(self, name: str, **over: Any) -> None:
        values = {**self.world.config.model_dump(mode="json", exclude_unset=True), "results": str(self.root / name), **over}
        (self.root / f"{name}.yaml").write_text(yaml.safe_dump(values))
        if not (self.root / name).exists():
            shutil.copytree(self.root / "one", self.root / name, ignore=shutil.ignore_patterns("runs"))

    def call(self, name: str, *words: str) -> str:
        done = CliRunner().invoke(app, [*words, "--config", str(self.root / f"{name}.yaml")], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("hub"))


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    """A folder to spoil."""
    return Path(shutil.copytree(exported.folder, tmp_path / "copied"))


def test_the_hubs_own_code_reads_the_card(exported: Exported) -> None:
    card = huggingface_hub.ModelCard.load(exported.folder / "README.md")
    metrics = json.loads(exported.world.layout.metrics("main", 1).read_text())
    assert (card.data.license, card.data.library_name, card.data.model_name) == ("cc-by-4.0", "prvr", "main")
    assert {(r.dataset_type, r.dataset_split, r.task_type) for r in card.data.eval_results} == {("tiny", "test", "video-retrieval")}
    found = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert found["sumr"] == pytest.approx(metrics["recalls"]["fused"]["SumR"], abs=1e-4)
    assert found["recall_at_1"] == pytest.approx(metrics["recalls"]["fused"]["R@1"], abs=1e-4)
    assert len(found) == 5
    assert "the numbers are somewhat too good" in card.text  # its epoch was chosen on the split that is reported
    assert "No licence is stated" not in card.text
    from huggingface_hub.repocard import metadata_load

    assert metadata_load(exported.folder / "README.md") == card.data.to_dict()


def test_safetensors_own_loaders_read_the_weights(exported: Exported) -> None:
    model, _, _ = load_model(exported.world.layout.checkpoint("main", 1))
    own = model.state_dict()
    for read in (load_file(exported.folder / "model.safetensors"), load_numpy(exported.folder / "model.safetensors")):
        assert set(read) == set(own)
        assert all(np.array_equal(np.asarray(read[name]), value.numpy()) for name, value in own.items())


def test_there_and_back_the_same_bits_and_the_same_numbers(exported: Exported) -> None:
    said = exported.call("two", "import-checkpoint", str(exported.folder), "--experiment", "main", "--seed", "1")
    assert "measured otherwise" not in said
    config = load(exported.root / "two.yaml")
    models = [load_model(layout.checkpoint("main", 1)) for layout in (exported.world.layout, config.layout)]
    assert all(torch.equal(value, models[1][0].state_dict()[name]) for name, value in models[0][0].state_dict().items())
    assert (models[1][2]["epoch"], models[1][2]["selection_split"], models[1][2]["imported"]) == (3, "test", "folder")
    assert models[1][2]["imported_run"] == hash_of(exported.world.layout, "main", 1)
    stage.run(config, config.layout, "main", 1, recipes.evaluation(config, "main"))
    read = [json.loads(layout.metrics("main", 1).read_text()) for layout in (exported.world.layout, config.layout)]
    assert read[0]["recalls"] == read[1]["recalls"]
    # Of an imported run the card says so; and of a run without an evaluation, nothing.
    exported.call("two", "export", str(exported.root / "again"), "--layout", "hub", "--seed", "1")
    text = (exported.root / "again" / "README.md").read_text()
    assert "The weights were imported from `folder`. prvr did not train them" in text
    assert "No licence is stated" in text
    assert (exported.root / "again" / "model.safetensors").read_bytes() == (exported.folder / "model.safetensors").read_bytes()
    # Importing once more keeps no copy of the same; importing others over it keeps it.
    exported.call("two", "import-checkpoint", str(exported.folder), "--experiment", "main", "--seed", "1")
    assert formers(config.layout) == []
    exported.world.train("main", 2)
    exported.call("one", "export", str(exported.root / "other"), "--layout", "hub", "--seed", "2")
    assert "Nothing: there was no evaluation" in (exported.root / "other" / "README.md").read_text()
    assert "model-index" not in (exported.root / "other" / "README.md").read_text()
    before = hash_of(config.layout, "main", 1)
    said = exported.call("two", "import-checkpoint", str(exported.root / "other"), "--experiment", "main", "--seed", "1")
    assert f"is kept as {before}" in said
    assert [former.run for former in formers(config.layout)] == [before]


def test_the_settings_in_the_folder_are_enough(exported: Exported) -> None:
    """A configuration that knows the encoders and nothing else of the experiment takes them as they are."""
    settings = yaml.safe_load((exported.folder / "experiment.yaml").read_text())
    exported.configure("three", model={"hidden": 32}, clips={}, **settings)
    said = exported.call("three", "import-checkpoint", str(exported.folder), "--experiment", "main")
    assert "measured otherwise" not in said
    exported.configure("three", evaluation={"clip_weight": 0.5, "frame_weight": 0.5})
    said = exported.call("three", "import-checkpoint", str(exported.folder), "--experiment", "main")
    assert "note: it was measured otherwise: evaluation.clip_weight is 0.5, the folder has 0.4" in said


def test_no_path_of_this_machine_goes_out(exported: Exported) -> None:
    for file in exported.folder.iterdir():
        assert str(exported.root).encode() not in file.read_bytes(), file
    assert hub._private({"a": ["/home/me/x.pt", "ViT-L-14:/home/me/openai.pt", "~/w/y", "a/b"]}) == {
        "a": ["x.pt", "ViT-L-14:openai.pt", "y", "a/b"]
    }


def read_into(exported: Exported, folder: Path) -> str:
    with pytest.raises(BundleError) as error:
        hub.import_hub(exported.world.config, exported.world.layout, "second", 5, folder)
    assert not exported.world.layout.run("second", 5).exists()
    return str(error.value)


def test_another_network_is_refused_with_every_difference(exported: Exported, copied: Path) -> None:
    about = json.loads((copied / "config.json").read_text())
    about["experiment"]["model"] |= {"hidden": 24, "heads": 4}
    (copied / "config.json").write_text(json.dumps(about))
    said = read_into(exported, copied)
    assert "model.hidden is 16, the folder has 24" in said
    assert "model.heads is 2, the folder has 4" in said


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[" * 100_000),
        ("config.json", b'{"format": 2, "dims": {}, "experiment": {}}'),
        ("config.json", b'{"format": 1, "dims": {"frames": 1e99}, "experiment": []}'),
        ("config.json", b" " * ((10 << 20) + 1)),
        ("config.json", None),
        ("model.safetensors", b""),
        ("model.safetensors", b"\xff" * 64),
        ("model.safetensors", pickle.dumps({"a": 1})),
        ("model.safetensors", None),
    ],
)
def test_broken_folders(exported: Exported, copied: Path, file: str, content: bytes | None) -> None:
    (copied / file).unlink()
    if content is not None:
        (copied / file).write_bytes(content)
    assert file in read_into(exported, copied)


def test_weights_that_do_not_fit_are_all_named(exported: Exported, copied: Path) -> None:
    weights = load_file(copied / "model.safetensors")
    names = sorted(weights)
    weights[names[0]] = weights[names[0]][..., None].contiguous()
    weights[names[1]] = weights[names[1]].half()
    weights[names[2]] = torch.full_like(weights[names[2]], float("nan"))
    del weights[names[3]]
    weights["more"] = torch.zeros(1)
    save_file(weights, copied / "model.safetensors")
    said = read_into(exported, copied)
    assert all(name in said for name in (*names[:4], "more: unknown", "torch.float16, not", f"{names[3]}: missing", "no numbers"))


def test_sizes_no_model_has_build_nothing(exported: Exported, copied: Path) -> None:
    about = json.loads((copied / "config.json").read_text())
    about["dims"]["video_dim"] = 1 << 40
    (copied / "config.json").write_text(json.dumps(about))
    assert "no sizes of a model" in read_into(exported, copied)


def test_a_hostile_name_stays_a_name(exported: Exported) -> None:
    """In a card it neither ends the front matter nor begins a link."""
    assert code("x`](http://evil)\n---\nlicense: mit") == "`x ](http://evil) --- license: mit`"
    exported.world.train("main", 3, imported="a`\n---\nlicense: mit\n---\n[x](http://evil)")
    folder = exported.root / "hostile"
    hub.export_hub(exported.world.config, exported.world.layout, "main", 3, folder, {})
    card = huggingface_hub.ModelCard.load(folder / "README.md")
    assert card.data.license is None
    assert "`a --- license: mit --- [x](http://evil)`" in card.text


def test_an_experiment_there_is_not(exported: Exported) -> None:
    with pytest.raises(ConfigError, match="there is no experiment 'mian'"):
        exported.call("one", "export", str(exported.root / "none"), "--layout", "hub", "--experiment", "mian")
    assert not (exported.root / "none").exists()


def test_sending_is_printed_and_done_only_when_asked(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, dict[str, Any]]] = []
    for name in ("create_repo", "upload_folder"):
        monkeypatch.setattr(huggingface_hub.HfApi, name, lambda self, *a, _name=name, **k: sent.append((_name, k)) or "address")
    words = ("export", str(exported.root / "sent here"), "--layout", "hub", "--push", "me/model")
    said = exported.call("one", *words)
    command = re.search(r"nothing was sent\): (.*)", said)
    assert command
    assert command[1] == f"hf upload me/model '{exported.root / 'sent here'}' . --private"
    assert sent == []
    assert "sent to address" in exported.call("one", *words, "--yes")
    assert [name for name, _ in sent] == ["create_repo", "upload_folder"]
    assert (sent[0][1]["private"], sent[1][1]["folder_path"]) == (True, exported.root / "sent here")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(LibraryError, match="huggingface_hub is not installed"):
        hub.push("me/model", exported.folder, "model")
