"""MS-SL against its formulae a proposal, a query and a video at a time, in float64; chunks, places, sizes, what the index keeps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.methods import MsSl as Settings
from pipeline.models import ms_sl, proposals
from pipeline.models.base import Dims, Videos, Words
from pipeline.models.key_clip import KeyClipAttention, places
from pipeline.models.ms_sl import MultiScale
from pipeline.models.proposals import best_proposal, lengths, runs
from pipeline.ranking import gallery
from tests.conftest import NO_SHARED

LABELS = torch.tensor([2, 0, 2, 2, 3, 0])  # in no order, one video that no query asks for
CLIPS, FRAMES, HIDDEN, VIDEOS = 5, 7, 6, 4


def rows(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def averages(clips: int = CLIPS) -> Tensor:
    found = runs(clips).double()
    return found / found.sum(1, keepdim=True)


def one_by_one(clips: Tensor) -> list[Tensor]:
    """Every run of a video's clips, averaged."""
    return [clips[start : start + length].mean(0) for length in range(1, len(clips) + 1) for start in range(len(clips) - length + 1)]


@pytest.mark.parametrize("clips", [1, 2, 5, 32])
def test_proposals_are_means_of_all_runs(clips: int) -> None:
    given = rows(clips, HIDDEN)
    torch.testing.assert_close(averages(clips) @ given, torch.stack(one_by_one(given)))
    assert runs(clips).shape == (clips * (clips + 1) // 2, clips)
    torch.testing.assert_close(lengths(given[None], averages(clips))[0], torch.stack([p.norm() for p in one_by_one(given)]))


def test_lengths_of_proposals_that_cancel_keep_their_digits() -> None:
    clip = 20 * rows(1, HIDDEN).float()
    clips = torch.cat([clip, 1e-3 * rows(1, HIDDEN, seed=1).float() - clip])[None]
    exact = torch.stack(one_by_one(clips[0].double())).norm(dim=-1)
    torch.testing.assert_close(lengths(clips, runs(2))[0].double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("pairs", [1, 9, 8192])
def test_the_best_proposal_has_the_literal_scores_and_gradients(monkeypatch: pytest.MonkeyPatch, pairs: int) -> None:
    monkeypatch.setattr(proposals, "PAIRS", pairs)
    query, clips = rows(len(LABELS), HIDDEN, seed=1).requires_grad_(), rows(VIDEOS, CLIPS, HIDDEN, seed=2).requires_grad_()
    found = best_proposal(query, clips, averages())
    every = torch.stack([torch.stack(one_by_one(video)) for video in clips])
    cosine = torch.stack([F.cosine_similarity(q[None, None], every, dim=-1) for q in query])
    dot = torch.einsum("qh,bmh->qbm", query, every)
    torch.testing.assert_close(found.cosine, cosine.amax(-1))
    torch.testing.assert_close(found.dot, dot.amax(-1))
    assert torch.equal(found.key, cosine.argmax(-1))
    weight = rows(len(LABELS), VIDEOS, seed=3)
    ours = torch.autograd.grad((weight * (found.cosine + found.dot)).sum(), [query, clips])
    theirs = torch.autograd.grad((weight * (cosine.amax(-1) + dot.amax(-1))).sum(), [query, clips])
    torch.testing.assert_close(ours, theirs)


def test_queries_find_their_places_among_those_of_their_video() -> None:
    where = places(LABELS)
    assert where.slots == 3
    assert where.slot.tolist() == [0, 0, 1, 2, 0, 1]
    packed = where.pack(torch.arange(1.0, 7.0), VIDEOS)
    assert packed.tolist() == [[2, 6, 0], [0, 0, 0], [1, 3, 4], [5, 0, 0]]
    assert where.unpack(packed).tolist() == [1, 2, 3, 4, 5, 6]


def test_key_clip_attention_is_its_formula_for_a_pair_at_a_time() -> None:
    attention = KeyClipAttention(HIDDEN).double()
    query, clips = rows(len(LABELS), HIDDEN, seed=1), rows(VIDEOS, CLIPS, HIDDEN, seed=2).requires_grad_()
    frames = rows(VIDEOS, FRAMES, HIDDEN, seed=3).requires_grad_()
    mask = (torch.arange(FRAMES) < torch.tensor([[7], [3], [1], [5]])).double()
    key = best_proposal(query, clips, averages()).key

    def said(q: int, v: int) -> Tensor:
        proposal, real = one_by_one(clips[v])[int(key[q, v])], mask[v] > 0
        weights = ((frames[v][real] @ attention.guide.weight.T) @ proposal).softmax(0)
        return weights @ (frames[v][real] @ attention.value.weight.T)

    own = attention.own_videos(LABELS, key.gather(1, LABELS[:, None])[:, 0], averages(), clips, frames, mask)
    expected = torch.stack([said(q, int(v)) for q, v in enumerate(LABELS)])
    torch.testing.assert_close(own, expected)
    every = torch.stack([torch.stack([said(q, v) for v in range(VIDEOS)]) for q in range(len(LABELS))])
    for cosine, dot in (
        attention.every_video(query, key, attention.hearings(averages(), clips, frames, mask), frames),
        attention.every_video_at_once(query, key, averages(), clips, frames, mask),
    ):
        torch.testing.assert_close(dot, torch.einsum("qh,qbh->qb", query, every))
        torch.testing.assert_close(cosine, F.cosine_similarity(query[:, None], every, dim=-1))
    weight, parameters = rows(len(LABELS), HIDDEN, seed=4), [clips, frames, attention.guide.weight, attention.value.weight]
    torch.testing.assert_close(
        torch.autograd.grad((own * weight).sum(), parameters), torch.autograd.grad((expected * weight).sum(), parameters)
    )


def model(**over: Any) -> tuple[MultiScale, Videos, Words]:
    """A small model, and videos of which two are padded."""
    torch.manual_seed(0)
    made = MultiScale(Settings(**{"hidden": 8, "heads": 2, "max_words": 5, **over}), Dims(6, 5, FRAMES, CLIPS))
    mask = (torch.arange(FRAMES) < torch.tensor([[7], [3], [1], [7]])).float()
    nothing = torch.zeros(VIDEOS, CLIPS)
    frames = F.normalize(rows(VIDEOS, FRAMES, 6).float(), dim=-1) * mask[..., None]
    videos = Videos(frames, F.normalize(rows(VIDEOS, CLIPS, 6, seed=1).float(), dim=-1), nothing, nothing, nothing, mask)
    return made.eval(), videos, Words(rows(6, 5, 5, seed=2).float(), torch.ones(6, 5))


@pytest.mark.parametrize("few", [1, 1000])
def test_ranking_is_the_score_whatever_the_chunks_and_padding(monkeypatch: pytest.MonkeyPatch, few: int) -> None:
    """Of few queries only the key proposals listen, of many all proposals do."""
    monkeypatch.setattr(ms_sl, "QUERIES", 4)
    monkeypatch.setattr(ms_sl, "FEW", few)
    made, videos, words = model()
    encoded = gallery.encode_videos(made, [videos])
    queries = gallery.encode_queries(made, [words])
    scores = gallery.score(made, queries, encoded, {"clip": 0.7, "frame": 0.3}, query_chunk=5, video_chunk=3)
    with torch.no_grad():
        literal = made.score(queries, encoded)
    for branch in made.branches:
        torch.testing.assert_close(scores.branches[branch], literal[branch].cosine, rtol=1e-5, atol=1e-6)
    garbage = videos._replace(frames=torch.where(videos.real[..., None] > 0, videos.frames, 9.0))
    with torch.no_grad():
        torch.testing.assert_close(made.score(queries, made.encode_videos(garbage)), literal, rtol=1e-5, atol=1e-6)
    where = gallery.locate(made, queries, encoded, LABELS, videos.real.sum(1))
    assert (where.isneginf() == (videos.real[LABELS] == 0)).all()


def test_the_own_video_of_training_is_that_of_ranking() -> None:
    made, videos, words = model()
    query, video = made.encode_queries(words), made.encode_videos(videos)
    square, ranked = made.score(query, video, LABELS)["frame"], made.score(query, video)["frame"]
    assert square.pairwise
    assert not ranked.pairwise
    torch.testing.assert_close(square.cosine.diagonal(), ranked.cosine.gather(1, LABELS[:, None])[:, 0])
    torch.testing.assert_close(square.dot.diagonal(), ranked.dot.gather(1, LABELS[:, None])[:, 0])


def test_an_index_in_half_precision_scores_alike() -> None:
    made, videos, words = model()
    queries, kept = made.encode_queries(words), made.gallery(made.encode_videos(videos))
    halved = {name: value.half().float() for name, value in kept.items()}
    for branch, scores in made.rank(queries, kept).items():
        assert (made.rank(queries, halved)[branch] - scores).abs().max() < 2e-3


def test_what_decays_and_recomputes() -> None:
    made, *_ = model()
    left = {name for name, _ in made.named_parameters() if not made.decays(name)}
    assert left == {name for name, _ in made.named_parameters() if name.endswith(("bias", "norm.weight"))}
    made.recompute(True)
    assert made.frame.layer.recompute
    assert made.clip.layer.recompute
    assert made.query.layer.recompute


def test_parameter_counts() -> None:
    file = Path(__file__).resolve().parents[2].parent / "shared" / "golden_methods" / "params.json"
    if not file.is_file():
        pytest.skip(f"{NO_SHARED}/golden_methods")
    sizes = json.loads(file.read_text())["mssl"]["sizes"]
    assert len(sizes) == 7
    for size in sizes.values():
        with torch.device("meta"):
            made = MultiScale(Settings(max_words=size["max_words"]), Dims(size["visual"], size["text"]))
        assert sum(p.numel() for p in made.parameters()) == size["total"]
