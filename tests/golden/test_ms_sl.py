"""MS-SL against the arrays of its released code: outputs, intermediates, losses, gradients, steps, ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.models.base import Words
from pipeline.models.cpu import kernels
from pipeline.models.key_clip import attend
from pipeline.models.layers import padding_bias
from pipeline.models.proposals import best_proposal
from pipeline.objectives.nce import nce, pairwise_nce
from pipeline.objectives.total import Total
from pipeline.objectives.triplet import pairwise_triplet, triplet
from pipeline.ranking.metrics import ranks, recalls
from tests.conftest import NO_SHARED
from tests.golden import released_methods
from tests.golden.arrays import FACTOR
from tests.golden.released_methods import Method, gradients, objectives, step, videos
from tests.golden.test_gmmformer import KEYS, _norms, test_trajectory

__all__ = ["test_trajectory"]

DECIDED = 1e-5  # a gap between two proposals that no rounding closes


@pytest.fixture(params=released_methods.sets(("mssl",)) or [None], ids=released_methods.identity)
def golden(request: pytest.FixtureRequest) -> Method:
    if request.param is None:
        pytest.skip(f"{NO_SHARED}/golden_methods")
    return Method(request.param)


@pytest.fixture(params=["hand-written", "plain"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both forms of the layers: the CPU's, and the one a GPU or torch.compile uses."""
    if request.param == "plain":
        monkeypatch.setattr(kernels, "fast", lambda _: False)
    return request.param


def margin(golden: Method) -> float:
    return float(golden("small_outputs")["coef_margin_clip_frame_fusion"][0])


def outputs(golden: Method, made, expected: dict[str, Tensor], real: Tensor, size: str) -> None:
    """Encoded and scored, in training and over every video."""

    def close(ours: Tensor, name: str) -> None:
        golden.close(ours, expected[name], f"{size}.{name}")

    query, video, model = made.query, made.video, made.model
    close(query["pooled"], "out_query")
    golden.close(video["frames"][real], expected["out_enc_frame"][real], f"{size}.out_enc_frame")
    assert not video["frames"][~real].any()
    if "out_proposals" in expected:
        close(model.averages @ video["clips"], "out_proposals")
    key = best_proposal(query["pooled"], video["clips"], model.averages).key
    decided = expected["out_key_clip_margin"] > DECIDED
    assert decided.float().mean() > 0.9
    assert torch.equal(key[decided], expected["out_key_clip"][decided])
    own = model.key_clip.own_videos(
        made.labels, key.gather(1, made.labels[:, None])[:, 0], model.averages, video["clips"], video["frames"], video["mask"]
    )
    close(own, "out_attended_own")
    close(made.scores["clip"].cosine, "out_clip_scores")
    close(made.scores["clip"].dot, "out_clip_scores_unnorm")
    close(made.scores["frame"].cosine, "out_frame_scores_pair")
    close(made.scores["frame"].dot, "out_frame_scores_pair_unnorm")
    every = model.score(query, video)
    close(every["clip"].cosine, "out_infer_clip_scores")
    close(every["frame"].cosine, "out_infer_frame_scores")
    close(every["frame"].dot, "out_infer_frame_scores_unnorm_derived")
    ranked = model.rank(query, model.gallery(video))
    *_, clip, frame = golden("small_outputs")["coef_margin_clip_frame_fusion"].tolist()
    close(clip * ranked["clip"] + frame * ranked["frame"], "out_fused")


def test_outputs(golden: Method, form: str) -> None:
    model, inputs = released_methods.small(golden), golden("small_inputs")
    made = step(model, inputs, Total(objectives(golden)))
    outputs(golden, made, golden("small_outputs"), inputs["in_videos_mask"] > 0, "small")


def test_intermediates(golden: Method, form: str) -> None:
    model, inputs, expected = released_methods.small(golden), golden("small_inputs"), golden("small_intermediate")

    def close(ours: Tensor, name: str, real: Tensor | slice = slice(None)) -> None:
        golden.close(ours[real], expected[name][real], f"small.intermediate.{name}")

    words, mask = inputs["in_text_feat"], inputs["in_text_mask"]
    close(model.query.positions(model.query.projection(words)), "query_embed", mask > 0)
    tokens = model.query.words(words, mask)
    close(tokens, "query_tokens", mask > 0)
    close(model.query.pooling.weights(tokens, mask), "query_pool_weights")
    real = inputs["in_videos_mask"] > 0
    clips, frames = (model.clip.embed(inputs["in_clip_video_features"]), model.frame.embed(inputs["in_frame_video_features"]))
    close(clips, "clip_embed")
    close(frames, "frame_embed", real)
    close(model.clip.layer.attention.weights(clips, None, None)[0], "clip_attention_probs_v0")
    attention = model.frame.layer.attention.weights(frames, None, padding_bias(inputs["in_videos_mask"]))[-1]
    shortest = int(inputs["in_videos_mask"][-1].sum())
    golden.close(
        attention[:, :shortest], expected["frame_attention_probs_last"][:, :shortest], "small.intermediate.frame_attention_probs_last"
    )
    found = model.encode_videos(videos(inputs))
    close(found["clips"], "clip_tokens")
    close(found["frames"], "frame_tokens", real)
    query, labels = model.encode_queries(Words(words, mask))["pooled"], inputs["in_text_labels"]
    key = best_proposal(query, found["clips"], model.averages).key
    _, weights = attend(model.averages @ (found["clips"] @ model.key_clip.guide.weight), found["frames"], found["mask"])
    close(weights[torch.arange(len(real)), key], "key_attention_weights_all")
    close(weights[labels, key.gather(1, labels[:, None])[:, 0]], "key_attention_weights_own")


def test_loss_and_gradients(golden: Method, form: str) -> None:
    model, inputs, expected = released_methods.small(golden), golden("small_inputs"), golden("small_outputs")
    total = Total(objectives(golden))
    made = step(model, inputs, total)
    kept = {"query": made.query["pooled"], "clips": made.video["clips"], "frames": made.video["frames"]}
    for value in kept.values():
        value.retain_grad()
    loss, found = total(made)
    loss.backward()
    terms(golden, loss, found, expected, "small")
    golden.close(kept["query"].grad, expected["dtotal_dquery"], "small.dtotal_dquery")
    real = inputs["in_videos_mask"] > 0
    golden.close(kept["frames"].grad[real], expected["dtotal_dframe"][real], "small.dtotal_dframe")
    # Proposals are not formed; that they are means of clips takes their gradients to the clips.
    theirs = model.averages.T.double() @ expected["dtotal_dproposals"].double()
    golden.close(kept["clips"].grad, theirs, "small.dtotal_dproposals", scale=float(model.averages.sum(0).max()))
    all_of_it(golden, model, expected, "small_outputs", "small")


def all_of_it(golden: Method, model, expected: dict[str, Tensor], file: str, size: str) -> None:
    found = gradients(model)
    for name in (name.removeprefix("grad/") for name in expected if name.startswith("grad/")):
        golden.gradient(found[name], expected[f"grad/{name}"], name, size)
    _norms(golden, found, file, size)


def terms(golden: Method, loss: Tensor, found: dict[str, Tensor], expected: dict[str, Tensor], size: str) -> None:
    """Every weighted term and the sum; a floor far below what one floor of its scores moves a term by is luck, so that is allowed too."""
    assert {f"{released_methods.TERMS[name]}_loss" for name in found} == set(golden.text("traj", "term_names"))
    weights, allowed = objectives(golden).nce.weights, 0.0
    for name, value in found.items():
        theirs, floor = expected[f"loss_{released_methods.TERMS[name]}"], golden.floor[f"{size}.loss_{released_methods.TERMS[name]}"]
        kind, _, branch = name.partition("_")
        scores = f"out_{branch}_scores" + ("_pair" if branch == "frame" else "") + ("_unnorm" if kind == "nce" else "")
        limit = max(FACTOR * floor, float(np.spacing(np.float32(theirs.item()))))
        limit += golden.floor[f"{size}.{scores}"] * (weights[branch] if kind == "nce" else 1)
        assert abs(value.item() - theirs.item()) <= limit, name
        allowed += limit
    assert abs(loss.item() - expected["loss_total"].item()) <= allowed


def test_losses_of_the_scores(golden: Method) -> None:
    expected, labels = golden("small_outputs"), golden("small_inputs")["in_text_labels"]
    size = margin(golden)
    for name, of, raw, value in (
        ("clip_nce", "clip_scores_unnorm", "clip_nce_raw", lambda x: nce(x, labels)),
        ("clip_trip", "clip_scores", "clip_trip", lambda x: triplet(x, labels, size, hard=True, pool=1)),
        ("frame_nce", "frame_scores_pair_unnorm", "frame_nce_raw", pairwise_nce),
        ("frame_trip", "frame_scores_pair", "frame_trip", lambda x: pairwise_triplet(x, size, hard=True, pool=1)),
    ):
        at = expected[f"out_{of}"].requires_grad_()
        loss = value(at)
        golden.close(loss.detach(), expected[f"loss_{raw}"], f"small.loss_{raw}")
        key = f"d{name}_dscores" + ("_pair" if name.startswith("frame") else "")
        golden.close(torch.autograd.grad(loss, at)[0], expected[key], f"small.{key}")


def test_gradients_of_the_attention(golden: Method) -> None:
    model, expected, inputs = released_methods.small(golden), golden("small_outputs"), golden("small_inputs")
    labels = inputs["in_text_labels"]
    key = expected["out_key_clip"].gather(1, labels[:, None])[:, 0]
    frames, proposals = expected["out_enc_frame"].requires_grad_(), expected["out_proposals"].requires_grad_()
    said, _ = attend((proposals @ model.key_clip.guide.weight)[labels, key][:, None], frames[labels], inputs["in_videos_mask"][labels])
    value = (expected["key_attention_weighting"] * model.key_clip.value(said[:, 0])).sum()
    by_frame, by_proposal = torch.autograd.grad(value, [frames, proposals])
    golden.close(by_frame, expected["dkey_attention_dframe"], "small.dkey_attention_dframe")
    name = "dkey_attention_dproposals_selected"
    golden.close(by_proposal[labels, key], expected[name], f"small.{name}")


def test_losses_on_their_own(golden: Method) -> None:
    given, size = golden("losses"), margin(golden)
    labels = given["in_labels"]
    for name, of, value in (
        ("nce_dot", "dot", lambda x: nce(x, labels)),
        ("nce_large_dot", "large_dot", lambda x: nce(x, labels)),
        ("pairwise_nce_pair_dot", "pair_dot", pairwise_nce),
        ("pairwise_nce_large_pair_dot", "large_pair_dot", pairwise_nce),
        ("triplet_pool1", "cos", lambda x: triplet(x, labels, size, hard=True, pool=1)),
        ("pairwise_triplet_pool1", "pair_cos", lambda x: pairwise_triplet(x, size, hard=True, pool=1)),
    ):
        at = given[f"in_{of}"].requires_grad_()
        loss = value(at)
        golden.close(loss.detach(), given[name], f"losses.{name}")
        golden.close(torch.autograd.grad(loss, at)[0], given[f"d{name}"], f"losses.d{name}")


@pytest.mark.parametrize("file", ["small_outputs", "losses"])
@pytest.mark.parametrize(
    ("mode", "options"), [("easy", {"hard": False}), ("hard_pool3", {"hard": True, "pool": 3}), ("hard_pool20", {"hard": True, "pool": 20})]
)
def test_random_negatives_have_the_released_expectation(golden: Method, file: str, mode: str, options: dict) -> None:
    expected, size = golden(file), margin(golden)
    if file == "losses":
        labels, own, pairs = (expected[f"in_{name}"] for name in ("labels", "cos", "pair_cos"))
    else:
        labels, own, pairs = golden("small_inputs")["in_text_labels"], expected["out_clip_scores"], expected["out_frame_scores_pair"]
    if f"trip_{mode}_exact" not in expected:
        pytest.skip("the arrays hold no such draws")
    generator = torch.Generator().manual_seed(5)
    for place, value in enumerate((lambda **o: triplet(own, labels, size, **o), lambda **o: pairwise_triplet(pairs, size, **o))):
        draws = torch.stack([value(generator=generator, **options) for _ in range(250)])
        assert abs(draws.mean() - expected[f"trip_{mode}_exact"][place]) <= 5 * draws.std() / len(draws) ** 0.5 + 1e-6
        assert expected[f"trip_{mode}_min"][place] - 0.05 <= draws.min()
        assert draws.max() <= expected[f"trip_{mode}_max"][place] + 0.05


def test_ranks_recalls_and_average_precision(golden: Method) -> None:
    with np.load(golden.folder.parent / "common" / "eval_scores.npz") as stored:
        truth, clip, frame = stored["gt_video_index"], stored["clip_scores"], stored["frame_scores"]
    with np.load(golden.folder / "eval.npz") as expected:
        names = [name.removeprefix("ranks_") for name in expected.files if name.startswith("ranks_")]
        assert len(names) == 4
        for name in names:
            weights = {"clip": (1.0, 0.0), "frame": (0.0, 1.0)}.get(name) or [float(weight) for weight in name.split("_")[1:]]
            found = ranks(weights[0] * clip + weights[1] * frame, truth)
            np.testing.assert_array_equal(found, expected[f"ranks_{name}"])
            ours = recalls(found)
            np.testing.assert_allclose([ours[k] for k in KEYS], expected[f"metrics_{name}"], rtol=0, atol=1e-9)
            median, mean, precision = expected[f"extra_metrics_{name}"]
            assert ours["mean_rank"] == pytest.approx(mean)
            assert ours["median_rank"] == pytest.approx(median, abs=0.51)  # theirs rounds halves
            assert float((1 / found.double()).mean()) == pytest.approx(precision)  # of one relevant video


@pytest.mark.slow
def test_published_size(golden: Method) -> None:
    model, inputs = released_methods.big(golden)
    expected, total = golden("big768"), Total(objectives(golden))
    made = step(model, inputs, total)
    outputs(golden, made, expected, inputs["in_videos_mask"] > 0, "big")
    loss, found = total(made)
    terms(golden, loss, found, expected, "big")
    loss.backward()
    all_of_it(golden, model, expected, "big768", "big")
