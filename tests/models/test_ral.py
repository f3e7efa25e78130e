"""RAL on each of its bases: what it asks of them, what it adds, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from benchmarks import literal, literal_ral
from pipeline.config.models import Ral as Settings
from pipeline.config.objectives import Objectives
from pipeline.config.schema import Config
from pipeline.core.errors import BundleError, ConfigError, TrainingError
from pipeline.core.store import create
from pipeline.interchange.checkpoints import build as released
from pipeline.jobs import checks
from pipeline.jobs.collection import Collection
from pipeline.models.base import Dims, Retriever, Videos, Words, build
from pipeline.models.cpu import kernels
from pipeline.models.distributions import LIMIT, GaussianHead, of_queries
from pipeline.objectives import ral as objective
from pipeline.objectives.ral import alignment, proxy_matching, sample_mean
from pipeline.objectives.total import Total, step_of
from pipeline.ranking import gallery
from pipeline.training.arrays import Arrays, experiment, train
from pipeline.training.cost import at_inference

BASES = ("gmmformer_v2", "gmmformer", "ms_sl", "msc")
SIZES: dict[str, Any] = {"hidden": 8, "heads": 2, "max_words": 6, "widths": [None, 0.5], "dropout": 0.0, "input_dropout": 0.0}


def sizes(base: str) -> dict[str, Any]:
    return {"kind": base, **{name: value for name, value in SIZES.items() if (name, base) != ("widths", "ms_sl")}}


def model(base: str) -> Retriever:
    torch.manual_seed(0)
    made = build("ral", Settings.model_validate({"base": sizes(base)}), Dims(5, 4))
    for parameter in made.parameters():
        parameter.data.mul_(10)
    return made


def batch(videos: int = 3) -> tuple[Videos, Words, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    mask = (torch.arange(128) < torch.tensor([128, 40, 1])[:videos, None]).float()
    frames = F.normalize(torch.randn(videos, 128, 5, generator=random), dim=-1) * mask[..., None]
    clips = F.normalize(torch.randn(videos, 32, 5, generator=random), dim=-1)
    empty = torch.zeros(videos, 32)
    words = (torch.arange(6) < torch.tensor([6, 1, 4, 2])[:, None]).float()
    rows = F.normalize(torch.randn(4, 6, 4, generator=random), dim=-1) * words[..., None]
    return Videos(frames, clips, torch.full((videos, 32), 4.0), empty, empty, mask), Words(rows, words), torch.tensor([0, 0, 1, 2])


@pytest.mark.parametrize("base", BASES)
def test_ranking_is_the_training_score(base: str) -> None:
    made, (videos, words, _) = model(base), batch()
    encoded, queries = made.encode_videos(videos), made.encode_queries(words)
    scores = made.score(queries, encoded)
    assert tuple(scores) == made.branches == ("clip", "frame")
    found = gallery.score(made, gallery.encode_queries(made, [words]), gallery.encode_videos(made, [videos]), {"clip": 0.5, "frame": 0.5})
    for branch, values in found.branches.items():
        torch.testing.assert_close(values, scores[branch].cosine.detach(), rtol=1e-5, atol=1e-6)
    assert {"query.pooled", "query.words", "video.frames", "video.clips", "video.mask"} <= made.provides


@pytest.mark.parametrize("base", BASES)
def test_the_frame_score_is_the_sum_over_words(base: str) -> None:
    """Each word's best frame by cosine, weighed by its gate, which sees unit words; padded frames count 0."""
    made, (videos, words, _) = model(base), batch()
    with torch.no_grad():
        encoded, queries = made.encode_videos(videos), made.encode_queries(words)
        cosine = made.score(queries, encoded)["frame"].cosine
        for q, length in enumerate(words.mask.sum(1).int().tolist()):
            unit = F.normalize(queries["words"][q, :length], dim=-1)
            gate = made.gate.contract(made.gate.expand(unit).relu()).flatten().softmax(0)
            for v in range(3):
                real = int(videos.mask[v].sum()) if videos.mask is not None else 128
                best = (unit @ F.normalize(encoded["frames"][v, :real], dim=-1).T).amax(1)
                best = best if real == 128 else best.clamp_min(0)
                torch.testing.assert_close(cosine[q, v], (gate * best).sum(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("base", BASES)
def test_the_moment_is_where_the_confident_words_are(base: str) -> None:
    made, (videos, words, _) = model(base), batch()
    kept, asked = gallery.encode_videos(made, [videos]), gallery.encode_queries(made, [words])
    where = gallery.locate(made, asked, kept, torch.tensor([0, 1, 0, 2]), torch.tensor([128, 40, 1]))
    assert where.shape == (4, 128)
    summed = torch.einsum("ql,qlh->qh", asked["gate"], asked["words"])
    torch.testing.assert_close(where[0], kept["frames"][0] @ summed[0], rtol=1e-4, atol=1e-6)
    assert where[1, 40:].isneginf().all()
    assert "mask" not in kept  # search keeps no more than it reads


def test_what_ranking_reads_is_all_but_the_heads_and_the_score_that_was_replaced() -> None:
    made, (videos, words, _) = model("gmmformer"), batch()
    unread = sum(value.numel() for name, value in made.named_parameters() if name.startswith(("heads.", "base.pooling.")))
    assert at_inference(made, videos, words) == sum(value.numel() for value in made.parameters()) - unread


@pytest.mark.parametrize("form", ["hand-written", "plain"])
def test_losses_and_gradients_equal_the_literal_form(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a clone without ../shared proves, in float64. One video has one query, one is padded, one has a single frame."""
    if form == "plain":
        monkeypatch.setattr(kernels, "fast", lambda _: False)
    made, (videos, words, labels) = model("gmmformer_v2").double().eval(), batch()
    for branch, length in ((made.base.frame, 128), (made.base.clip, 32)):
        branch.block.windows[1] = literal.gaussian_window(length, 0.5)
    videos = videos._replace(**{name: getattr(videos, name).double() for name in ("frames", "clips", "mask")})
    words = Words(words.rows.double(), words.mask.double())
    noise = {side: torch.randn(3, 6, 8, dtype=torch.float64) for side in ("text", "video")}
    drawn = iter(noise.values())
    monkeypatch.setattr(objective.Distributions, "noise", lambda *_: next(drawn))
    given = {"frames": videos.frames, "frame_mask": videos.mask, "clips": videos.clips, "labels": labels}
    given |= {"words": words.rows, "word_mask": words.mask}
    expected = literal_ral.loss(
        made,
        given,
        noise,
        margin=0.2,
        hard=True,
        pool=1,
        nce=(0.5, 0.4),
        diversity=(0.3, 0.1, 8.0, 1.5),
        match=0.7,
        distribution=(0.6, 0.8),
    )
    settings = {
        "nce": {"clip": 0.5, "frame": 0.4},
        "triplet": {"margin": 0.2, "hard_pool": 1},
        "tcpl": {"distance": 0, "angle": 0},
        "cbva": {"weight": 0},
        "query_diversity": {"weight": 0.3, "delta": 0.1, "alpha": 8, "form": "pair", "focus": 1.5},
        "optimal_matching": {"weight": 0.7},
        "ral": {"proxy_matching": 0.6, "distribution_alignment": 0.8},
    }
    total = Total(Objectives.model_validate(settings))
    step = step_of(made, videos, words, labels, None, needs=total.needs, epoch=100)
    terms = {name: value for each in total.objectives.values() for name, value in each(step).items()}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-9, atol=1e-12)
    parameters = dict(made.named_parameters())
    mine, their = (torch.autograd.grad(sum(part.values()), list(parameters.values()), allow_unused=True) for part in (terms, expected))
    largest = max(gradient.abs().max().item() for gradient in their)
    for name, value, other in zip(parameters, mine, their, strict=True):
        if value is None:
            assert name.endswith("consolidation.attention.key.bias")  # of which nothing is left
        else:
            torch.testing.assert_close(value, other, rtol=1e-6, atol=1e-9 * largest, msg=lambda text, n=name: f"{n}: {text}")


def test_padding_changes_no_score() -> None:
    made, (videos, words, _) = model("gmmformer_v2"), batch()
    with torch.no_grad():
        short = made.score(made.encode_queries(words), made.encode_videos(videos))["frame"]
        longer = Words(F.pad(words.rows, (0, 0, 0, 0)), words.mask)
        other = videos._replace(frames=videos.frames + 5 * (1 - videos.real)[..., None])
        again = made.score(made.encode_queries(longer), made.encode_videos(other))["frame"]
    torch.testing.assert_close(short.cosine, again.cosine)
    torch.testing.assert_close(short.dot, again.dot)


@pytest.mark.parametrize("base", BASES)
def test_all_it_adds_learns_and_the_same_seed_gives_the_same_weights(base: str) -> None:
    arrays = Arrays(
        {f"v{i}": np.random.default_rng(i).normal(size=(20 + 60 * i, 5)).astype(np.float32) for i in range(3)},
        [(f"v{i % 3}", np.random.default_rng(9 + i).normal(size=(1 + i % 6, 4)).astype(np.float32)) for i in range(7)],
    )
    off = {} if base == "msc" else {"tcpl": {"distance": 0, "angle": 0}, "cbva": {"weight": 0}}
    clips = {} if base == "msc" else {"frame_rows": "capped", "method": "rows"}
    small = {"epochs": 2, "learning_rate": 1e-2, "warmup": 0.0, "batch_videos": 2}
    settings = experiment(model={"kind": "ral", "base": sizes(base)}, objectives=off, clips=clips, training=small)
    found = train(arrays, arrays, settings, say=lambda _: None)
    torch.manual_seed(9527)
    before = dict(build("ral", settings.model, found.model.dims).named_parameters())
    still = {name for name, value in found.model.named_parameters() if torch.equal(value, before[name])}
    # A softmax does not feel what is added to all its logits.
    assert {n for n in still if not n.startswith("base.")} <= {"gate.contract.bias", "words.layer.attention.key.bias"}
    assert ("base.pooling.linear.weight" in still) == (base == "gmmformer")
    assert {"ral_proxy_matching", "ral_alignment"} <= found.history[0].keys()
    again = train(arrays, arrays, settings, say=lambda _: None)
    assert all(torch.equal(value, dict(again.model.named_parameters())[name]) for name, value in found.model.named_parameters())


@pytest.mark.parametrize("switch", [{"support": "words"}, {"divergence": "exact"}, {"proxies": 2}, {"buffer": 3}])
def test_switches_change_the_objective(switch: dict[str, Any]) -> None:
    made, (videos, words, labels) = model("gmmformer_v2"), batch()
    found = []
    for chosen in ({}, switch):
        total = Total(Objectives.model_validate({"ral": {"proxy_matching": 1.0, "distribution_alignment": 1.0, **chosen}}))
        torch.manual_seed(3)
        step = step_of(made, videos, words, labels, words.rows[:, 0], needs=(), generator=torch.Generator().manual_seed(2))
        found.append(total.objectives["ral"](step))
    assert found[0].keys() == found[1].keys()
    assert any((found[0][name] - found[1][name]).abs() > 1e-6 for name in found[0])
    assert all(value.isfinite() for value in found[1].values())


def test_spreads_far_out_do_not_overflow() -> None:
    head, rows = GaussianHead(8), torch.randn(3, 4, 8)
    head.spread_whole.weight.data.mul_(1e5)
    whole, tokens = of_queries(rows, torch.ones(3, 4), torch.arange(3), 3, 26)
    found = head(whole, tokens, False)
    assert found.log_sigma.abs().max() == LIMIT
    samples = found.proxies(torch.randn(3, 6, 8))
    loss = proxy_matching(samples, samples.flip(0)) + alignment(sample_mean(samples, found), found)
    loss.backward()
    assert loss.isfinite()
    gradients = [parameter.grad for parameter in head.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert head.spread_whole.bias.grad.abs().max() > 0  # what brings the spread back


def test_the_heads_belong_to_rals_model_alone() -> None:
    arrays = Arrays({"a": np.ones((9, 5), np.float32), "b": np.zeros((3, 5), np.float32)}, [("a", np.ones((2, 4), np.float32))])
    objectives = {"ral": {"proxy_matching": 0.1}, "tcpl": {"distance": 0, "angle": 0}}
    settings = experiment(model={"kind": "msc", **SIZES}, objectives=objectives)
    with pytest.raises(TrainingError, match="ral needs query"):
        train(arrays, arrays, settings)


def test_sentence_vectors_are_refused_before_the_first_step() -> None:
    queries = [("a", np.ones((1, 4), np.float32)), ("b", np.zeros((1, 4), np.float32))]
    arrays = Arrays({"a": np.ones((9, 5), np.float32), "b": np.zeros((3, 5), np.float32)}, queries)
    settings = experiment(model={"kind": "ral", "base": {"kind": "msc", **SIZES}})
    with pytest.raises(TrainingError, match="every query is one vector, and a model of kind ral reads words"):
        train(arrays, arrays, settings)


def configuration(folder: Path, **values: Any) -> Config:
    given = {
        "results": str(folder),
        "dataset": {"name": "tiny", "kind": "bundle"},
        "encoders": {"sentences": {"kind": "imported"}},
        "features": ["sentences"],
        "text": "sentences",
        "model": {"kind": "ral", "hidden": 16, "base": {"widths": [None, 0.5]}},
    }
    return Config.model_validate({**given, **values})


@pytest.mark.parametrize("words", [1, 3])
def test_imported_sentence_vectors_are_refused_before_any_job(words: int, tmp_path: Path) -> None:
    config = configuration(tmp_path, experiments={"main": {}, "other": {"model": {"kind": "msc"}}})
    with create(config.layout.text("sentences"), stage="text", encoder="sentences", architecture="published:msc") as writer:
        for i in range(4):
            rows = np.zeros((words if i == 2 else 1, 4), np.float16)
            writer.append("tokens", f"q{i}", rows, None, {"sentence": rows[0], "truncated": False, "key": str(i)})
    collection = Collection.of(config)
    checks.words(collection, "other")
    if words > 1:
        checks.words(collection, "main")
        return
    with pytest.raises(ConfigError, match="sentences has one vector a query, and a model of kind ral reads words"):
        checks.words(collection, "main")


def test_sizes_stand_here_or_in_the_base() -> None:
    assert Settings(hidden=32).base.hidden == 32
    assert Settings.model_validate({"base": {"hidden": 16}}).hidden == 16
    assert Settings.model_validate(Settings.model_validate({"base": {"kind": "msc", "hidden": 16}}).model_dump()).base.kind == "msc"
    with pytest.raises(ValidationError, match="hidden is 32 here and 16 in base"):
        Settings.model_validate({"hidden": 32, "base": {"hidden": 16}})
    with pytest.raises(ValidationError, match="'gmmformer_v2', 'gmmformer', 'ms_sl', 'msc'"):
        Settings.model_validate({"base": {"kind": "ral"}})


def test_overrides_of_a_plugged_model(tmp_path: Path) -> None:
    over = {"main": {}, "small": {"model": {"hidden": 8}}, "other": {"model": {"base": {"kind": "gmmformer"}}}}
    over |= {"paper": {"variant": "paper"}, "narrow": {"model": {"base": {"widths": [1.0]}}}}
    config = configuration(tmp_path, experiments=over)
    made = {name: config.experiment(name) for name in over}
    assert {name: (e.model.hidden, e.model.base.hidden) for name, e in made.items()} == {
        "main": (16, 16), "small": (8, 8), "other": (16, 16), "paper": (16, 16), "narrow": (16, 16)
    }  # fmt: skip
    assert made["other"].model.base.widths == [None, 0.5, 1.0, 5.0]  # another base starts from its own defaults
    assert made["narrow"].model.base.widths == [1.0]
    assert (made["main"].model.base.second_pass, made["paper"].model.base.second_pass) == (True, False)
    assert made["main"].objectives.ral.model_dump(include={"support", "divergence", "distribution_alignment"}) == {
        "support": "buffer", "divergence": "mixed", "distribution_alignment": 2.5e-4
    }  # fmt: skip
    assert made["paper"].objectives.ral.model_dump(include={"support", "divergence", "distribution_alignment"}) == {
        "support": "words", "divergence": "exact", "distribution_alignment": 1e-3
    }  # fmt: skip
    assert made["other"].model_code == ("pipeline.models.ral", "pipeline.models.gmmformer")


def test_released_checkpoints_are_of_gmmformer_v2_alone(tmp_path: Path) -> None:
    config = configuration(tmp_path, model={"kind": "ral", "base": {"kind": "msc"}})
    with pytest.raises(BundleError, match=r"ral on msc; released checkpoints are known of .*, of ral on gmmformer_v2"):
        released({}, config.experiment("main"), "best.ckpt")


def counts(shared: Path) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads((shared / "golden_methods" / "ral" / "params.json").read_text())
    return found


@pytest.mark.parametrize("data", ["tvr", "activitynet", "clip_l14", "qvh"])
def test_parameter_counts(shared: Path, data: str) -> None:
    expected = counts(shared)[data]
    with torch.device("meta"):
        made = build("ral", Settings(max_words=expected["max_desc_l"]), Dims(expected["visual"], expected["text"]))
    sizes = {name: value.numel() for name, value in made.named_parameters()}
    assert sum(sizes.values()) == expected["total"]
    assert len(sizes) == expected["tensors"]
    assert sum(size for name, size in sizes.items() if not name.startswith("heads.")) == expected["used_at_inference"]
    assert sum(size for name, size in sizes.items() if not name.startswith("base.")) == expected["added_over_gmmformer_v2"]
