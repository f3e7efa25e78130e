"""Scores in chunks equal the literal double loop, whatever the chunk size."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pipeline.config.model import ModelSettings
from pipeline.models.base import Dims, Encoded, Retriever, Scores, Videos, Words, build
from pipeline.models.scores import max_cosine, max_similarity, token_cosines
from pipeline.ranking import gallery as ranking
from pipeline.ranking import measure
from pipeline.ranking.metrics import ranks, recalls
from pipeline.ranking.room import Room
from pipeline.training import splits
from tests.training import miniature


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    return queries, F.normalize(torch.randn(5, 9, 6, generator=generator, dtype=torch.float64), dim=-1)


def test_max_cosine_equals_the_double_loop_at_any_chunk(
    tensors: tuple[torch.Tensor, torch.Tensor],
) -> None:
    queries, tokens = tensors
    literal = torch.stack([torch.stack([F.cosine_similarity(q[None], video, dim=-1).max() for video in tokens]) for q in queries])
    for chunks in ((2048, 32), (3, 2), (1, 1)):
        torch.testing.assert_close(
            max_cosine(queries, tokens, query_chunk=chunks[0], video_chunk=chunks[1]),
            literal,
        )


def test_best_frame_is_the_argmax_in_the_chosen_video(
    tensors: tuple[torch.Tensor, torch.Tensor],
) -> None:
    queries, tokens = tensors
    videos = torch.tensor([0, 4, 2, 2, 1, 3, 0])
    expected = [int(F.cosine_similarity(q[None], tokens[v], dim=-1).argmax()) for q, v in zip(queries, videos, strict=True)]
    assert token_cosines(queries, tokens[videos]).argmax(-1).tolist() == expected


class Doubling(Retriever):
    """A model of the contract with dropout, to see that encoding switches it off and restores the mode."""

    branches = ("whole",)
    provides = frozenset({"query.pooled", "video.frames"})

    def __init__(self) -> None:
        super().__init__(ModelSettings(kind="tests.doubling", max_words=3), Dims(3, 3))
        self.drop = nn.Dropout(0.5)

    def encode_videos(self, videos: Videos) -> Encoded:
        return {"frames": self.drop(2 * videos.frames), "width": videos.sizes.sum(1)}

    def encode_queries(self, words: Words) -> Encoded:
        return {"pooled": self.drop((words.rows * words.mask[..., None]).sum(1))}

    def score(self, queries: Encoded, videos: Encoded, own: torch.Tensor | None = None) -> dict[str, Scores]:
        return {"whole": Scores(*max_similarity(queries["pooled"], videos["frames"]))}


def seen(frames: torch.Tensor, sizes: torch.Tensor) -> Videos:
    return Videos(frames, frames[:, :2], sizes, torch.zeros(len(frames)), torch.zeros(len(frames)))


def test_encoding_is_deterministic_in_order_and_restores_the_mode() -> None:
    model = Doubling().train()
    frames, sizes = torch.randn(5, 4, 3), torch.ones(5, 2)
    whole = ranking.encode_videos(model, [seen(frames, sizes)])
    split = ranking.encode_videos(model, (seen(frames[i : i + 2], sizes[i : i + 2]) for i in (0, 2, 4)))
    assert model.training
    assert ranking.count(whole) == 5
    torch.testing.assert_close(whole, split, rtol=0, atol=0)
    torch.testing.assert_close(whole["frames"], 2 * frames)
    with pytest.raises(ValueError, match="no video"):
        ranking.encode_videos(model, [])


def test_a_model_of_any_branches_is_scored_in_chunks_and_located() -> None:
    model = Doubling()
    gallery = ranking.encode_videos(model, [seen(torch.randn(5, 4, 3), torch.ones(5, 2))])
    queries = ranking.encode_queries(model, [Words(torch.randn(7, 2, 3), torch.ones(7, 2))])
    scores = ranking.score(model, queries, gallery, {"whole": 0.5})
    chunked = ranking.score(model, queries, gallery, {"whole": 0.5}, query_chunk=3, video_chunk=2)
    literal = [[F.cosine_similarity(q[None], video, dim=-1).max() for video in gallery["frames"]] for q in queries["pooled"]]
    torch.testing.assert_close(scores.branches["whole"], torch.tensor(literal))
    torch.testing.assert_close(scores.fused, 0.5 * scores.branches["whole"])
    torch.testing.assert_close(chunked.fused, scores.fused)
    where = ranking.locate(model, queries, gallery, torch.tensor([0, 4, 2, 2, 1, 3, 0]), torch.tensor([4, 4, 4, 1, 4]))
    assert where.shape == (7, 4)
    whole = [0, 1, 2, 3, 4, 6]  # the video of query 5 has one row and three of padding
    torch.testing.assert_close(where[whole].amax(1), scores.branches["whole"][whole, [0, 4, 2, 2, 1, 0]])
    assert where[whole].isfinite().all()
    assert where[5].isneginf().tolist() == [False, True, True, True]


class Wordy(Doubling):
    """A model that keeps a row a word, and something of its own to rank with."""

    def encode_queries(self, words: Words) -> Encoded:
        return {**super().encode_queries(words), "words": words.rows, "mask": words.mask}

    def asked(self, queries: Encoded) -> Encoded:
        return {"pooled": queries["pooled"], "words": 3 * queries["words"] * queries["mask"][..., None], "mask": queries["mask"]}


def test_rows_of_words_are_made_as_long_as_the_longest_query() -> None:
    model, rows, mask = Wordy(), torch.randn(5, 6, 3), (torch.arange(6) < torch.tensor([1, 2, 2, 4, 6])[:, None]).float()
    whole = ranking.encode_queries(model, [Words(rows, mask)])
    parts = [Words(rows[:1, :1], mask[:1, :1]), Words(rows[1:3, :2], mask[1:3, :2]), Words(rows[3:], mask[3:])]
    torch.testing.assert_close(ranking.encode_queries(model, parts), whole, rtol=0, atol=0)
    assert whole["words"].shape == (5, 6, 3)
    torch.testing.assert_close(whole["words"], 3 * rows * mask[..., None])


def test_a_gallery_in_mapped_files_is_scored_and_located_alike(tmp_path: Path) -> None:
    model, frames = Doubling(), torch.randn(5, 4, 3)
    batches = [seen(frames[i : i + 2], torch.ones(len(frames[i : i + 2]), 2)) for i in (0, 2, 4)]
    here, there = (ranking.encode_videos(model, batches, videos=5, room=Room(tmp_path, size)) for size in (1.0, 0.0))
    torch.testing.assert_close(there, here, rtol=0, atol=0)
    with pytest.raises(ValueError, match="no video"):
        ranking.encode_videos(model, [], videos=0, room=Room(tmp_path, 0.0))
    queries, own = ranking.encode_queries(model, [Words(torch.randn(7, 2, 3), torch.ones(7, 2))]), torch.arange(7) % 5
    for found in (
        lambda kept: ranking.score(model, queries, kept, {"whole": 0.5}).fused,
        lambda kept: ranking.locate(model, queries, kept, own, torch.full((5,), 4)),
    ):
        torch.testing.assert_close(found(there), found(here), rtol=0, atol=0)


@pytest.mark.parametrize(("queries", "videos"), [(1, 1), (7, 3), (29, 10), (29, 2000), (2, 10**6)])
def test_blocks_hold_every_query_once_and_begin_where_a_chunk_does(queries: int, videos: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "BLOCK", 800)
    monkeypatch.setattr(ranking, "SCORED", 3)
    found = list(ranking.blocks(queries, videos))
    assert [row for rows in found for row in range(rows.start, rows.stop)] == list(range(queries))
    assert all(4 * videos * (rows.stop - rows.start) <= 800 or rows.stop - rows.start == 1 for rows in found)
    if 4 * videos * 3 <= 800:
        assert all(rows.start % 3 == 0 for rows in found)


def test_what_is_measured_in_blocks_is_what_is_measured_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = miniature.make(tmp_path)
    chosen = world.config.experiment("main")
    split = splits.train_split(chosen, world.layout)
    model = build(chosen.model.kind, chosen.model, Dims(miniature.DIM, miniature.TEXT))
    monkeypatch.setattr(ranking, "SCORED", 4)
    found = []
    for block in (2**30, 4 * len(split.videos) * 9):
        monkeypatch.setattr(ranking, "BLOCK", block)
        found.append(measure.measure(model, split, chosen.evaluation, torch.device("cpu"), Room(tmp_path, 0.0)))
    assert found[0] == found[1]
    whole = measure.rank(model, split, chosen.evaluation)
    assert found[0]["SumR"] == recalls(ranks(whole.fused, split.queries.video))["SumR"]
    assert found[0]["SumR_clip"] == recalls(ranks(whole.branches["clip"], split.queries.video))["SumR"]
