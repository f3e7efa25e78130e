"""RAL's parts, each alone, against what the released functions gave (golden ral/d_*)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models.distributions import Gaussian, of_frames, of_queries
from pipeline.models.late_interaction import ConfidenceGate, confidence_cosines, confidence_scores
from pipeline.objectives.ral import alignment, divergence, proxy_matching, sample_mean
from tests.golden.ral import HEAD, Ral, head, leaf, ral

__all__ = ["ral"]

SIDES = ("video", "text")
CASES = ("k6", "k1", "k3_8", "one_video", "narrow", "init")


def _gate(weights: dict[str, Tensor]) -> ConfidenceGate:
    gate = ConfidenceGate(len(weights["0.bias"]))
    gate.load_state_dict(
        {f"{ours}.{end}": weights[f"{i}.{end}"] for i, ours in ((0, "expand"), (2, "contract")) for end in ("weight", "bias")}
    )
    return gate


@pytest.mark.parametrize("case", ["mixed", "full", "negative"])
@pytest.mark.parametrize("form", ["cos", "dot"])
def test_confidence_scores(ral: Ral, case: str, form: str) -> None:
    stored = ral("d_csa")
    gate = _gate({name.removeprefix("gate_"): value for name, value in stored.items() if name.startswith("gate_")})
    words, frames, mask = leaf(stored[f"{case}_words"]), leaf(stored[f"{case}_frames"]), stored[f"{case}_word_mask"]
    gates = gate(F.normalize(words, dim=-1), mask), gate(words, mask)
    scores = dict(zip(("cos", "dot"), confidence_scores(words, mask, gates, frames, stored[f"{case}_frame_mask"]), strict=True))[form]
    ral.close(scores, stored[f"{case}_{form}"], f"d_csa.{case}_{form}")
    (scores * stored[f"{case}_cotangent"]).sum().backward()
    ral.close(words.grad, stored[f"{case}_d{form}_dwords"], f"d_csa.{case}_d{form}_dwords")
    ral.close(frames.grad, stored[f"{case}_d{form}_dframes"], f"d_csa.{case}_d{form}_dframes")


@pytest.mark.parametrize("case", ["mixed", "full", "negative"])
def test_confidence_scores_of_ranking(ral: Ral, case: str) -> None:
    stored = ral("d_csa")
    gate = _gate({name.removeprefix("gate_"): value for name, value in stored.items() if name.startswith("gate_")})
    words, mask = F.normalize(stored[f"{case}_words"], dim=-1), stored[f"{case}_word_mask"]
    frames = F.normalize(stored[f"{case}_frames"], dim=-1) * stored[f"{case}_frame_mask"][..., None]
    with torch.no_grad():
        ral.close(confidence_cosines(words, gate(words, mask), frames), stored[f"{case}_cos"], f"d_csa.{case}_cos")


@pytest.mark.parametrize("case", CASES)
def test_proxies_and_their_matching(ral: Ral, case: str) -> None:
    stored = ral("d_pm")
    proxies = {}
    for side in SIDES:
        of = Gaussian(stored[f"{case}_mu_{side}"], stored[f"{case}_logsigma_{side}"])
        proxies[side] = leaf(of.proxies(stored[f"{case}_eps_{side}"]))
        torch.testing.assert_close(proxies[side].detach(), stored[f"{case}_proxy_{side}"], rtol=1e-6, atol=1e-6)
    value = proxy_matching(proxies["video"], proxies["text"])
    ral.close(value.detach(), stored[f"{case}_pm"], f"d_pm.{case}_pm")
    value.backward()
    for side in SIDES:
        ral.close(proxies[side].grad, stored[f"{case}_dpm_dproxy_{side}"], f"d_pm.{case}_dpm_dproxy_{side}")


@pytest.mark.parametrize("case", CASES)
def test_distribution_alignment(ral: Ral, case: str) -> None:
    stored, expected = ral("d_pm"), ral("d_da")
    of = {side: Gaussian(stored[f"{case}_mu_{side}"], leaf(stored[f"{case}_logsigma_{side}"])) for side in SIDES}
    proxies = {side: leaf(stored[f"{case}_proxy_{side}"]) for side in SIDES}
    measured = {side: sample_mean(proxies[side], of[side]) for side in SIDES}
    value = alignment(measured["video"], measured["text"])
    ral.close(value.detach(), expected[f"{case}_da"], f"d_da.{case}_da")
    cross = divergence(measured["text"], measured["video"])
    ral.close(cross.detach(), expected[f"{case}_cross"], f"d_da.{case}_cross")
    ral.close(
        alignment(of["video"], of["text"]).detach(), expected[f"{case}_da_with_mu_for_contrast"], f"d_da.{case}_da_with_mu_for_contrast"
    )
    value.backward()
    for side in SIDES:
        ral.close(proxies[side].grad, expected[f"{case}_dda_dproxy_{side}"], f"d_da.{case}_dda_dproxy_{side}")
        ral.close(of[side].log_sigma.grad, expected[f"{case}_dda_dlogsigma_{side}"], f"d_da.{case}_dda_dlogsigma_{side}")


def test_support_sets(ral: Ral) -> None:
    stored = ral("d_support")
    whole, tokens = of_queries(stored["words"], stored["mask"], stored["labels"], len(stored["pooled"]), 26)
    torch.testing.assert_close(whole, stored["pooled"], rtol=0, atol=1e-6)
    # Every row of the released buffer is a row here, or counted among the empty ones.
    rows = torch.bincount(stored["labels"], minlength=tokens.sets) * stored["words"].shape[1]
    assert (rows + tokens.empty).tolist() == [stored["support"].shape[1]] * tokens.sets
    _, full = of_queries(stored["full_words"], torch.ones(stored["full_words"].shape[:2]), stored["full_labels"], 2, 26)
    assert full.empty is not None
    assert full.empty.min() == 0


@pytest.mark.parametrize("side", SIDES)
def test_heads(ral: Ral, side: str) -> None:
    inputs, expected = ral("small_inputs"), ral("small_outputs")
    rows = leaf(expected["out_enc_frame" if side == "video" else "out_words"])
    videos, mask, labels = len(expected["out_enc_frame"]), inputs["in_text_mask"], inputs["in_text_labels"]
    whole, tokens = of_frames(rows, inputs["in_videos_mask"]) if side == "video" else of_queries(rows, mask, labels, videos, 26)
    ral.close(whole.detach(), expected[f"out_u_{side}"], f"small.out_u_{side}")
    whole, made = leaf(whole), head(ral("small_weights"), side)
    ral.close(made.mean_attention(tokens, False).detach(), expected[f"head_{side}_local"], f"small.head_{side}_local")
    ral.close(made.spread_attention(tokens, False).detach(), expected[f"head_{side}_u_local"], f"small.head_{side}_u_local")
    found = made(whole, tokens, False)
    ral.close(found.mean.detach(), expected[f"head_{side}_mu"], f"small.head_{side}_mu")
    ral.close(found.log_sigma.detach(), expected[f"head_{side}_logsigma"], f"small.head_{side}_logsigma")
    ((found.mean * expected["cotangent_mu"]).sum() + (found.log_sigma * expected["cotangent_logsigma"]).sum()).backward()
    ral.close_relative(whole.grad, expected[f"dhead_{side}_du"], ral.floor[f"small.rel.dhead_{side}_du"], "du")
    assert rows.grad is not None
    theirs = expected[f"dhead_{side}_dtokens"]
    ours = rows.grad if side == "video" else torch.zeros_like(theirs)
    if side == "text":
        for video in range(videos):
            own = rows.grad[labels == video].flatten(0, 1)
            ours[video, : len(own)], theirs[video, len(own) :] = own, 0  # the released empty rows are constants of no parameter
    ral.close_relative(ours, theirs, ral.floor[f"small.rel.dhead_{side}_dtokens"], "dtokens")


def test_every_head_weight_is_a_released_one(ral: Ral) -> None:
    weights = ral("small_weights")
    heads = {name for name in weights if name.startswith(("pie_net_", "uncertain_net_"))}
    used = {f"{theirs.format(side)}.{end}" for theirs in HEAD.values() for side in SIDES for end in ("weight", "bias")} & set(weights)
    assert used == heads
