"""Which models an index of tokens can answer for: found out from what they rank, never taken for granted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core.store.mapped import HeldRows
from pipeline.models.base import Encoded, Retriever
from pipeline.ranking import gallery
from pipeline.search.best_token import BestOf, best_tokens, tokens_of
from pipeline.search.index import EncodedShard, Index
from pipeline.search.searcher import Searcher
from pipeline.search.tokens import Query
from pipeline.training.arrays import Arrays
from pipeline.training.stage import prepare
from tests.evaluation.conftest import typeable
from tests.models.test_hazards import DIM, TEXT, _settings

BRANCHES = {"clip": BestOf("pooled", "clips"), "frame": BestOf("pooled", "frames")}
DKD = {"inheritance": BestOf("pooled", "frames", "mask"), "exploration": BestOf("explored", "explored_frames", "mask")}
# Every kind that is hosted: what its branches are the best of; nothing where a query looks at a video in another way.
EXPECTED: dict[str, dict[str, BestOf]] = {
    "msc": BRANCHES,
    "gmmformer": {**BRANCHES, "frame": BestOf("pooled", "vector")},
    "gmmformer_v2": BRANCHES,
    "hlformer": BRANCHES,
    "dl_dkd": DKD,
    "dl_dkd plus plus": DKD,
    "amdnet": {"clip": BestOf("pooled", "clips")},
    "ms_sl": {},
    "bgm_net": {},
    "ral on gmmformer_v2": {},
    "ral on ms_sl": {},
}


def encoded(kind: str) -> tuple[Retriever, Encoded, Index, dict[str, float]]:
    """A model of random weights, its queries, and its videos of 1 to 200 rows, as an index keeps them."""
    random = np.random.default_rng(0)
    videos = {f"v{i}": random.normal(size=(rows, DIM)).astype(np.float32) for i, rows in enumerate([200, 3, 40, 1, 130, 17, 128, 60])}
    queries = [(name, random.normal(size=(int(random.integers(2, 6)), TEXT)).astype(np.float32)) for name in videos]
    settings = _settings(kind)
    teacher = {"teacher": random.normal(size=(8, TEXT)).astype(np.float32), "sentences": random.normal(size=(8, TEXT)).astype(np.float32)}
    seen = {name: random.normal(size=(4, TEXT)).astype(np.float32) for name in videos}
    split = Arrays(videos, queries, **teacher, teacher_frames=seen).split(settings)
    trainee, _, _ = prepare(settings, split, 1, torch.device("cpu"))
    for name, value in trainee.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(value, std=0.5 if value.ndim > 1 else 0.1)
    asked, kept = gallery.encode(trainee.model, split, torch.device("cpu"))
    halves = [(i, {name: value[i].half().numpy() for name, value in kept.items()}) for i in (slice(0, 5), slice(5, 8))]
    shards = [
        EncodedShard(ids, ids, values, split.videos.frame_count[i].numpy(), split.videos.start[i], split.videos.end[i])
        for i, values in ((i, {name: HeldRows(array) for name, array in some.items()}) for i, some in halves)
        if (ids := split.videos.ids[i])
    ]
    return trainee.model, asked, Index(shards), settings.evaluation.fusion(trainee.model.branches)


@pytest.mark.parametrize("kind", EXPECTED)
def test_what_each_kind_ranks_by_is_found(kind: str) -> None:
    model, asked, index, weights = encoded(kind)
    best = best_tokens(model, asked, index)
    assert best == EXPECTED[kind]
    if not best:
        return
    tokens = tokens_of(index, best)
    assert tokens is not None
    queries = [Query({b: asked[entry.vector][i].numpy() for b, entry in best.items()}, weights) for i in range(8)]
    ranked = torch.cat([gallery.score(model, asked, block, weights).fused for block in (shard.encoded() for shard in index.shards)], 1)
    np.testing.assert_allclose(tokens.scan(queries), ranked, atol=1e-5)
    for query, row in zip(queries, ranked, strict=True):
        np.testing.assert_allclose(tokens.scores(query, range(8)), row, atol=1e-5)


def test_a_mask_with_a_hole_is_no_padding() -> None:
    """Tokens are cut where padding begins; a model of one's own whose mask says something else scores every video itself."""
    _, _, index, _ = encoded("dl_dkd")
    index.shards[1].gallery["mask"].values[0, 1] = 0  # type: ignore[union-attr]
    assert tokens_of(index, DKD) is None


def test_a_model_that_answers_otherwise_than_its_tokens_is_asked_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It passed for one of best tokens on a few sentences; the first answer that is not what the model says shows it."""
    world = typeable(tmp_path)
    world.train("main", 1, text_dim=64)
    searcher = Searcher(world.config, world.layout, "main", 1)
    plain = searcher.search("text 1", k=100)
    assert searcher.index is not None
    rank = type(searcher.model).rank
    monkeypatch.setattr(type(searcher.model), "rank", lambda self, q, g: {b: 1 - v for b, v in rank(self, q, g).items()})
    other = searcher.search("text 1", k=100)
    assert [hit.video_id for hit in other] == [hit.video_id for hit in plain][::-1]
    assert "main, seed 1 does not score a video by its best token" in capsys.readouterr().err
    assert searcher.index is None
