"""DL-DKD and DL-DKD++ against their equations, one row at a time in float64: encoders, scores, every loss and every gradient."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config.methods import DlDkd as Settings
from pipeline.config.objectives import Objectives
from pipeline.models.base import Dims, Videos, Words, build
from pipeline.models.dl_dkd import ENTRIES, DlDkd
from pipeline.models.scores import max_cosine, max_similarity
from pipeline.objectives.total import Total, step_of
from tests.models import literal

COUNTS = [6, 1, 4]  # frames of the videos, of at most 6
LABELS = [1, 0, 2, 0, 0, 2, 0]  # not sorted, and not as many captions each
WORDS = [3, 1, 5, 2, 4, 5, 2]
EPOCH = 37
DIMS = Dims(6, 5, frames=6, clips=2)


def model(seed: int = 0, **over: Any) -> DlDkd:
    """A small one whose weights matter: at initialisation all tokens are nearly alike."""
    torch.manual_seed(seed)
    settings = Settings(**{"hidden": 8, "heads": 2, "max_words": 5, **over})
    made = build("dl_dkd", settings, DIMS).eval()
    assert isinstance(made, DlDkd)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return made


def inputs() -> dict[str, Any]:
    noise = torch.Generator().manual_seed(1)
    mask = (torch.arange(6) < torch.tensor(COUNTS)[:, None]).float()
    word_mask = (torch.arange(5) < torch.tensor(WORDS)[:, None]).float()
    frames, words = torch.randn(3, 6, 6, generator=noise), torch.randn(7, 5, 5, generator=noise)
    seen, sentences = 2 * torch.randn(3, 6, 4, generator=noise), 2 * torch.randn(7, 4, generator=noise)
    unread = torch.zeros(3, 2)
    videos = Videos(frames * mask[..., None], torch.zeros(3, 2, 6), unread, torch.zeros(3, 6).long(), unread.long(), mask)
    return {
        "videos": videos,
        "words": Words(words * word_mask[..., None], word_mask),
        "labels": torch.tensor(LABELS),
        "teacher": None,
        "teacher_frames": seen * mask[..., None],
        "teacher_sentences": sentences,
    }


def encoded(reference: DlDkd) -> tuple[dict[str, list[Tensor]], dict[str, list[list[Tensor]]]]:
    """branch -> its query vectors; branch -> its frame tokens, real ones only. Source: docs/methods.md, DL-DKD."""
    given = inputs()
    queries: dict[str, list[Tensor]] = {}
    videos: dict[str, list[list[Tensor]]] = {}
    for branch in reference.branches:
        words = reference.words[branch if reference.settings.plus_plus else "inheritance"]
        query, frame = reference.query[branch], reference.frame[branch]
        queries[branch], videos[branch] = [], []
        for rows, count in zip(given["words"].rows.double(), WORDS, strict=True):
            placed = literal.placed([literal.projected(row, words) for row in rows[:count]], query.positions)
            queries[branch].append(literal.pooled(literal.attended(placed, query.layer), query.pooling))
        for rows, count in zip(given["videos"].frames.double(), COUNTS, strict=True):
            placed = literal.placed([literal.projected(row, frame.projection) for row in rows[:count]], frame.positions)
            videos[branch].append([literal.linear(row, frame.output) for row in literal.attended(placed, frame.layer)])
    return queries, videos


def best(queries: list[Tensor], videos: list[list[Tensor]], similarity: Any) -> list[list[Tensor]]:
    return [[max(similarity(query, token) for token in tokens) for tokens in videos] for query in queries]


def matrix(rows: list[list[Tensor]]) -> Tensor:
    return torch.tensor([[value.item() for value in row] for row in rows])


def shares(values: list[Tensor]) -> list[Tensor]:
    total = sum(value.exp() for value in values)
    return [value.exp() / total for value in values]


def divergence(queries: list[Tensor], videos: list[list[Tensor]]) -> Tensor:
    """Sum over queries of KL(teacher || student) over the frames of the query's video. Source: docs/methods.md, DL-DKD."""
    given, total = inputs(), torch.zeros((), dtype=torch.float64)
    for query, sentence, own in zip(queries, given["teacher_sentences"].double(), LABELS, strict=True):
        seen = given["teacher_frames"].double()[own, : COUNTS[own]]
        teacher = shares([literal.cosine(sentence, frame) / 0.2 for frame in seen])
        student = shares([literal.cosine(query, token) / 0.2 for token in videos[own]])
        total = total + sum(p * (p / r).log() for p, r in zip(teacher, student, strict=True))
    return total


def softened(scores: list[list[Tensor]], reference: list[list[Tensor]], alpha: float, beta: float) -> Tensor:
    """NCE* of DL-DKD++ on a batch sorted by the number of captions. Source: docs/methods.md, DL-DKD."""
    order = sorted(range(3), key=lambda video: -LABELS.count(video))
    asked = [q for video in order for q in range(7) if LABELS[q] == video]
    hard_queries, hard_videos = asked[: math.floor(alpha * 7)], order[: math.floor(alpha * 3)]
    a, b = {}, {}
    for q in range(7):
        target = [float(LABELS[q] == v) for v in range(3)]
        if q not in hard_queries:
            target = [(1 - beta) * soft + beta * hard for soft, hard in zip(shares(reference[q]), target, strict=True)]
        a[q] = literal.logsumexp(scores[q]) - sum(y * s for y, s in zip(target, scores[q], strict=True))
    for v in range(3):
        column, target = [scores[q][v] for q in range(7)], [torch.tensor(float(own == v)).double() for own in LABELS]
        if v not in hard_videos:
            soft = shares([reference[q][v] for q in range(7)])
            target = [(1 - beta) * s + beta * hard for s, hard in zip(soft, target, strict=True)]
        b[v] = literal.logsumexp(column) - literal.logsumexp([(z + 1e-12).log() + s for z, s in zip(target, column, strict=True)])

    def mean(values: dict, chosen: list) -> Tensor | float:
        return sum(values[i] for i in chosen) / len(chosen) if chosen else 0.0

    rest = [q for q in range(7) if q not in hard_queries], [v for v in range(3) if v not in hard_videos]
    return alpha * (mean(a, hard_queries) + mean(b, hard_videos)) + (1 - alpha) * (mean(a, rest[0]) + mean(b, rest[1]))


def objectives(plus_plus: bool) -> Objectives:
    weights = {"inheritance": 0.04, "exploration": 0.04}
    off = {"clip": 0, "frame": 0}
    return Objectives.model_validate(
        {
            "nce": off if plus_plus else off | weights,
            "soft_nce": weights if plus_plus else {},
            "triplet": {"margin": 0.1, "hard_start_epoch": 0, "hard_pool": 1},
            "distillation": {"weight": 0.1},
            "tcpl": {"distance": 0, "angle": 0},
            "cbva": {"weight": 0},
        }
    )


def literal_terms(reference: DlDkd, epoch: int) -> dict[str, Tensor]:
    queries, videos = encoded(reference)
    terms = {}
    s = 800 / (800 + math.exp(epoch / 8))
    alpha, beta = 0.8 * s, max(0.8 * s, 0.5)
    given = inputs()
    seen = [list(frames[:count]) for frames, count in zip(given["teacher_frames"].double(), COUNTS, strict=True)]
    for branch in reference.branches:
        dots = best(queries[branch], videos[branch], literal.dot)
        terms[f"triplet_{branch}"] = literal.triplet(best(queries[branch], videos[branch], literal.cosine), LABELS, 0.1)
        if reference.settings.plus_plus:
            taught = best(list(given["teacher_sentences"].double()), seen, literal.dot) if branch == "inheritance" else dots
            terms[f"soft_nce_{branch}"] = 0.04 * softened(dots, taught, alpha, beta)
        else:
            terms[f"nce_{branch}"] = 0.04 * literal.nce(dots, LABELS)
    terms["distillation"] = 0.1 * 0.95**epoch * divergence(queries["inheritance"], videos["inheritance"])
    return terms


@pytest.mark.parametrize("plus_plus", [True, False])
@pytest.mark.parametrize("epoch", [0, EPOCH])
def test_terms_and_gradients(plus_plus: bool, epoch: int) -> None:
    fast = model(plus_plus=plus_plus)
    reference = copy.deepcopy(fast).double()
    total = Total(objectives(plus_plus))
    total.check(fast, teacher=False, teacher_frames=True)
    loss, terms = total(step_of(fast, **inputs(), needs=total.needs, epoch=epoch))
    expected = literal_terms(reference, epoch)
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=2e-5), name
    parameters = list(fast.named_parameters())
    ours = torch.autograd.grad(loss, [p for _, p in parameters])
    theirs = torch.autograd.grad(sum(expected.values()), list(reference.parameters()), allow_unused=True, materialize_grads=True)
    for (name, _), a, b in zip(parameters, ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max() + 2e-6, name


def test_encoders_scores_and_ranking() -> None:
    fast = model()
    queries, videos = encoded(copy.deepcopy(fast).double())
    given = inputs()
    with torch.no_grad():
        encoded_queries, encoded_videos = fast.encode_queries(given["words"]), fast.encode_videos(given["videos"])
        scores = fast.score(encoded_queries, encoded_videos)
        ranked = fast.rank(encoded_queries, fast.gallery(encoded_videos))
    for branch, (vector, tokens) in ENTRIES.items():
        close = {"rtol": 1e-5, "atol": 1e-5}
        torch.testing.assert_close(encoded_queries[vector].double(), torch.stack(queries[branch]).detach(), **close)
        for made, rows in zip(encoded_videos[tokens].double(), videos[branch], strict=True):
            torch.testing.assert_close(made[: len(rows)], torch.stack(rows).detach(), **close)
        cosines, dots = (matrix(best(queries[branch], videos[branch], kind)) for kind in (literal.cosine, literal.dot))
        torch.testing.assert_close(scores[branch].cosine, cosines, **close)
        torch.testing.assert_close(ranked[branch], cosines, **close)
        torch.testing.assert_close(scores[branch].dot, dots, **close)


def test_padding_changes_nothing() -> None:
    """A video's tokens and scores do not depend on what its padding holds, nor does any gradient."""
    fast, given = model(), inputs()
    total = Total(objectives(True))
    results = []
    for fill in (0.0, 50.0):
        padded = given["videos"].frames.masked_fill(given["videos"].mask[..., None] == 0, fill)
        seen = given["teacher_frames"].masked_fill(given["videos"].mask[..., None] == 0, fill)
        changed = given | {"videos": given["videos"]._replace(frames=padded), "teacher_frames": seen}
        loss, _ = total(step_of(fast, **changed, epoch=EPOCH))
        results.append((loss, torch.autograd.grad(loss, list(fast.parameters()))))
    assert results[0][0] == results[1][0]
    for a, b in zip(results[0][1], results[1][1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_padding_is_no_floor() -> None:
    """A video whose frames all point away scores below 0, however near its padding lies; nothing of that padding is learnt from."""
    query = torch.tensor([[1.0, 2.0]], requires_grad=True)
    tokens = torch.tensor([[[-2.0, -4.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 2.0]]], requires_grad=True)
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    cosine, dot = max_similarity(query, tokens, mask)
    assert (cosine.item(), dot.item()) == (pytest.approx(-1 / math.sqrt(5)), -1.0)
    assert max_cosine(query, torch.nn.functional.normalize(tokens, dim=-1), mask).item() == pytest.approx(-1 / math.sqrt(5))
    (cosine + dot).sum().backward()
    assert tokens.grad is not None
    assert tokens.grad.isfinite().all()
    assert tokens.grad[0, [0, 2, 3]].eq(0).all()


@pytest.mark.parametrize(("video", "text", "count"), [(3072, 768, 5_755_392), (1024, 1024, 4_371_968)])
def test_parameter_counts(video: int, text: int, count: int) -> None:
    """As the document gives them for 30 words; DL-DKD's include the second projection of the words, which it never calls."""
    dims = Dims(video, text)
    for plus_plus in (True, False):
        made = build("dl_dkd", Settings(max_words=30, plus_plus=plus_plus), dims)
        dead = 0 if plus_plus else 2 * text + text * 384 + 384
        assert sum(p.numel() for p in made.parameters()) == count - dead
