"""The released on-disk format, end to end: imported, pooled and merged, evaluated with the released weights, to the released numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pipeline.clips import stage as clips
from pipeline.clips.op_tome import op_tome
from pipeline.clips.recipe import RELEASED_SCHEDULE
from pipeline.config.schema import Config
from pipeline.core.pickles import write_archive
from pipeline.core.store import open_store
from pipeline.evaluation import inputs
from pipeline.evaluation import stage as evaluation
from pipeline.interchange.captioned import open_captioned
from pipeline.interchange.checkpoints import export_checkpoint, import_checkpoint, read_released
from pipeline.interchange.importing import import_bundle
from pipeline.jobs import recipes
from pipeline.ranking import gallery
from pipeline.ranking.metrics import ranks, recalls
from pipeline.ranking.split import normalised
from tests.conftest import NO_SHARED
from tests.golden.arrays import FACTOR, Golden, golden

__all__ = ["golden"]

KEYS = ("R@1", "R@5", "R@10", "R@100", "SumR")
RUN = ("main", 0)


class Bare:
    """A released collection taken through the store; `expected` holds the released code's arrays."""

    def __init__(self, golden: Golden, collection: str, folder: Path) -> None:
        self.golden, self.collection = golden, collection
        with np.load(golden.folder / f"e2e_{collection}_expected.npz") as arrays:
            self.expected = {name: arrays[name] for name in arrays.files}
        with np.load(golden.folder / "small_weights.npz") as arrays:
            self.weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        words = self.weights["query_pos_embed.position_embeddings.weight"].shape[0]
        hidden = self.weights["weight_token"].numel()
        self.config = Config.model_validate(
            {
                "results": str(folder),
                "dataset": {"name": collection, "kind": "bundle"},
                "encoders": {"clip": {"kind": "imported"}},
                "features": ["clip"],
                "text": "clip",
                "clips": {"dtype": "float32", "tau": 0.75},
                "model": {"hidden": hidden, "heads": 4, "max_words": words, "consolidation_temperature": 0.6},
                "evaluation": {"split": "val"},
                "runtime": {"device": "cpu"},
            }
        )
        self.layout = self.config.layout
        self.chosen = self.config.experiment("main")

    def run(self) -> dict[str, Any]:
        with open_captioned(self.golden.folder / "e2e" / self.collection) as bundle:
            import_bundle(bundle, self.config, self.layout, video="clip", text="clip")
        for shard in sorted(path.stem for path in self.layout.features("clip", "x").parent.glob("*.h5")):
            clips.run(self.config, self.layout, self.chosen, shard)
        best = self.layout.root / "best.ckpt"
        write_archive(best, {"state_dict": self.weights, "epoch": 3})
        import_checkpoint(self.config, self.layout, *RUN, best)
        evaluation.run(self.config, self.layout, *RUN, recipes.evaluation(self.config, RUN[0]))
        return json.loads(self.layout.metrics(*RUN).read_text())


@pytest.fixture(params=["tvr", "activitynet"])
def bare(request: pytest.FixtureRequest, golden: Golden, tmp_path: Path) -> Bare:
    if not (golden.folder / "e2e" / request.param).is_dir():
        pytest.skip(f"{NO_SHARED}/golden/{golden.folder.name}/e2e/{request.param}")
    return Bare(golden, request.param, tmp_path)


def strip(names: Any) -> list[str]:
    """Ids as the released evaluation compares them: ActivityNet's without `v_`."""
    return [str(name).removeprefix("v_") for name in names]


def tied(frames: torch.Tensor) -> torch.Tensor:
    """Videos in which a merge step of OP-ToMe has to choose between exactly equal pairs: bool [V].

    Short videos repeat rows, so pairs tie; the released code orders ties by an unstable sort, which no port can follow (docs/method.md 10).
    """
    found = torch.zeros(len(frames), dtype=torch.bool)
    rows, sizes = frames.float(), torch.ones(frames.shape[:2])
    for length in RELEASED_SCHEDULE:
        merges = rows.shape[1] - length
        similarity = (rows[:, 0::2] * rows[:, 1::2]).sum(2).sort(1, descending=True).values
        if merges < similarity.shape[1]:
            gap = similarity[:, merges - 1] - similarity[:, merges]
            found |= gap <= 1e-6 * similarity[:, merges].abs()
        merged = op_tome(rows, [length], "dot", sizes)
        rows, sizes = merged.clips, merged.sizes
    return found


def test_scores_ranks_and_recalls(bare: Bare) -> None:
    metrics = bare.run()
    expected = {key: torch.from_numpy(value) for key, value in bare.expected.items() if value.dtype.kind in "fiu"}
    found = inputs.load(bare.layout, bare.chosen, "val")
    model, _, _ = evaluation.load_model(bare.layout.checkpoint(*RUN))
    asked, kept = gallery.encode(model, found.split, torch.device("cpu"))
    ranked = gallery.score(model, asked, kept, bare.chosen.evaluation.fusion(model.branches))
    videos, queries = strip(found.split.videos.ids), strip(found.split.queries.ids)
    assert videos == strip(bare.expected["val_video_metas"])
    # The released loader sorts the queries by length inside each batch.
    order = torch.tensor([queries.index(query) for query in strip(bare.expected["val_query_metas"])])
    assert sorted(order.tolist()) == list(range(len(queries)))
    decided = ~tied(found.split.videos.frames)
    assert decided.float().mean() >= 0.5  # the rest are ties, which are left out of what is compared below
    truth = found.split.queries.video[order]
    clip, frame = ranked.branches["clip"][order], ranked.branches["frame"][order]
    bare.golden.close(clip[:, decided], expected["val_scores_clip"][:, decided], "small.clip_scores")
    bare.golden.close(frame, expected["val_scores_frame"], "small.frame_scores")
    bare.golden.close(ranked.fused[order][:, decided], expected["val_scores"][:, decided], "small.frame_scores")
    bare.golden.close(F.normalize(asked["pooled"][order], dim=-1), expected["val_query"], "small.query")
    assert found.split.queries.teacher is not None
    torch.testing.assert_close(F.normalize(found.split.queries.teacher[order], dim=-1), expected["val_eos"], rtol=0, atol=1e-6)

    clip[:, ~decided] = expected["val_scores_clip"][:, ~decided]
    fused = 0.4 * clip + 0.6 * frame
    np.testing.assert_array_equal(ranks(fused, truth), expected["ranks"])
    for branch, scores in (("fused", fused), ("clip", clip), ("frame", frame)):
        ours = recalls(ranks(scores, truth))
        np.testing.assert_allclose([ours[k] for k in KEYS], expected[f"metrics_{branch}"], rtol=0, atol=1e-9)
        if decided.all() or branch == "frame":
            assert metrics["recalls"][branch] == ours
    with open_store(bare.layout.evaluation(*RUN)) as store:
        np.testing.assert_array_equal(store.table("queries")["rank_frame"], ranks(ranked.branches["frame"], found.split.queries.video))


def test_similarity_structure(bare: Bare) -> None:
    structure = bare.run()["collapse"]
    ours = {
        "FINE inner video clip feat sim mean": structure["video"]["model"]["intra"],
        "FINE total sim mean": structure["video"]["model"]["total_released"],
        "FINE inner video text sim mean": structure["text"]["model"]["intra"],
        "FINE total text sim mean": structure["text"]["model"]["total"],
        "CLIP inner video clip feat sim mean": structure["video"]["foundation"]["intra"],
        "CLIP total sim mean": structure["video"]["foundation"]["total_released"],
        "CLIP inner video text sim mean": structure["text"]["foundation"]["intra"],
        "CLIP total text sim mean": structure["text"]["foundation"]["total"],
    }
    ties = bool(tied(inputs.load(bare.layout, bare.chosen, "val").split.videos.frames).any())
    for name, value in zip(bare.expected["dist_names"], bare.expected["dist_values"], strict=True):
        if ties and str(name) in ("CLIP inner video clip feat sim mean", "CLIP total sim mean"):
            continue  # means over merged clips, some of which a tie decides
        # The noise of the encoder comes on top of that of the measure itself.
        allowed = FACTOR * (bare.golden.floor[f"dist.{name}"] + bare.golden.floor["small.frame_scores"])
        assert (ours[str(name)] is None) if np.isnan(value) else ours[str(name)] == pytest.approx(value, abs=allowed), name


def test_the_collated_training_batch(bare: Bare) -> None:
    bare.run()
    expected = {key: torch.from_numpy(value) for key, value in bare.expected.items() if value.dtype.kind in "fiu"}
    found = inputs.load(bare.layout, bare.chosen, "train").split
    assert found.videos.ids == [str(name) for name in bare.expected["train_video_ids"]]
    decided = ~tied(found.videos.frames)
    assert decided.float().mean() >= 0.5  # the rest are ties, which are left out of what is compared below
    torch.testing.assert_close(normalised(found.videos.frames), expected["train_frame_video_features"], rtol=0, atol=1e-6)
    for ours, name in (
        (normalised(found.videos.clips), "train_clip_video_features"),
        (found.videos.sizes, "train_merge_size"),
        (found.videos.frame_to_clip.long(), "train_merged_frame_label"),
    ):
        torch.testing.assert_close(ours[decided], expected[name][decided], rtol=0, atol=1e-6)
    words, mask, _ = found.queries.padded(torch.arange(len(found.queries)), bare.chosen.model.max_words, torch.device("cpu"))
    torch.testing.assert_close(words, expected["train_text_feat"], rtol=0, atol=1e-6)
    torch.testing.assert_close(mask, expected["train_text_mask"], rtol=0, atol=0)
    np.testing.assert_array_equal(found.queries.video, expected["train_text_labels"])


def test_weights_go_out_under_the_released_names_as_they_came(bare: Bare) -> None:
    bare.run()
    out = bare.layout.root / "out.ckpt"
    export_checkpoint(bare.layout, *RUN, out)
    found = read_released(out)
    assert set(found) == set(bare.weights)
    assert all(torch.equal(found[name], value) for name, value in bare.weights.items())
