"""Released checkpoints in and out: names, sizes, and the entries a released file lends."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config.schema import Config
from pipeline.core.errors import BundleError, WeightsError
from pipeline.interchange.checkpoints import dimensions, export_checkpoint, import_checkpoint, read_released
from pipeline.interchange.pickles import read_pickle
from pipeline.interchange.released_names import to_released
from pipeline.models.base import Dims
from pipeline.models.checkpoint import load_model
from pipeline.models.msc import DualBranch


@pytest.fixture
def small(config: Config) -> Config:
    values = config.model_dump(exclude_unset=True)
    values["model"] = {"hidden": 16, "heads": 2, "widths": [None, 1.0, 5.0], "max_words": 9}
    return Config.model_validate(values)


def weights_of(config: Config, seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return to_released(DualBranch(config.experiment("main").model, Dims(6, 4)).state_dict(), len(config.model.widths))


def saved(path: Path, weights: dict[str, torch.Tensor], **entries: Any) -> Path:
    torch.save({"state_dict": OrderedDict(weights), **entries}, path)
    return path


def test_sizes_are_read_off_the_weights(small: Config) -> None:
    found = dimensions(weights_of(small))
    assert found == {"video_dim": 6, "text_dim": 4, "hidden": 16, "max_words": 9, "frames": 128, "clips": 32, "widths": 3}


@pytest.mark.parametrize("prefix", ["", "module."])
def test_there_and_back_is_bit_identical(small: Config, tmp_path: Path, prefix: str) -> None:
    weights, layout = weights_of(small), small.layout
    path = saved(tmp_path / "best.ckpt", {prefix + name: value for name, value in weights.items()}, epoch=7)
    import_checkpoint(small, layout, "main", 3, path)
    model, chosen, attrs = load_model(layout.checkpoint("main", 3))
    assert chosen == small.experiment("main")
    assert attrs["imported"] == "best.ckpt"
    assert not model.training
    export_checkpoint(layout, "main", 3, tmp_path / "out.ckpt")
    again = read_released(tmp_path / "out.ckpt")
    assert set(again) == set(weights)
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    settings = read_pickle(tmp_path / "out.ckpt")["config"]
    assert type(settings).__module__ == "easydict"
    assert (settings["hidden_size"], settings["max_desc_l"], settings["sft_factor"]) == (16, 9, 0.6)


def test_a_released_file_lends_all_but_weights_and_optimiser(small: Config, tmp_path: Path) -> None:
    layout = small.layout
    path = saved(tmp_path / "best.ckpt", weights_of(small), epoch=7, config={"seed": 9527}, optimizer={"state": {}})
    other = saved(tmp_path / "other.ckpt", weights_of(small, seed=1))
    import_checkpoint(small, layout, "main", 3, other)
    export_checkpoint(layout, "main", 3, tmp_path / "out.ckpt", like=path)
    found = torch.load(tmp_path / "out.ckpt", weights_only=True)
    assert list(found) == ["state_dict", "epoch", "config"]
    assert list(found["state_dict"]) == list(weights_of(small))
    assert torch.equal(found["state_dict"]["weight_token"], weights_of(small, seed=1)["weight_token"])
    shorter = {name: value for name, value in weights_of(small).items() if "attn2" not in name}
    with pytest.raises(BundleError, match=r"do not fit the model to be like:\n  clip_encoder\.attn2"):
        export_checkpoint(layout, "main", 3, tmp_path / "out.ckpt", like=saved(tmp_path / "shorter.ckpt", shorter))


def test_every_difference_in_size_is_named(small: Config, config: Config, tmp_path: Path) -> None:
    path = saved(tmp_path / "best.ckpt", weights_of(small))
    with pytest.raises(BundleError) as caught:
        import_checkpoint(config, config.layout, "main", 3, path)
    for line in (
        "model.hidden is 384, the checkpoint has 16",
        "model.max_words is 5, the checkpoint has 9",
        "the number of model.widths is 8, the checkpoint has 3",
    ):
        assert line in str(caught.value)
    assert not config.layout.root.exists()


def test_what_is_not_the_model_is_refused(small: Config, tmp_path: Path) -> None:
    layout, weights = small.layout, weights_of(small)
    torch.save({"optimizer": {}}, tmp_path / "none.ckpt")
    with pytest.raises(BundleError, match="no weights among: optimizer"):
        import_checkpoint(small, layout, "main", 3, tmp_path / "none.ckpt")
    with pytest.raises(BundleError, match="not a checkpoint of the released model"):
        import_checkpoint(small, layout, "main", 3, saved(tmp_path / "a.ckpt", {"w": torch.ones(1)}))
    with pytest.raises(WeightsError, match="extra"):
        import_checkpoint(small, layout, "main", 3, saved(tmp_path / "b.ckpt", {**weights, "extra.weight": torch.ones(1)}))
    name = "clip_encoder.attn0.self.query.bias"
    with pytest.raises(BundleError, match=r"clip\.block\.layers\.0\.attention\.query\.bias: \(3,\), not \(16,\)"):
        import_checkpoint(small, layout, "main", 3, saved(tmp_path / "c.ckpt", {**weights, name: torch.ones(3)}))
    del weights[name]
    with pytest.raises(WeightsError, match=r"missing: clip\.block\.layers\.0\.attention\.query\.bias"):
        import_checkpoint(small, layout, "main", 3, saved(tmp_path / "d.ckpt", weights))
