"""What the errors of imports ask for leads out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config import reading
from pipeline.config.schema import Config
from pipeline.core.errors import BundleError, DatasetError
from pipeline.interchange.exporting import export_captioned
from pipeline.jobs.checks import imported_features
from pipeline.jobs.dag import Dag

from .conftest import Made

IMPORT = ["import", "bundle", "--video", "v", "--text", "t"]


def dag(shard_size: int = 100) -> Dag:
    imported = {"kind": "imported"}
    values = {"dataset": {"name": "msc", "kind": "bundle"}, "encoders": {"v": imported, "t": imported}, "features": ["v"], "text": "t"}
    config = reading.validate({**values, "video": {"shard_size": shard_size}, "evaluation": {"split": "val"}}, source="config.yaml")
    Path("config.yaml").write_text(config.model_dump_json())
    return Dag.of(config)


def done(*words: str) -> None:
    ended = CliRunner().invoke(app, list(words))
    assert ended.exit_code == 0, ended.output


def test_imports(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.msc()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DatasetError, match="run `prvr import` with this configuration first"):
        _ = dag().listing
    done(*IMPORT)
    imported_features(dag())
    store = next((dag().layout.features("v", "*").parent).glob("*.h5"))
    store.unlink()
    with pytest.raises(DatasetError, match="put it there with `prvr import`"):
        dag().imported_content(store)
    done(*IMPORT)
    assert dag().imported_content(store)
    with pytest.raises(DatasetError, match=r"import them again with `prvr import`, or set video\.shard_size back"):
        imported_features(dag(2))
    imported_features(dag())  # back
    dag(2)
    done(*IMPORT)
    imported_features(dag(2))


def test_an_export_of_queries_without_states(made: Made, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.msc()
    monkeypatch.chdir(tmp_path)
    dag()
    done(*IMPORT)
    layout = dag().layout
    made.tokens = dict(list(made.tokens.items())[:-1])
    made.captions = {split: captions[: len(captions) - (split == "val")] for split, captions in made.captions.items()}
    whole = layout.annotations.read_bytes()
    made.msc()
    done(*IMPORT)
    layout.annotations.write_bytes(whole)  # that of one query more
    with pytest.raises(BundleError, match="queries without text features"):
        export_captioned(layout, tmp_path / "out", video=["v"], text="t", collection="x", kind="msc", rename=None)
    layout.text("t").unlink()
    done(*IMPORT)
    export_captioned(layout, tmp_path / "out", video=["v"], text="t", collection="x", kind="msc", rename=None)


def test_npz_come_with_their_annotations(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made.npz()
    monkeypatch.chdir(tmp_path)
    dag()
    words = ["import", "bundle/text", "--video", "v", "--text", "t", "--npz", "bundle/clip"]
    ended = CliRunner().invoke(app, words)
    assert "give --annotations" in getattr(ended.exception, "fix", "")
    done(*words, "--annotations", "val=bundle/val.jsonl")
