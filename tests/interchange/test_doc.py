"""Every command of docs/interchange.md, in order, on a small bundle and checkpoint."""

from __future__ import annotations

import re
import shlex
from collections import OrderedDict
from pathlib import Path

import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from pipeline.cli.main import app
from pipeline.config.reading import load
from pipeline.interchange.captioned import open_captioned
from pipeline.interchange.released_names import to_released
from pipeline.models.base import Dims
from pipeline.models.msc import DualBranch
from tests.interchange.conftest import Made


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_commands_of_the_page(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (root / "docs" / "interchange.md").read_text()
    monkeypatch.chdir(tmp_path)
    made = Made(tmp_path / "bundle")
    made.msc()
    small = "model: {hidden: 16, heads: 2, max_words: 9}\n"
    (tmp_path / "msc.yaml").write_text(re.findall(r"```yaml\n(.*?)```", text, flags=re.S)[0] + small)
    torch.manual_seed(0)
    weights = to_released(DualBranch(load("msc.yaml").experiment("main").model, Dims(6, 4)).state_dict())
    torch.save({"state_dict": OrderedDict(weights), "epoch": 4, "model_val": [1.0] * 5, "config": {"seed": 9527}}, "best.ckpt")
    commands = [line for block in re.findall(r"```bash\n(.*?)```", text, flags=re.S) for line in block.splitlines()]
    assert len(commands) == 9
    for command in commands:
        program, *words = shlex.split(command)
        done = CliRunner().invoke(app, words)
        assert (program, done.exit_code) == ("prvr", 0), f"{command}\n{done.output}\n{done.exception!r}"
        if "import-checkpoint" in words:
            hint = done.output.split("next: ")[1].strip()
            assert hint == "prvr run --configfile msc.yaml"
        if "--push" in words:
            assert "to send it (nothing was sent): hf upload you/model on-the-hub . --private" in done.output
    with open_captioned(tmp_path / "out-msc") as bundle:
        assert set(bundle.video_ids()) == {"v_a_b", "v_-c", "v_d", "v_e"}
    assert len(list((tmp_path / "out-npz").rglob("*.npz"))) == 4 + 8
    assert len(pd.read_parquet("tables/features/msc-video")) == sum(map(len, made.features.values()))
    for file in ("ours.ckpt", "like.ckpt"):
        content = torch.load(file, weights_only=True)
        assert (content["epoch"], content["model_val"]) == (4, [1.0] * 5)
        assert all(torch.equal(content["state_dict"][name], value) for name, value in weights.items())
    assert content["config"] == {"seed": 9527}
