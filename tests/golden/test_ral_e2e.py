"""RAL's released collections end to end: imported from disk, prepared, scored with an imported checkpoint (golden ral/e2e)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.clips import stage as clips
from pipeline.config.schema import Config
from pipeline.core.errors import BundleError
from pipeline.core.pickles import write_archive
from pipeline.evaluation import inputs
from pipeline.evaluation import stage as evaluation
from pipeline.interchange.captioned import open_captioned
from pipeline.interchange.checkpoints import export_checkpoint, import_checkpoint, read_released
from pipeline.interchange.importing import import_bundle
from pipeline.jobs import recipes
from pipeline.ranking import measure
from pipeline.ranking.metrics import ranks, recalls
from pipeline.search import searcher
from tests.golden.ral import Ral, ral

__all__ = ["ral"]

KEYS = ("R@1", "R@5", "R@10", "R@100", "SumR")
RUN = ("main", 0)


class Bare:
    """A released collection in the store, with the released weights as its one run."""

    def __init__(self, ral: Ral, collection: str, folder: Path) -> None:
        self.ral, self.collection = ral, collection
        with np.load(ral.folder / f"e2e_{collection}_expected.npz") as arrays:
            self.expected = {name: arrays[name] for name in arrays.files}
        self.weights = ral("small_weights")
        c = dict(zip(np.load(ral.folder / "small_outputs.npz")["cfg_names"], ral("small_outputs")["cfg_values"].tolist(), strict=True))
        words, hidden = self.weights["query_pos_embed.position_embeddings.weight"].shape
        base = {"kind": "gmmformer_v2", "hidden": hidden, "max_words": words, "consolidation_temperature": c["sft_factor"]}
        clip, frame = self.expected["w_clip_frame"].tolist()
        self.config = Config.model_validate(
            {
                "results": str(folder),
                "dataset": {"name": collection, "kind": "bundle"},
                "encoders": {"i3d": {"kind": "imported"}},
                "features": ["i3d"],
                "text": "i3d",
                "clips": {"frame_rows": "capped", "method": "rows", "dtype": "float32"},
                "model": {"kind": "ral", "base": base},
                "evaluation": {"split": "val", "clip_weight": clip, "frame_weight": frame},
                "runtime": {"device": "cpu"},
            }
        )
        self.layout, self.chosen = self.config.layout, self.config.experiment("main")

    def store(self) -> None:
        with open_captioned(self.ral.folder / "e2e" / self.collection) as bundle:
            import_bundle(bundle, self.config, self.layout, video="i3d", text="i3d")
        for shard in sorted(path.stem for path in self.layout.features("i3d", "x").parent.glob("*.h5")):
            clips.run(self.config, self.layout, self.chosen, shard)
        best = self.layout.root / "best.ckpt"
        write_archive(best, {"state_dict": self.weights, "epoch": 3})
        import_checkpoint(self.config, self.layout, *RUN, best)


@pytest.fixture(scope="module", params=["tvr", "activitynet"])
def bare(request: pytest.FixtureRequest, ral: Ral, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    made = Bare(ral, request.param, tmp_path_factory.mktemp(request.param))
    made.store()
    return made


@pytest.mark.parametrize("split", ["val", "test"])
def test_scores_ranks_and_recalls(bare: Bare, split: str) -> None:
    expected = bare.expected
    found = inputs.load(bare.layout, bare.chosen, split)
    model, _, _ = evaluation.load_model(bare.layout.checkpoint(*RUN))
    scores = measure.rank(model, found.split, bare.chosen.evaluation)
    assert found.split.videos.ids == [str(name) for name in expected[f"{split}_video_metas"]]
    # The released loader sorts the queries by length inside each batch.
    order = [found.split.queries.ids.index(str(query)) for query in expected[f"{split}_query_metas"]]
    assert sorted(order) == list(range(len(found.split.queries)))
    truth = found.split.queries.video[order]
    np.testing.assert_array_equal(truth, expected[f"{split}_gt"])
    key = f"e2e_{bare.collection}.{split}_scores"
    for name, ours in (("", scores.fused), ("_clip", scores.branches["clip"]), ("_frame", scores.branches["frame"])):
        bare.ral.close(ours[order], torch.from_numpy(expected[f"{split}_scores{name}"]), key + name)
    places = ranks(scores.fused[order], truth)
    np.testing.assert_array_equal(places, expected[f"{split}_ranks"])
    np.testing.assert_allclose([recalls(places)[k] for k in KEYS], expected[f"{split}_metrics"], rtol=0, atol=1e-9)


def test_the_evaluation_stage_says_the_released_numbers(bare: Bare) -> None:
    evaluation.run(bare.config, bare.layout, *RUN, recipes.evaluation(bare.config, RUN[0]))
    found: dict[str, Any] = json.loads(bare.layout.metrics(*RUN).read_text())["recalls"]["fused"]
    assert [found[key] for key in KEYS] == pytest.approx(bare.expected["val_metrics"].tolist(), abs=1e-9)


def test_the_collated_training_batch(bare: Bare) -> None:
    expected = {name: torch.from_numpy(value) for name, value in bare.expected.items() if value.dtype.kind in "fiu"}
    found = inputs.load(bare.layout, bare.chosen, "train").split
    lengths = found.videos.frame_count
    order = torch.sort(lengths, descending=True, stable=True).indices  # the released collation: longest first
    videos = found.videos.gather(order, torch.device("cpu"))
    torch.testing.assert_close(videos.frames, expected["train_frame_video_features"], rtol=0, atol=2e-7)
    torch.testing.assert_close(videos.clips, expected["train_clip_video_features"], rtol=0, atol=2e-7)
    torch.testing.assert_close(videos.mask, expected["train_videos_mask"].float(), rtol=0, atol=0)
    asked = torch.cat([(found.queries.video == video).nonzero().flatten() for video in order])
    words = found.queries.padded(asked, bare.chosen.model.max_words, torch.device("cpu"))
    torch.testing.assert_close(words.rows, expected["train_text_feat"], rtol=0, atol=2e-7)
    torch.testing.assert_close(words.mask, expected["train_text_mask"], rtol=0, atol=0)


def test_weights_go_out_under_the_released_names_as_they_came(bare: Bare) -> None:
    out = bare.layout.root / "out.ckpt"
    export_checkpoint(bare.layout, *RUN, out)
    found = read_released(out)
    assert set(found) == set(bare.weights)
    assert all(torch.equal(found[name], value) for name, value in bare.weights.items())


def test_the_index_of_search_ranks_as_the_evaluation(bare: Bare) -> None:
    model, _, _ = evaluation.load_model(bare.layout.checkpoint(*RUN))
    index = searcher.open_index(bare.config, bare.layout, *RUN, model)
    found = inputs.load(bare.layout, bare.chosen, "val").split
    from pipeline.ranking import gallery

    queries, _ = gallery.encode(model, found, torch.device("cpu"))
    scores = gallery.score(model, queries, index.part(range(len(index.ids))), {"clip": 0.5, "frame": 0.5})
    order = [index.ids.index(video) for video in found.videos.ids]
    exact = gallery.score(model, queries, gallery.encode(model, found, torch.device("cpu"))[1], {"clip": 0.5, "frame": 0.5})
    assert (scores.fused[:, order] - exact.fused).abs().max() < 1e-3  # kept in half precision


def test_a_checkpoint_of_another_method_is_refused(bare: Bare, tmp_path: Path) -> None:
    own = ("frame_branch_query", "text_weight_fc", "pie_net", "uncertain_net")
    best = tmp_path / "v2.ckpt"
    write_archive(best, {"state_dict": {name: value for name, value in bare.weights.items() if not name.startswith(own)}})
    with pytest.raises(BundleError, match="a checkpoint of gmmformer_v2, and the experiment's model is ral"):
        import_checkpoint(bare.config, bare.layout, "main", 1, best)
