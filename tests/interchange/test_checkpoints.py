"""Released checkpoints in and out: names, sizes, and the entries a released file lends."""

from __future__ import annotations

import argparse
import collections
import os
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config.methods import GmmFormer, GmmFormerV2, MsSl
from pipeline.config.models import Msc
from pipeline.config.schema import Config
from pipeline.core.errors import BundleError, WeightsError
from pipeline.interchange import released_file
from pipeline.interchange.checkpoints import build as build_released
from pipeline.interchange.checkpoints import dimensions, export_checkpoint, import_checkpoint, read_released
from pipeline.interchange.released_names import from_released, to_released
from pipeline.models.base import Dims, build
from pipeline.models.checkpoint import load_model, save_model
from pipeline.models.msc import DualBranch
from pipeline.training.arrays import experiment


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
    settings = torch.load(tmp_path / "out.ckpt", weights_only=True)["config"]
    assert (settings["hidden_size"], settings["max_desc_l"], settings["sft_factor"]) == (16, 9, 0.6)
    assert (settings["visual_feat_dim"], settings["q_feat_size"]) == (6, 4)


def as_released(path: Path, model: torch.nn.Module) -> tuple[int, list[float]]:
    """What the released `--eval --resume` does with a file: unpack five entries and load the weights; training goes on with the others."""
    content = torch.load(path, weights_only=True)
    _, weights, optimizer, epoch, scores = (content[key] for key in ("config", "state_dict", "optimizer", "epoch", "model_val"))
    model.load_state_dict(from_released(weights, 3))
    named = to_released(dict(model.named_parameters()), 3)
    without = [value for name, value in named.items() if name.endswith(("bias", "LayerNorm.weight"))]
    others = [value for name, value in named.items() if not name.endswith(("bias", "LayerNorm.weight"))]
    resumed = torch.optim.SGD([{"params": others, "weight_decay": 0.01}, {"params": without, "weight_decay": 0.0}], lr=1.0)
    resumed.load_state_dict(optimizer)
    assert [group["weight_decay"] for group in resumed.param_groups] == [0.01, 0.0]
    return epoch, scores


def test_the_released_evaluation_finds_all_it_reads(small: Config, tmp_path: Path) -> None:
    layout, scores = small.layout, [13.9, 33.3, 44.5, 84.9, 176.6]
    path = saved(tmp_path / "best.ckpt", weights_of(small), epoch=7, model_val=scores, config={"seed": 9527}, optimizer={"state": {}})
    import_checkpoint(small, layout, "main", 3, path)
    assert load_model(layout.checkpoint("main", 3))[2]["epoch"] == 8  # theirs are counted from 0
    assert export_checkpoint(layout, "main", 3, tmp_path / "out.ckpt") == []
    other = saved(tmp_path / "other.ckpt", weights_of(small, seed=1), epoch=2, model_val=[1.0] * 5, config={"seed": 1})
    assert export_checkpoint(layout, "main", 3, tmp_path / "like.ckpt", like=other) == []
    for file in ("out.ckpt", "like.ckpt"):
        model = DualBranch(small.experiment("main").model, Dims(6, 4))
        assert as_released(tmp_path / file, model) == (7, scores)
        assert torch.equal(model.state_dict()["token"], weights_of(small)["weight_token"])


def test_a_trained_run_goes_out_with_the_epoch_and_recalls_it_was_chosen_by(small: Config, tmp_path: Path) -> None:
    chosen, layout = small.experiment("main"), small.layout
    model = DualBranch(chosen.model, Dims(6, 4))
    history = [{"epoch": n, "loss": 1.0, **{name: 10.0 * n + i for i, name in enumerate(released_file.RECALLS)}} for n in (1, 2, 3)]
    save_model(layout.checkpoint("main", 3), model.state_dict(), chosen, model.dims, history=history, epoch=2)
    export_checkpoint(layout, "main", 3, tmp_path / "out.ckpt")
    assert as_released(tmp_path / "out.ckpt", model) == (1, [20.0, 21.0, 22.0, 23.0, 24.0])


def test_every_flag_is_a_key_of_ours(small: Config, root: Path) -> None:
    """The table of docs/interchange.md, the keys of an exported configuration, and the keys of an experiment are the same."""
    table = dict(re.findall(r"^\| `([a-z_]+)` \| `([a-z_.]+)` \|", (root / "docs" / "interchange.md").read_text(), flags=re.M))
    kinds = {"msc": None, "ms_sl": MsSl(), "gmmformer": GmmFormer(), "gmmformer_v2": GmmFormerV2()}
    assert table == {name: key for kind in kinds for name, key in released_file.flags(kind).items()}
    for kind, model in kinds.items():
        chosen = small.experiment("main")
        found = released_file.config(chosen if model is None else chosen.model_copy(update={"model": model}), 6, 4)
        widths = released_file.form_of(kind).widths
        assert found.keys() == released_file.flags(kind).keys() | released_file.LISTS[kind].keys() | set(widths)
        assert [found[name] for name in widths] == [6, 4]


def test_a_released_file_lends_all_but_weights_and_optimiser(small: Config, tmp_path: Path) -> None:
    layout = small.layout
    path = saved(tmp_path / "best.ckpt", weights_of(small), epoch=7, config={"seed": 9527}, optimizer={"state": {}})
    other = saved(tmp_path / "other.ckpt", weights_of(small, seed=1))
    import_checkpoint(small, layout, "main", 3, other)
    export_checkpoint(layout, "main", 3, tmp_path / "out.ckpt", like=path)
    content = torch.load(tmp_path / "out.ckpt", weights_only=True)
    assert sorted(content) == ["config", "epoch", "model_val", "optimizer", "state_dict"]
    assert content["config"] == {"seed": 9527}
    assert list(content["state_dict"]) == list(weights_of(small))
    assert torch.equal(content["state_dict"]["weight_token"], weights_of(small, seed=1)["weight_token"])
    shorter = {name: value for name, value in weights_of(small).items() if "attn2" not in name}
    with pytest.raises(BundleError, match=r"do not fit the model to be like:\n  clip_encoder\.attn2"):
        export_checkpoint(layout, "main", 3, tmp_path / "out.ckpt", like=saved(tmp_path / "shorter.ckpt", shorter))


class Hostile:
    """Runs a command when unpickled the ordinary way."""

    def __reduce__(self) -> tuple:
        return os.system, ("touch PWNED",)


@pytest.mark.parametrize(
    ("lends", "left", "kept"),
    [
        (Hostile(), ["config: posix.system"], None),
        ({"seed": 1, "evil": Hostile()}, ["config.evil: posix.system"], {"seed": 1}),
        (collections.Counter("aab"), [], {"a": 2, "b": 1}),
        ({"mean": np.arange(3.0), "n": np.float32(2)}, [], {"mean": [0, 1, 2], "n": 2}),
        (argparse.Namespace(seed=1), [], {"seed": 1}),
    ],
)
def test_nothing_a_lender_pickled_is_written_back(
    small: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lends: Any, left: list[str], kept: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    lender = saved(tmp_path / "lender.ckpt", weights_of(small), config=lends)
    import_checkpoint(small, small.layout, "main", 3, saved(tmp_path / "own.ckpt", weights_of(small)))
    assert export_checkpoint(small.layout, "main", 3, tmp_path / "out.ckpt", like=lender) == left
    content = torch.load(tmp_path / "out.ckpt", weights_only=False)  # as the released code opens it
    assert not (tmp_path / "PWNED").exists()
    assert content["config"] == (kept if kept is not None else released_file.config(small.experiment("main"), 6, 4))


OTHERS = {"msc": Msc, "ms_sl": MsSl, "gmmformer": GmmFormer, "gmmformer_v2": GmmFormerV2}


@pytest.mark.parametrize("kind", OTHERS)
def test_a_file_of_another_method_is_named(small: Config, tmp_path: Path, kind: str) -> None:
    own = {"widths": [None, 1.0, 5.0]} if kind != "ms_sl" else {}
    model = build(kind, OTHERS[kind](hidden=16, heads=2, max_words=9, **own), Dims(6, 4))
    path = saved(tmp_path / "best.ckpt", to_released(model.state_dict(), 3, kind))
    for other in OTHERS:
        chosen = experiment(model={"kind": other, "hidden": 16, "heads": 2, "max_words": 9} | (own if other != "ms_sl" else {}))
        if other == kind:
            assert torch.equal(build_released(read_released(path), chosen, path).state_dict()["frame.positions.norm.bias"], torch.zeros(16))
            continue
        with pytest.raises(BundleError, match=f"a checkpoint of {kind}, and the experiment's model is {other}"):
            build_released(read_released(path), chosen, path)


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
