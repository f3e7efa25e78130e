"""MS-SL, GMMFormer and v2 end to end: a released collection imported, pooled and ranked with the released checkpoint, to its numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.clips import stage as clips
from pipeline.config.schema import Config
from pipeline.core.pickles import plain, read_archive
from pipeline.evaluation import inputs
from pipeline.evaluation import stage as evaluation
from pipeline.interchange import released_file
from pipeline.interchange.captioned import open_captioned
from pipeline.interchange.checkpoints import export_checkpoint, import_checkpoint
from pipeline.interchange.importing import import_bundle
from pipeline.jobs import recipes
from pipeline.ranking import gallery, measure
from pipeline.ranking.metrics import ranks, recalls
from pipeline.ranking.split import normalised
from pipeline.training.batches import Batches
from tests.conftest import NO_SHARED
from tests.golden.released_methods import Method, identity, sets
from tests.golden.test_gmmformer import KEYS

RUN = ("main", 0)
FILE = "small.ckpt"


class Bare:
    """A released collection taken through the store; `expected` holds the released code's arrays."""

    def __init__(self, golden: Method, collection: str, folder: Path) -> None:
        self.golden, self.collection = golden, collection
        with np.load(golden.folder / f"e2e_{collection}_expected.npz") as arrays:
            self.expected = {name: arrays[name] for name in arrays.files}
        released = read_archive(golden.folder / FILE)[released_file.form_of(golden.kind).config]
        own: dict[str, Any] = {}
        if golden.kind != "ms_sl":
            own = {"padding": "longest"} if golden.kind == "gmmformer" else {"consolidation_temperature": released["sft_factor"]}
        clip, frame = self.expected["coef_fusion"].tolist()
        self.config = Config.model_validate(
            {
                "results": str(folder),
                "dataset": {"name": collection, "kind": "bundle"},
                "encoders": {"video": {"kind": "imported"}, "words": {"kind": "imported"}},
                "features": ["video"],
                "text": "words",
                "clips": {"dtype": "float32", "frame_rows": "capped", "method": "rows"},
                "model": {
                    "kind": golden.kind,
                    "hidden": released["hidden_size"],
                    "heads": released["n_heads"],
                    "max_words": released["max_desc_l"],
                    **own,
                },
                "evaluation": {"split": "val", "clip_weight": clip, "frame_weight": frame},
                "runtime": {"device": "cpu"},
            }
        )
        self.layout, self.chosen = self.config.layout, self.config.experiment("main")
        with open_captioned(golden.folder.parent / "common" / "e2e" / collection) as bundle:
            import_bundle(bundle, self.config, self.layout, video="video", text="words")
        for shard in sorted(path.stem for path in self.layout.features("video", "x").parent.glob("*.h5")):
            clips.run(self.config, self.layout, self.chosen, shard)
        import_checkpoint(self.config, self.layout, *RUN, golden.folder / FILE)

    def array(self, name: str) -> Tensor:
        return torch.from_numpy(self.expected[name])

    def names(self, name: str) -> list[str]:
        return [str(value) for value in self.expected[name]]


@pytest.fixture(
    scope="module",
    params=[(path, collection) for path in sets() for collection in ("tvr", "charades")] or [None],
    ids=lambda given: f"{identity(given[0])}-{given[1]}" if given else "absent",
)
def bare(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    if request.param is None:
        pytest.skip(f"{NO_SHARED}/golden_methods")
    path, collection = request.param
    return Bare(Method(path), collection, tmp_path_factory.mktemp("bare"))


@pytest.mark.parametrize("batches", ["", "small_batches_"])
@pytest.mark.parametrize("split", ["val", "test"])
def test_scores_ranks_and_recalls(bare: Bare, split: str, batches: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = batches + split
    videos, queries = bare.expected[f"{prefix}_batch_sizes"].tolist()
    monkeypatch.setattr(gallery, "VIDEOS", videos)
    monkeypatch.setattr(gallery, "QUERIES", queries)
    found = inputs.load(bare.layout, bare.chosen, split)
    model, _, _ = evaluation.load_model(bare.layout.checkpoint(*RUN))
    ranked = measure.rank(model, found.split, bare.chosen.evaluation)
    # The released evaluation sorts by length inside each batch.
    columns = torch.tensor([found.split.videos.ids.index(name) for name in bare.names(f"{prefix}_video_metas")])
    rows = torch.tensor([found.split.queries.ids.index(name) for name in bare.names(f"{prefix}_query_metas")])
    assert sorted(columns.tolist()) == list(range(len(found.split.videos)))
    assert sorted(rows.tolist()) == list(range(len(found.split.queries)))
    truth = columns.argsort()[found.split.queries.video[rows]]
    scores = ranked.named
    for name, suffix in (("fused", ""), ("clip", "_clip"), ("frame", "_frame")):
        ours = scores[name][rows][:, columns]
        bare.golden.close(ours, bare.array(f"{prefix}_scores{suffix}"), f"e2e.{bare.collection}.{prefix}.scores{suffix}")
        places = ranks(ours, truth)
        np.testing.assert_allclose([recalls(places)[k] for k in KEYS], bare.expected[f"metrics_{prefix}_{name}"], rtol=0, atol=1e-9)
        if name == "fused":
            np.testing.assert_array_equal(places, bare.expected[f"{prefix}_ranks"])


def test_the_collated_training_batch(bare: Bare) -> None:
    split = inputs.load(bare.layout, bare.chosen, "train").split
    order = torch.tensor([split.videos.ids.index(name) for name in bare.names("train_video_order")])
    batch = Batches(split, bare.chosen.model.max_words, torch.device("cpu")).gather(order)
    longest = bare.array("train_videos_mask").shape[1]
    for ours, name in (
        (batch.videos.clips, "clip_video_features"),
        (batch.videos.frames[:, :longest], "frame_video_features"),
        (batch.videos.real[:, :longest], "videos_mask"),
        (batch.words.rows, "text_feat"),
        (batch.words.mask, "text_mask"),
        (batch.labels, "text_labels"),
    ):
        torch.testing.assert_close(ours, bare.array(f"train_{name}"), rtol=0, atol=1e-6)
    assert not batch.videos.frames[:, longest:].any()
    assert torch.equal(normalised(split.videos.clips[order]), batch.videos.clips)


def test_the_checkpoint_goes_out_as_it_came(bare: Bare) -> None:
    out, theirs = bare.layout.root / "out.ckpt", released_file.read(bare.golden.folder / FILE)
    export_checkpoint(bare.layout, *RUN, out)
    ours: dict[str, Any] = torch.load(out, weights_only=True)
    assert set(ours) == set(theirs.content)
    form = released_file.form_of(bare.golden.kind)
    assert set(ours[form.weights]) == set(theirs.weights)
    assert all(torch.equal(ours[form.weights][name], value) for name, value in theirs.weights.items())
    assert ours["epoch"] == theirs.content["epoch"]
    if form.resumes:
        assert ours["model_val"] == theirs.content["model_val"]
        for mine, other in zip(ours["optimizer"]["param_groups"], theirs.content["optimizer"]["param_groups"], strict=True):
            assert len(mine["params"]) == len(other["params"])
            assert mine["weight_decay"] == other["weight_decay"]
            assert set(other) - set(mine) == {"schedule"}  # an object of their class: training cannot go on from the file
    sizes = ("hidden_size", "n_heads", "max_desc_l", "max_ctx_l", "map_size", *form.widths)
    assert {name: ours[form.config][name] for name in sizes} == {name: theirs.content[form.config][name] for name in sizes}
    assert export_checkpoint(bare.layout, *RUN, out, like=bare.golden.folder / FILE) == []
    again = torch.load(out, weights_only=True)
    assert again[form.config] == plain(theirs.content[form.config])[0]
    assert list(again[form.weights]) == list(theirs.weights)
    evaluation.run(bare.config, bare.layout, *RUN, recipes.evaluation(bare.config, RUN[0]))
    assert json.loads(bare.layout.metrics(*RUN).read_text())["recalls"]["fused"]["SumR"] == pytest.approx(
        bare.expected["metrics_val_fused"][-1], abs=1e-9
    )
