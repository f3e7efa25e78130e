"""GMMFormer and GMMFormer v2 against the arrays of their released codes: windows, outputs, losses, gradients, steps, ranks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.models.base import Words
from pipeline.models.cpu import kernels
from pipeline.models.layers import gaussian_window, padding_bias
from pipeline.objectives import optimal_matching, query_diversity
from pipeline.objectives.nce import nce
from pipeline.objectives.total import Total
from pipeline.objectives.triplet import triplet
from pipeline.ranking.metrics import ranks, recalls
from pipeline.training.optimizer import BertAdam
from tests.conftest import NO_SHARED
from tests.golden import released_methods
from tests.golden.arrays import FACTOR
from tests.golden.released_methods import TERMS, Method, gradients, objectives, step, videos

KEYS = ("R@1", "R@5", "R@10", "R@100", "SumR")


@pytest.fixture(params=released_methods.sets(("gmmformer", "gmmformer_v2")) or [None], ids=released_methods.identity)
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


def second(golden: Method) -> bool:
    return golden.kind == "gmmformer_v2"


def test_windows(golden: Method) -> None:
    expected = golden("small_intermediate")
    names = [name for name in expected if name.startswith("gauss")]
    assert names
    for name in names:
        length, width = name.removeprefix("gauss").split("_w")
        golden.close(gaussian_window(int(length), float(width)), expected[name], f"small.intermediate.{name}")


def test_outputs(golden: Method, form: str) -> None:
    model, inputs, expected = released_methods.small(golden), golden("small_inputs"), golden("small_outputs")
    found = model.encode_videos(videos(inputs))
    queries = model.encode_queries(Words(inputs["in_text_feat"], inputs["in_text_mask"]))
    golden.close(queries["pooled"], expected["out_query"], "small.out_query")
    golden.close(found["clips"], expected["out_enc_clip"], "small.out_enc_clip")
    ours, theirs = ("frames", "out_enc_frame") if second(golden) else ("vector", "out_frame_vector")
    golden.close(found[ours], expected[theirs], f"small.{theirs}")
    for branch, scores in model.score(queries, found).items():
        golden.close(scores.cosine, expected[f"out_{branch}_scores"], f"small.out_{branch}_scores")
        golden.close(scores.dot, expected[f"out_{branch}_scores_unnorm"], f"small.out_{branch}_scores_unnorm")
    ranked = model.rank(queries, model.gallery(found))
    for branch in ("clip", "frame"):
        golden.close(ranked[branch], expected[f"out_{branch}_scores"], f"small.out_{branch}_scores")
    *_, clip, frame = expected["coef_margin_fusion"].tolist()
    golden.close(clip * ranked["clip"] + frame * ranked["frame"], expected["out_fused"], "small.out_fused")


def test_intermediates(golden: Method, form: str) -> None:
    model, inputs, expected = released_methods.small(golden), golden("small_inputs"), golden("small_intermediate")

    def close(ours: Tensor, name: str) -> None:
        golden.close(ours, expected[name], f"small.intermediate.{name}")

    words, mask = inputs["in_text_feat"], inputs["in_text_mask"]
    query = model.query.positions(model.query.projection(words))
    real = mask > 0
    golden.close(query[real], expected["query_embed"][real], "small.intermediate.query_embed")
    tokens = model.query.words(words, mask)
    golden.close(tokens[real], expected["query_tokens"][real], "small.intermediate.query_tokens")
    close(model.query.pooling.weights(tokens, mask), "query_pool_weights")
    for branch, rows, real in (("frame", "frame", inputs["in_videos_mask"]), ("clip", "clip", None)):
        part, rows = getattr(model, branch), inputs[f"in_{rows}_video_features"]
        embedded = part.positions(part.projection(rows))
        close(embedded, f"{branch}_embed")
        bias = None if real is None else padding_bias(real)
        if second(golden):
            outputs = part.block.branches(embedded, bias)
            for k, output in enumerate(outputs):
                close(output[0], f"{branch}_block_branch{k}_v0")
            read, logits, weights = part.block.consolidation.weigh(outputs, model.token, bias)
            close(read, f"{branch}_block_consolidation_tokens")
            close(logits, f"{branch}_block_consolidation_logits")
            close(weights.transpose(1, 2), f"{branch}_block_consolidation_weights")
            attention, window = part.block.layers[1].attention, part.block.windows[1]
        else:
            windows = part.windows(rows.shape[1])
            for b, block in enumerate(part.blocks, 1):
                for k, output in enumerate(block.branches(embedded, windows, bias)):
                    close(output[0], f"{branch}_block{b}_branch{k}_v0")
                embedded = block(embedded, windows, bias)
                close(embedded, f"{branch}_block{b}_out")
            if branch == "frame":
                close(model.pooling.weights(embedded, real), "frame_pool_weights")
            attention, window = part.blocks[0].layers[1].attention, windows[1]
        if branch == "clip":
            close(attention.weights(part.positions(part.projection(rows)), window, bias)[0], "clip_attention_probs_branch1_v0")


def test_videos_that_are_short_together(golden: Method) -> None:
    model, expected = released_methods.small(golden), golden("small_intermediate")
    given = videos(golden("small_inputs"))
    chosen, length = expected["short_videos"], int(expected["short_frame_length"])
    short = given._replace(**{name: getattr(given, name)[chosen] for name in ("frames", "clips", "mask")})
    cut = short._replace(frames=short.frames[:, :length], mask=short.mask[:, :length])
    found = model.encode_videos(short)
    golden.close(found["clips"], expected["short_out_clip"], "small.intermediate.short_out_clip")
    if second(golden):
        golden.close(found["frames"], expected["short_out_frame"], "small.intermediate.short_out_frame")
        return
    for batch in (short, cut):  # both are as long as their longest video
        golden.close(model.encode_videos(batch)["vector"], expected["short_out_frame"], "small.intermediate.short_out_frame")
    model.settings = model.settings.model_copy(update={"padding": "full"})
    padded = model.encode_videos(short)["vector"]
    golden.close(padded, expected["short_out_frame_padded_to_128"], "small.intermediate.short_out_frame_padded_to_128")
    torch.testing.assert_close(padded, model.encode_videos(given)["vector"][chosen], rtol=1e-5, atol=1e-6)  # whatever the neighbours


def test_loss_and_gradients(golden: Method, form: str) -> None:
    model, inputs, expected = released_methods.small(golden), golden("small_inputs"), golden("small_outputs")
    total = Total(objectives(golden))
    made = step(model, inputs, total)
    kept = {"query": made.query["pooled"], "clip": made.video["clips"], "frame": made.video["frames" if second(golden) else "vector"]}
    for value in kept.values():
        value.retain_grad()
    loss, terms = total(made)
    loss.backward()
    names = {ours: theirs for ours, theirs in TERMS.items() if ours in terms}
    assert len(names) == len(terms) == len(golden.text("traj", "term_names"))
    _terms(golden, loss, terms, expected, "small")
    for name, value in kept.items():
        close_to(golden, value.grad, expected[f"dtotal_d{name}"], f"small.dtotal_d{name}")
    found = gradients(model)
    for name in (name.removeprefix("grad/") for name in expected if name.startswith("grad/")):
        golden.gradient(found[name], expected[f"grad/{name}"], name)
    _norms(golden, found, "small_outputs", "small")


def _terms(golden: Method, loss: Tensor, terms: dict[str, Tensor], expected: dict[str, Tensor], size: str) -> None:
    """Every weighted term, and their sum.

    At the published size some floors are luck, a hundredth of what the scores they are made of move them by: there the floors of those
    scores are allowed on top.
    """
    weights = objectives(golden).nce.weights
    allowed = 0.0
    for ours, value in terms.items():
        term, _, branch = ours.partition("_")
        theirs, key = expected[f"loss_{TERMS[ours]}"], f"{size}.loss_{TERMS[ours]}"
        floor = golden.floor[key]
        if size == "big" and term in ("nce", "triplet"):
            floor += weights[branch] * golden.floor[f"big.out_{branch}_scores_unnorm"] if term == "nce" else 0
            floor += golden.floor[f"big.out_{branch}_scores"] if term == "triplet" else 0
        limit = max(FACTOR * floor, float(np.spacing(np.float32(theirs.item()))))
        assert abs(value.item() - theirs.item()) <= limit, key
        allowed += limit
    assert abs(loss.item() - expected["loss_total"].item()) <= allowed


def _norms(golden: Method, found: dict[str, Tensor], file: str, size: str) -> None:
    """Every parameter's gradient norm, including those that are zero in exact arithmetic."""
    names, values = golden.text(file, "gradnorm_names"), golden(file)["gradnorm_values"]
    assert set(names) == set(found)
    zero, relative = golden.floor[f"{size}.grad.zero_in_exact_arithmetic"], golden.floor[f"{size}.grad.rel"]
    for name, value in zip(names, values.tolist(), strict=True):
        norm = found[name].double().norm().item()
        if name in zero:
            assert norm <= FACTOR * max(golden.floor[f"{size}.grad.max_abs"], value), name
        else:  # the floor is of the largest entry, and the norm adds up all of them
            largest = found[name].abs().max().item() * math.sqrt(found[name].numel())
            assert abs(norm - value) <= FACTOR * max(relative[name], 2.0**-23) * largest, name


def close_to(golden: Method, ours: Tensor | None, theirs: Tensor, key: str) -> None:
    assert ours is not None
    golden.close(ours, theirs, key)


@pytest.mark.parametrize("branch", ["clip", "frame"])
def test_losses_of_the_scores(golden: Method, branch: str) -> None:
    expected, labels = golden("small_outputs"), golden("small_inputs")["in_text_labels"]
    for name, of, value in (
        ("nce", "scores_unnorm", lambda x: nce(x, labels)),
        ("trip", "scores", lambda x: triplet(x, labels, float(expected["coef_margin_fusion"][0]), hard=True, pool=1)),
    ):
        at = expected[f"out_{branch}_{of}"].requires_grad_()
        loss = value(at)
        raw = f"loss_{branch}_{name}" + ("_raw" if name == "nce" else "")
        golden.close(loss.detach(), expected[raw], f"small.{raw}")
        key = f"d{branch}_{name}_dscores"
        golden.close(torch.autograd.grad(loss, at)[0], expected[key], f"small.{key}")


def test_query_diversity_and_matching_of_the_outputs(golden: Method) -> None:
    expected, labels = golden("small_outputs"), golden("small_inputs")["in_text_labels"]
    query, clips = (expected[name].requires_grad_() for name in ("out_query", "out_enc_clip"))
    value = diversity(golden, query, labels, expected["coef_neg_factor"])
    golden.close(value.detach(), expected["loss_query_diversity_raw"], "small.loss_query_diversity_raw")
    golden.close(torch.autograd.grad(value, query)[0], expected["dquery_diversity_dquery"], "small.dquery_diversity_dquery")
    if second(golden):
        for name, pair in zip(("ot_query_index", "ot_clip_index"), optimal_matching.match(query, clips, labels), strict=True):
            assert pair.tolist() == expected[name].tolist()
        value = optimal_matching.loss(query, clips, labels)
        golden.close(value.detach(), expected["loss_optimal_matching_raw"], "small.loss_optimal_matching_raw")
        for name, gradient in zip(("query", "clip"), torch.autograd.grad(value, [query, clips]), strict=True):
            golden.close(gradient, expected[f"doptimal_matching_d{name}"], f"small.doptimal_matching_d{name}")


def diversity(golden: Method, query: Tensor, labels: Tensor, factors: Tensor) -> Tensor:
    delta, alpha, *rest = factors.tolist()
    if second(golden):
        return query_diversity.per_pair(query, labels, delta=delta, alpha=alpha, focus=rest[0])
    return query_diversity.per_query(query, labels, delta=delta, alpha=alpha)


def test_losses_on_their_own(golden: Method) -> None:
    given = golden("losses")
    labels = given["in_labels"]
    cases = [(f"nce_{name}", f"in_{name}", lambda x: nce(x, labels)) for name in ("dot", "large_dot")]
    margin = float(golden("small_outputs")["coef_margin_fusion"][0])
    cases.append(("triplet_pool1", "in_cos", lambda x: triplet(x, labels, margin, hard=True, pool=1)))
    for row, factors in enumerate(given["coef_diversity_factors"]):
        for name in ("query", "query_with_equal_pair"):
            cases.append((f"query_diversity_{row}_{name}", f"in_{name}", lambda x, f=factors: diversity(golden, x, labels, f)))
    for name, of, value in cases:
        at = given[of].clone().requires_grad_()
        loss = value(at)
        golden.close(loss.detach(), given[name], f"losses.{name}")
        golden.close(torch.autograd.grad(loss, at)[0], given[f"d{name}"], f"losses.d{name}")
    if second(golden):
        queries, clips = (given[f"in_matching_{name}"].requires_grad_() for name in ("queries", "clips"))
        labels = given["in_matching_labels"]
        for name, pair in zip(("query", "clip"), optimal_matching.match(queries, clips, labels), strict=True):
            assert pair.tolist() == given[f"matching_{name}_index"].tolist()
        loss = optimal_matching.loss(queries, clips, labels)
        golden.close(loss.detach(), given["matching"], "losses.matching")
        for name, gradient in zip(("queries", "clips"), torch.autograd.grad(loss, [queries, clips]), strict=True):
            golden.close(gradient, given[f"dmatching_{name}"], f"losses.dmatching_{name}")


@pytest.mark.parametrize(
    ("mode", "options"), [("easy", {"hard": False}), ("hard_pool3", {"hard": True, "pool": 3}), ("hard_pool20", {"hard": True, "pool": 20})]
)
def test_random_negatives_have_the_released_expectation(golden: Method, mode: str, options: dict) -> None:
    expected, labels = golden("small_outputs"), golden("small_inputs")["in_text_labels"]
    generator, margin = torch.Generator().manual_seed(5), float(expected["coef_margin_fusion"][0])
    for place, branch in enumerate(("clip", "frame")):
        scores = expected[f"out_{branch}_scores"]
        draws = torch.stack([triplet(scores, labels, margin, generator=generator, **options) for _ in range(250)])
        assert abs(draws.mean() - expected[f"trip_{mode}_exact"][place]) <= 5 * draws.std() / len(draws) ** 0.5 + 1e-6


def test_trajectory(golden: Method) -> None:
    expected, model, inputs = golden("traj"), released_methods.small(golden), golden("small_inputs")
    rate, warmup, total_steps, decay = expected["cfg"].tolist()
    total = Total(objectives(golden))
    before = {name: value.detach().clone() for name, value in named(model).items()}
    optimizer = BertAdam(
        model.named_parameters(), model.decays, learning_rate=rate, total_steps=int(total_steps), warmup=warmup, weight_decay=decay
    )
    for number, theirs in enumerate(expected["terms"]):
        optimizer.zero_grad()
        loss, terms = total(step(model, inputs, total))
        found = {TERMS[name]: value for name, value in terms.items()}
        for name, value in zip(golden.text("traj", "term_names"), theirs, strict=True):
            golden.close(found[name.removesuffix("_loss")], value.float(), "traj.terms")
        golden.close(loss.detach(), expected["loss"][number].float(), "traj.loss")
        loss.backward()
        optimizer.step()
    golden.close(total(step(model, inputs, total))[0].detach(), expected["loss_after"].float(), "traj.loss_after")
    after = {name: value.detach() for name, value in named(model).items()}
    zero = golden.floor["small.grad.zero_in_exact_arithmetic"]
    for name, moved, size in zip(
        golden.text("traj", "param_names"), expected["param_delta_norm"], expected["param_final_norm"], strict=True
    ):
        assert abs(after[name].double().norm() - size) <= FACTOR * golden.floor["traj.param_final_norm"], name
        if name not in zero:  # there the optimiser divides one rounding by another
            delta = (after[name] - before[name]).double().norm()
            assert abs(delta - moved) <= FACTOR * golden.floor["traj.param_delta_norm.max_rel"] * moved, name
    for name in (name for name in expected if name.startswith("final/")):
        golden.close(after[name.removeprefix("final/")], expected[name], f"traj.{name}")


def named(model: torch.nn.Module) -> dict[str, Tensor]:
    return released_methods.to_released(dict(model.named_parameters()), released_methods.widths(model), model.settings.kind)


def test_ranks_and_recalls(golden: Method) -> None:
    with np.load(golden.folder.parent / "common" / "eval_scores.npz") as stored:
        truth, clip, frame = stored["gt_video_index"], stored["clip_scores"], stored["frame_scores"]
    with np.load(golden.folder / "eval.npz") as expected:
        for name in (name.removeprefix("ranks_") for name in expected.files if name.startswith("ranks_")):
            if name in ("clip", "frame"):
                scores = {"clip": clip, "frame": frame}[name]
            else:
                weights = [float(weight) for weight in name.split("_")[1:]]
                scores = weights[0] * clip + weights[1] * frame
            found = ranks(scores, truth)
            np.testing.assert_array_equal(found, expected[f"ranks_{name}"])
            np.testing.assert_allclose([recalls(found)[k] for k in KEYS], expected[f"metrics_{name}"], rtol=0, atol=1e-9)


@pytest.mark.slow
def test_published_size(golden: Method) -> None:
    model, inputs = released_methods.big(golden)
    expected = golden("big768")
    total = Total(objectives(golden))
    made = step(model, inputs, total)
    golden.close(made.query["pooled"], expected["out_query"], "big.out_query")
    golden.close(made.video["clips"], expected["out_enc_clip"], "big.out_enc_clip")
    ours, theirs = ("frames", "out_enc_frame") if second(golden) else ("vector", "out_frame_vector")
    golden.close(made.video[ours], expected[theirs], f"big.{theirs}")
    for branch, scores in made.scores.items():
        golden.close(scores.cosine, expected[f"out_{branch}_scores"], f"big.out_{branch}_scores")
        golden.close(scores.dot, expected[f"out_{branch}_scores_unnorm"], f"big.out_{branch}_scores_unnorm")
    loss, terms = total(made)
    _terms(golden, loss, terms, expected, "big")
    if second(golden):
        pairs = optimal_matching.match(made.query["pooled"], made.video["clips"], made.labels)
        for name, pair in zip(("ot_query_index", "ot_clip_index"), pairs, strict=True):
            assert pair.tolist() == expected[name].tolist()
    loss.backward()
    found = gradients(model)
    for name in (name.removeprefix("grad/") for name in expected if name.startswith("grad/")):
        golden.gradient(found[name], expected[f"grad/{name}"], name, "big")
    _norms(golden, found, "big768", "big")
