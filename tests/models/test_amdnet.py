"""AMDNet against its equations, one row at a time in float64: encoders, scores, every loss and every gradient."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.config.methods import AmdNet as Settings
from pipeline.config.objectives import Objectives
from pipeline.models.amdnet import AmdNet, span_windows
from pipeline.models.base import Dims, Videos, Words, build
from pipeline.objectives.total import Total, step_of
from tests.models import literal

LABELS = [1, 0, 2, 0, 0]
CLIPS = 7
DIMS = Dims(6, 5, frames=9, clips=CLIPS)


def model(seed: int = 0) -> AmdNet:
    """A small one whose weights matter: at initialisation all tokens are nearly alike, and all windows wide."""
    torch.manual_seed(seed)
    made = build("amdnet", Settings(hidden=8, heads=2), DIMS).eval()
    assert isinstance(made, AmdNet)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    torch.nn.init.normal_(made.spans.weight, std=0.2)  # or the equation's own quotient is 0/0 in float64 too
    return made


def inputs() -> dict[str, Any]:
    noise = torch.Generator().manual_seed(1)
    clips, sentences = torch.randn(3, CLIPS, 6, generator=noise), torch.randn(5, 5, generator=noise)
    unread = torch.zeros(3, CLIPS)
    owner = (torch.arange(9) * CLIPS // 9).expand(3, -1)
    videos = Videos(torch.zeros(3, 9, 6), clips, unread, owner, unread.long())
    return {"videos": videos, "words": Words(torch.zeros(5, 1, 5), torch.ones(5, 1), sentences), "labels": torch.tensor(LABELS)}


def window(span: Tensor) -> Tensor:
    """Source: docs/methods.md, AMDNet."""
    centre, width = span
    spread = width.clamp_min(0.01) / 9
    values = torch.stack([(-((j / (CLIPS - 1) - centre) ** 2) / (2 * spread**2)).exp() for j in range(CLIPS)])
    return values / values.max()


def encoded(reference: AmdNet) -> dict[str, list[Any]]:
    """Source: docs/methods.md, AMDNet."""
    given, found = inputs(), {name: [] for name in ("pooled", "clips", "windows", "moments", "summary")}
    found["pooled"] = [literal.projected(row, reference.query) for row in given["words"].sentence.double()]
    for rows in given["videos"].clips.double():
        x = literal.placed([literal.projected(row, reference.projection) for row in rows], reference.positions)
        summary = literal.linear(literal.normalised(sum(x) / CLIPS, reference.norm), reference.summary)
        spans = literal.linear(summary, reference.spans).sigmoid()
        windows = [window(spans[2 * e : 2 * e + 2]) for e in range(2)]
        plain = literal.attended(x, reference.plain)
        windowed = literal.attended(plain, reference.windowed, windows)
        found["summary"].append(summary)
        found["windows"].append(windows)
        found["moments"].append([sum(g * row for g, row in zip(values, x, strict=True)) for values in windows])
        found["clips"].append([(a + b) / 2 for a, b in zip(plain, windowed, strict=True)])
    return found


def best(found: dict[str, list[Any]], similarity: Any) -> list[list[Tensor]]:
    return [[max(similarity(query, token) for token in tokens) for tokens in found["clips"]] for query in found["pooled"]]


def literal_terms(found: dict[str, list[Any]]) -> dict[str, Tensor]:
    """Source: docs/methods.md, AMDNet."""
    diversity = torch.zeros((), dtype=torch.float64)
    for windows in found["windows"]:
        shares = [values / values.sum() for values in windows]
        for i, a in enumerate(shares):
            for j, b in enumerate(shares):
                diversity = diversity + (0.15 * (i == j) - (a * b).sum()) ** 2 / 3
    relevance = torch.zeros((), dtype=torch.float64)
    for query, own in zip(found["pooled"], LABELS, strict=True):
        moment = max(literal.cosine(query, moment) for moment in found["moments"][own])
        relevance = relevance + (0.02 + literal.cosine(query, found["summary"][own]) - moment).clamp_min(0) / 5
    nce = literal.nce(best(found, literal.dot), LABELS)
    return {"nce_clip": 0.04 * nce, "span_diversity": diversity, "span_relevance": 25 * relevance}


OBJECTIVES = Objectives.model_validate(
    {
        "nce": {"clip": 0.04, "frame": 0},
        "triplet": {"weight": 0},
        "tcpl": {"distance": 0, "angle": 0},
        "cbva": {"weight": 0},
        "spans": {"diversity": 1, "relevance": 25},
    }
)


@pytest.mark.parametrize("seed", [0, 4])
def test_terms_and_gradients(seed: int) -> None:
    fast = model(seed)
    reference = copy.deepcopy(fast).double()
    total = Total(OBJECTIVES)
    total.check(fast, teacher=False)
    loss, terms = total(step_of(fast, **inputs(), teacher=None, needs=total.needs))
    expected = literal_terms(encoded(reference))
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value.item(), rel=2e-5), name
    parameters = list(fast.named_parameters())
    ours = torch.autograd.grad(loss, [p for _, p in parameters])
    theirs = torch.autograd.grad(sum(expected.values()), list(reference.parameters()))
    for (name, _), a, b in zip(parameters, ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-4 * b.abs().max() + 2e-6, name


def test_encoders_scores_and_ranking() -> None:
    fast = model()
    found, given = encoded(copy.deepcopy(fast).double()), inputs()
    with torch.no_grad():
        queries, videos = fast.encode_queries(given["words"]), fast.encode_videos(given["videos"])
        scores, gallery = fast.score(queries, videos)["clip"], fast.gallery(videos)
        ranked, located = fast.rank(queries, gallery)["clip"], fast.locate({"pooled": queries["pooled"][:3]}, gallery)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(queries["pooled"].double(), torch.stack(found["pooled"]).detach(), **close)
    for name in ("clips", "windows", "moments"):
        torch.testing.assert_close(videos[name].double(), torch.stack([torch.stack(rows) for rows in found[name]]).detach(), **close)
    torch.testing.assert_close(videos["summary"].double(), torch.stack(found["summary"]).detach(), **close)
    for values, similarity in ((scores.cosine, literal.cosine), (ranked, literal.cosine), (scores.dot, literal.dot)):
        expected = torch.tensor([[value.item() for value in row] for row in best(found, similarity)])
        torch.testing.assert_close(values, expected, **close)
    cosines = torch.tensor([[literal.cosine(q, c).item() for c in found["clips"][v]] for v, q in enumerate(found["pooled"][:3])])
    torch.testing.assert_close(located, cosines[:, [0, 0, 1, 2, 3, 3, 4, 5, 6]], **close)  # nine frames in seven clips


def test_the_narrowest_window_between_two_clips() -> None:
    """Its values before division are all 0 in float32, and the quotient of the equation not a number."""
    span = torch.tensor([[[0.484, 0.0], [0.5, 1.0]]], requires_grad=True)
    windows = span_windows(span, 32)
    windows.square().sum().backward()
    assert span.grad is not None
    assert windows.isfinite().all()
    assert span.grad.isfinite().all()
    assert windows.amax(-1).eq(1).all()
    assert windows[0, 0].argmax() == 15
    assert span_windows(span, 1).eq(1).all()


@pytest.mark.parametrize(
    ("video", "text", "hidden", "count"),
    [
        (512, 512, 384, 1_781_896),
        (512, 512, 256, 893_704),
        (3072, 768, 384, 2_868_872),
        (1024, 1024, 256, 1_157_896),
        (768, 768, 384, 1_979_528),
    ],
)
def test_parameter_counts(video: int, text: int, hidden: int, count: int) -> None:
    made = build("amdnet", Settings(hidden=hidden), Dims(video, text))
    assert sum(p.numel() for p in made.parameters()) == count
