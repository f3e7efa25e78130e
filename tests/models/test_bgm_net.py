"""BGM-Net against its summary written out (benchmarks/literal_bgm_net.py), in float64; what it shares with MS-SL; its start epoch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmarks import literal_bgm_net
from pipeline.config.methods import BgmNet as Settings
from pipeline.config.methods import MsSl
from pipeline.config.objectives import Objectives
from pipeline.core.errors import TrainingError
from pipeline.models.base import Dims, Videos, Words
from pipeline.models.bgm_net import BipartiteMatching
from pipeline.models.matching import assign
from pipeline.models.ms_sl import MultiScale
from pipeline.objectives.relations import difference
from pipeline.objectives.total import Total, step_of

TINY = Settings(hidden=8, heads=2, max_words=5, dropout=0.0, input_dropout=0.0, start_epoch=3)
DIMS = Dims(7, 6, 9, 4)  # 10 proposals
WEIGHTS = {"nce_clip": 0.02, "nce_frame": 0.04, "triplet_clip": 1.0, "triplet_frame": 1.0, "relations": 1.0}
OBJECTIVES = Objectives.model_validate(
    {
        "nce": {"clip": 0.02, "frame": 0.04},
        "triplet": {"hard_start_epoch": 0, "hard_pool": 1},
        "tcpl": {"distance": 0, "angle": 0},
        "cbva": {"weight": 0},
        "relations": {"weight": 1.0},
    }
)


def model_of(seed: int, kind: type[MultiScale] = BipartiteMatching, settings: MsSl = TINY) -> MultiScale:
    torch.manual_seed(seed)
    model = kind(settings, DIMS).double().train()
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, mean=float("norm" in name and name.endswith("weight")), std=0.4)
    return model


def batch_of(seed: int, captions: tuple[int, ...] = (3, 1, 2)) -> tuple[Videos, Words, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count, videos = sum(captions), len(captions)
    mask = (torch.arange(DIMS.frames) < torch.randint(1, DIMS.frames + 1, (videos, 1), generator=generator)).double()

    def rows(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    words = (torch.arange(TINY.max_words) < torch.randint(1, TINY.max_words + 1, (count, 1), generator=generator)).double()
    frames, nobody = rows(videos, DIMS.frames, DIMS.video_dim) * mask[..., None], torch.zeros(0)
    seen = Videos(frames, rows(videos, DIMS.clips, DIMS.video_dim), nobody, nobody, nobody, mask)
    labels = torch.tensor([i for i, n in enumerate(captions) for _ in range(n)])
    shuffled = torch.randperm(count, generator=generator)
    return seen, Words(rows(count, TINY.max_words, DIMS.text_dim) * words[..., None], words), labels[shuffled]


def terms_of(model: MultiScale, batch: tuple[Videos, Words, Tensor], epoch: int) -> dict[str, Tensor]:
    total = Total(OBJECTIVES)
    total.check(model, teacher=False)
    videos, words, labels = batch
    step = step_of(model, videos, words, labels, None, needs=total.needs, epoch=epoch)
    return {name: value for objective in total.objectives.values() for name, value in objective(step).items()}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_losses_and_gradients_equal_the_literal_form(seed: int) -> None:
    model, batch = model_of(seed), batch_of(seed)
    videos, words, labels = batch
    encoded, query = model.encode_videos(videos), model.encode_queries(words)["pooled"]
    ours = terms_of(model, batch, epoch=3)
    theirs = literal_bgm_net.terms(model, encoded, query, labels, margin=0.2, pool=1)
    assert ours.keys() == WEIGHTS.keys()
    for name, weight in WEIGHTS.items():
        torch.testing.assert_close(ours[name], weight * theirs[name], rtol=1e-9, atol=1e-12)
    parameters = dict(model.named_parameters())
    both = (sum(ours.values()), sum(WEIGHTS[name] * value for name, value in theirs.items()))
    mine, expected = (torch.autograd.grad(total, list(parameters.values()), allow_unused=True) for total in both)
    for name, a, b in zip(parameters, mine, expected, strict=True):
        assert (a is None) == (b is None), name
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10, msg=lambda text, name=name: f"{name}: {text}")


def test_matching_changes_what_best_proposals_would_share() -> None:
    """Two captions that say the same want the same proposal; one of them gets another."""
    model, (videos, words, _) = model_of(3), batch_of(3, captions=(2, 1))
    rows, mask = words.rows.clone(), words.mask.clone()
    rows[1], mask[1] = rows[0], mask[0]
    query, encoded = model.encode_queries(Words(rows, mask)), model.encode_videos(videos)
    labels = torch.tensor([0, 0, 1])
    key = model.matched(query, encoded, labels)
    assert key[0] != key[1]
    model.begin(3)
    matched = model.score(query, encoded, labels)["clip"].cosine
    model.begin(2)
    best = model.score(query, encoded, labels)["clip"].cosine
    assert (matched - best)[:2, 0].min() < -1e-6, "the one that gave way scores lower with its own video"
    torch.testing.assert_close(matched[:, 1], best[:, 1])


def test_before_its_start_epoch_it_is_ms_sl() -> None:
    ours, theirs = model_of(4), model_of(4, MultiScale, MsSl(hidden=8, heads=2, max_words=5, dropout=0.0, input_dropout=0.0))
    batch = batch_of(4)
    before, after = terms_of(ours, batch, epoch=2), terms_of(ours, batch, epoch=3)
    assert before.keys() == after.keys()
    assert before["relations"] == 0
    assert after["relations"] > 0
    labels, encoded, query = batch[2], theirs.encode_videos(batch[0]), theirs.encode_queries(batch[1])
    ours.begin(0)
    torch.testing.assert_close(ours.score(query, encoded, labels), theirs.score(query, encoded, labels), rtol=0, atol=0)
    ours.begin(9)
    torch.testing.assert_close(ours.score(query, encoded), theirs.score(query, encoded), rtol=0, atol=0)


@pytest.mark.parametrize(("video", "text", "clips", "parameters"), [(3072, 768, 32, 4_852_992), (1024, 1024, 48, 3_370_752)])
def test_parameters_are_those_of_ms_sl(video: int, text: int, clips: int, parameters: int) -> None:
    """TVR; ActivityNet and Charades, which have 48 clips."""
    model = BipartiteMatching(Settings(max_words=30), Dims(video, text, clips=clips))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_more_captions_than_proposals() -> None:
    model, batch = model_of(5), batch_of(5, captions=(13, 1))
    query, encoded = model.encode_queries(batch[1]), model.encode_videos(batch[0])
    key = model.matched(query, encoded, batch[2])
    assert len(set(key[batch[2] == 0].tolist())) == 10, "every proposal is taken, three captions keep their best one"
    assert all(value.isfinite() for value in terms_of(model, batch, epoch=3).values())


def test_assignment_beats_every_other_one() -> None:
    values, labels = torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 0, 1, 0, 1])
    queries, parts = assign(values, labels)
    assert queries.tolist() == [1, 3, 0, 2, 4]
    for video, own in ((0, [1, 3]), (1, [0, 2, 4])):
        chosen = [int(parts[queries.tolist().index(q)]) for q in own]
        assert chosen == literal_bgm_net.matching(values[own]), video
    assert assign(values, torch.arange(5), least=2)[0].numel() == 0
    assert assign(torch.full((2, 3), float("nan")), torch.zeros(2, dtype=torch.long))[0].tolist() == [0, 1]


def test_relations_are_zero_where_clips_are_the_queries_turned() -> None:
    query = torch.randn(6, 8, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64)).Q
    assert difference(query, 3 * query @ turn) < 1e-12
    assert difference(query, query.flip(0)) > 0.01


def test_relations_without_matching_are_refused() -> None:
    with pytest.raises(TrainingError, match=r"objectives\.relations compares queries with the clips BGM-Net matches"):
        Total(OBJECTIVES).check(MultiScale(MsSl(hidden=8, heads=2), DIMS), teacher=False)
