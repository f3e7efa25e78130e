"""GMMFormer and GMMFormer v2: sizes, padding, the second encoding of the queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import literal, literal_gmmformer
from pipeline.config.methods import GmmFormer, GmmFormerV2
from pipeline.config.objectives import Objectives
from pipeline.interchange.released_names import to_released
from pipeline.models import gmmformer
from pipeline.models.base import Dims, Retriever, Videos, Words, build
from pipeline.models.cpu import kernels
from pipeline.objectives.total import Total, step_of
from pipeline.training.arrays import experiment
from tests.conftest import NO_SHARED

SMALL: dict[str, Any] = {"hidden": 8, "heads": 2, "widths": [None, 0.5], "dropout": 0.3, "input_dropout": 0.3, "max_words": 6}
FRAMES, CLIPS, DIM, TEXT = 12, 4, 5, 3
SETTINGS = {"gmmformer": GmmFormer, "gmmformer_v2": GmmFormerV2}
# ResNet152 + I3D and RoBERTa (TVR), I3D and RoBERTa (ActivityNet, Charades), CLIP-L/14, CLIP-B + SlowFast (QVHighlights)
COUNTS = [
    ("gmmformer", 3072, 768, 30, 12_848_256),
    ("gmmformer", 1024, 1024, 30, 11_366_016),
    ("gmmformer", 768, 768, 77, 11_087_616),
    ("gmmformer", 2816, 512, 77, 12_569_856),
    ("gmmformer_v2", 3072, 768, 30, 32_273_440),
    ("gmmformer_v2", 1024, 1024, 30, 30_791_200),
    ("gmmformer_v2", 768, 768, 77, 30_512_800),
    ("gmmformer_v2", 2816, 512, 77, 31_995_040),
]


def small(kind: str, **own: Any) -> Retriever:
    """Weights as large as trained ones: with those it begins with, attention hardly tells one position from another."""
    torch.manual_seed(0)
    model = build(kind, SETTINGS[kind](**SMALL, **own), Dims(DIM, TEXT, FRAMES, CLIPS))
    for value in model.parameters():
        if value.ndim == 2:
            torch.nn.init.normal_(value, std=0.6)
    return model


def some(lengths: list[int], frames: int = FRAMES) -> Videos:
    """Padded videos of these lengths, each of them drawn from its own length."""
    rows, mask = torch.zeros(len(lengths), frames, DIM), torch.zeros(len(lengths), frames)
    clips = torch.zeros(len(lengths), CLIPS, DIM)
    for i, length in enumerate(lengths):
        generator = torch.Generator().manual_seed(length)
        rows[i, :length], mask[i, :length] = torch.randn(length, DIM, generator=generator), 1
        clips[i] = torch.randn(CLIPS, DIM, generator=generator)
    empty = torch.zeros(0)
    return Videos(rows, clips, empty, empty, empty, mask)


@pytest.mark.parametrize(("kind", "video", "text", "words", "parameters"), COUNTS)
def test_parameter_counts(kind: str, video: int, text: int, words: int, parameters: int) -> None:
    with torch.device("meta"):
        model = build(kind, SETTINGS[kind](max_words=words), Dims(video, text))
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_parameter_has_the_released_name_and_shape(kind: str, root: Path) -> None:
    file = root.parent / "shared" / "golden_methods" / "params.json"
    if not file.is_file():
        pytest.skip(f"{NO_SHARED}/golden_methods")
    released = json.loads(file.read_text())[kind]
    with torch.device("meta"):
        model = build(kind, SETTINGS[kind](max_words=30), Dims(3072, 768))
    ours = to_released(dict(model.named_parameters()), len(model.settings.widths), kind)
    assert {name: list(value.shape) for name, value in ours.items()} == released["shapes_tvr"]
    known = {(size["visual"], size["text"], size["max_words"]): size["total"] for size in released["sizes"].values()}
    assert all(known[video, text, words] == count for name, video, text, words, count in COUNTS if name == kind)


NCE = {"nce": {"clip": 0.5, "frame": 0.4}, "triplet": {"margin": 0.2, "hard_pool": 1}, "tcpl": {"distance": 0, "angle": 0}}
TERMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # our settings, and the literal form's
    "gmmformer": ({"query_diversity": {"weight": 0.3, "delta": 0.1, "alpha": 8}}, {"diversity": (0.3, 0.1, 8.0)}),
    "gmmformer_v2": (
        {
            "query_diversity": {"weight": 0.3, "delta": 0.1, "alpha": 8, "form": "pair", "focus": 1.5},
            "optimal_matching": {"weight": 0.7},
        },
        {"diversity": (0.3, 0.1, 8.0, 1.5), "match": 0.7},
    ),
}


def exact(kind: str, monkeypatch: pytest.MonkeyPatch) -> Retriever:
    """A model in float64, its windows too."""
    model = small(kind, **({"padding": "longest"} if kind == "gmmformer" else {})).double().eval()
    monkeypatch.setattr(gmmformer, "gaussian_window", lambda n, w: torch.ones(n, n) if w is None else literal.gaussian_window(n, w))
    for branch, length in ((model.frame, FRAMES), (model.clip, CLIPS)):
        if kind == "gmmformer":
            branch.full = gmmformer._windows(length, [0.5, 0.5])
        else:
            branch.block.windows[1] = literal.gaussian_window(length, 0.5)
    return model


@pytest.mark.parametrize("form", ["hand-written", "plain"])
@pytest.mark.parametrize("kind", SETTINGS)
def test_losses_and_gradients_equal_the_literal_form(kind: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a clone without ../shared proves. Captions: 4, 1, and 6, which is more than there are clips."""
    if form == "plain":
        monkeypatch.setattr(kernels, "fast", lambda _: False)
    model, (ours, theirs) = exact(kind, monkeypatch), TERMS[kind]
    videos, length = some([3, 11, 7]), 11 if kind == "gmmformer" else FRAMES
    videos = videos._replace(**{name: getattr(videos, name).double() for name in ("frames", "clips", "mask")})
    labels = torch.tensor([0] * 4 + [1] + [2] * 6)
    mask = (torch.arange(5) < torch.tensor([5, 2, 1, 3, 4, 5, 2, 1, 3, 4, 5])[:, None]).double()
    words = Words(torch.randn(len(labels), 5, TEXT).double() * mask[..., None], mask)
    batch = {"frames": videos.frames[:, :length], "frame_mask": videos.real[:, :length], "clips": videos.clips, "labels": labels}
    batch |= {"words": words.rows, "word_mask": mask}
    total = Total(Objectives.model_validate({**NCE, "cbva": {"weight": 0}, **ours}))
    step = step_of(model, videos, words, labels, None, needs=total.needs, epoch=100)
    terms = {name: value for objective in total.objectives.values() for name, value in objective(step).items()}
    expected = literal_gmmformer.loss(model, batch, margin=0.2, hard=True, pool=1, nce=(0.5, 0.4), **theirs)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-9, atol=1e-12)
    parameters = dict(model.named_parameters())
    mine, their = (torch.autograd.grad(sum(part.values()), list(parameters.values()), allow_unused=True) for part in (terms, expected))
    largest = max(gradient.abs().max().item() for gradient in their)
    for name, value, other in zip(parameters, mine, their, strict=True):
        if value is None:
            assert name.endswith("consolidation.attention.key.bias")  # of which nothing is left
        else:
            torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-9 * largest, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_video_does_not_depend_on_its_neighbours_or_on_what_lies_in_its_padding(kind: str) -> None:
    model = small(kind).eval()
    together, alone = model.encode_videos(some([3, 7, 12])), model.encode_videos(some([3]))
    noisy = some([3, 7, 12])
    other = model.encode_videos(noisy._replace(frames=noisy.frames + 50 * (1 - noisy.real[..., None])))
    for name, value in together.items():
        torch.testing.assert_close(value[:1], alone[name])
        torch.testing.assert_close(value, other[name])
        assert name not in ("frames", "mask") or not value[0, 3:].any()


def test_padded_to_the_longest_a_vector_is_the_batches() -> None:
    model = small("gmmformer", padding="longest").eval()
    vectors = [model.encode_videos(some(lengths))["vector"][0] for lengths in ([3, 7], [3, 7, 1], [3, 12], [3])]
    torch.testing.assert_close(vectors[0], vectors[1])
    assert (vectors[0] - vectors[2]).abs().max() > 1e-4
    assert (vectors[0] - vectors[3]).abs().max() > 1e-4
    full = small("gmmformer").eval().encode_videos(some([3, 12]))["vector"][0]
    torch.testing.assert_close(vectors[2], full)  # where one video is as long as can be, both are the same
    tokens = model.encode_videos(some([3, 7]))["frames"]
    assert tokens.shape == (2, FRAMES, 8)


def test_a_short_videos_best_frame_is_never_below_zero() -> None:
    model = small("gmmformer_v2").eval()
    videos = model.encode_videos(some([3, 12]))
    away = {"pooled": -torch.nn.functional.normalize(videos["frames"][:, :3], dim=-1).sum((0, 1))[None]}
    for scores in (model.score(away, videos)["frame"].cosine, model.rank(away, model.gallery(videos))["frame"]):
        assert scores[0, 0] == 0
        assert scores[0, 1] != 0


@pytest.mark.parametrize("kind", SETTINGS)
def test_queries_are_encoded_twice_in_training_only(kind: str) -> None:
    words = Words(torch.randn(4, 5, TEXT), torch.ones(4, 5))
    model = small(kind)
    trained = model.train().encode_queries(words)
    assert set(trained) == {"pooled", "pooled_again"}
    assert (trained["pooled"] - trained["pooled_again"]).abs().max() > 1e-3
    assert set(model.eval().encode_queries(words)) == {"pooled"}
    assert set(small(kind, second_pass=False).train().encode_queries(words)) == {"pooled"}


@pytest.mark.parametrize("kind", SETTINGS)
def test_the_variant_decides_about_the_second_pass(kind: str) -> None:
    found = {variant: experiment(variant=variant, model={"kind": kind}).model.second_pass for variant in ("released", "paper")}
    assert found == {"released": True, "paper": False}
    assert experiment(variant="paper", model={"kind": kind, "second_pass": True}).model.second_pass


def test_recomputed_activations_give_the_same_gradients() -> None:
    found = []
    for wanted in (False, True):
        model = small("gmmformer").train()
        model.recompute(wanted)
        torch.manual_seed(1)
        videos = model.encode_videos(some([3, 12]))
        (videos["vector"].square().sum() + videos["clips"].square().sum()).backward()
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


@pytest.mark.parametrize("kind", SETTINGS)
def test_bfloat16_computes_the_same_to_its_precision(kind: str) -> None:
    model, videos = small(kind).eval(), some([3, 12])
    exact = model.encode_videos(videos)
    with torch.autocast("cpu", torch.bfloat16):
        near = model.encode_videos(videos)

    def apart(name: str) -> Tensor:
        return (near[name].float() - exact[name]).norm() / exact[name].norm()

    assert max(apart(name) for name in exact) < 0.03
