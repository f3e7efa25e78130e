"""RAL on GMMFormer v2 (docs/methods.md) written out literally: every word against every frame of every video, the support buffers filled.

Own code on this project's parameters, for two uses only: the tests compare values and gradients against it, the benchmarks compare time
and memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import literal, literal_gmmformer
from benchmarks.literal_hlformer import query_diversity
from benchmarks.literal_model import _linear, _position, _project, _scores, encoder_layer
from pipeline.models.distributions import GaussianHead, SetAttention
from pipeline.models.ral import Ral

BUFFER = 26


def words(model: Ral, batch: dict[str, Tensor]) -> Tensor:
    """RAL 1. Shapes: -> [Q, L, H]."""
    tokens = _position(model.base.query.positions, _project(model.words.projection, batch["words"]))
    return encoder_layer(model.words.layer, tokens, batch["word_mask"], None, None)


def frame_scores(model: Ral, tokens: Tensor, mask: Tensor, frames: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """RAL 2, as cosine and as dot product, by way of [Q, V, L, F]. Shapes: -> [Q, V] twice."""
    scores = []
    for unit in (True, False):
        word, frame = (F.normalize(tokens, dim=-1), F.normalize(frames, dim=-1)) if unit else (tokens, frames)
        gate = _linear(model.gate.contract, F.relu(_linear(model.gate.expand, word))).squeeze(-1)
        gate = torch.softmax(gate + (1 - mask) * -1e10, dim=-1)
        products = torch.einsum("qlh,vfh->qvlf", word, frame) * mask[:, None, :, None] * real[None, :, None, :]
        scores.append((products.max(dim=-1).values * gate[:, None, :]).sum(dim=-1))
    return scores[0], scores[1]


def _attend(module: SetAttention, rows: Tensor) -> Tensor:
    weights = torch.softmax(_linear(module.contract, torch.tanh(_linear(module.expand, rows))), dim=1)
    return (weights * rows).sum(dim=1)


def _gaussian(head: GaussianHead, whole: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    mean = head.norm(whole + torch.sigmoid(_linear(head.mean, _attend(head.mean_attention, rows))))
    spread = _linear(head.spread_attended, _attend(head.spread_attention, rows)) + _linear(head.spread_whole, whole)
    return F.normalize(mean, dim=-1), spread


def distributions(model: Ral, tokens: Tensor, batch: dict[str, Tensor], frames: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """RAL 3. Shapes: -> mean and log spread [V, H] of `text` and `video`."""
    mask, real, length = batch["word_mask"], batch["frame_mask"], tokens.shape[1]
    support, valid = [], []
    for video in range(len(frames)):
        own = batch["labels"] == video
        rows, here = tokens[own].flatten(0, 1), mask[own].flatten()
        empty = BUFFER * length - len(rows)
        support.append(torch.cat([rows, rows.new_zeros(empty, rows.shape[1])]))
        valid.append(torch.cat([here, here.new_zeros(empty)]))
    buffer, here = torch.stack(support), torch.stack(valid)
    said = (buffer * here[..., None]).sum(1) / here.sum(1, keepdim=True)
    seen = F.normalize((F.normalize(frames, dim=-1) * real[..., None]).sum(1) / real.sum(1, keepdim=True), dim=-1)
    return {"text": _gaussian(model.heads["text"], said, buffer), "video": _gaussian(model.heads["video"], seen, frames)}


def proxy_matching(video: Tensor, text: Tensor) -> Tensor:
    """RAL 4, row by row. Shapes: [V, K, H] each -> scalar."""
    losses = []
    for first, second in ((video, text), (text, video)):
        rows = []
        for v in range(len(first)):
            for proxy in first[v]:
                shares = torch.log_softmax((second @ proxy).flatten(), dim=0).view(second.shape[:2])
                rows.append(-shares[v].mean())
        losses.append(torch.stack(rows).mean())
    return (losses[0] + losses[1]) / 2


def alignment(video: tuple[Tensor, Tensor], text: tuple[Tensor, Tensor]) -> Tensor:
    """RAL 4 and 6, the released reading. Shapes: mean of the samples, log spread [V, H] each -> scalar."""
    priors = [0.5 * (torch.exp(spread) + mean**2 - 1 - spread).sum(1).mean() for mean, spread in (video, text)]
    (mean_v, spread_v), (mean_t, spread_t) = video, text
    distance = (torch.exp(spread_t) ** 2 + (mean_t - mean_v) ** 2) / (2 * torch.exp(spread_v) ** 2)
    return priors[0] + priors[1] + (spread_v - spread_t + distance - 0.5).sum(1).mean()


def loss(
    model: Ral,
    batch: dict[str, Tensor],
    noise: dict[str, Tensor],
    *,
    margin: float,
    hard: bool,
    pool: int,
    nce: tuple[float, float],
    diversity: tuple[float, float, float, float],
    match: float,
    distribution: tuple[float, float],
) -> dict[str, Tensor]:
    """Every weighted term; `diversity` = weight, delta, alpha, lambda; `distribution` = weights of matching and alignment."""
    frames, clips = literal_gmmformer.encode_videos(model.base, batch)
    query, again = (literal_gmmformer.encode_query(model.base, batch) for _ in range(2))
    tokens, labels, terms = words(model, batch), batch["labels"], {}
    scores = {"clip": _scores(query, clips), "frame": frame_scores(model, tokens, batch["word_mask"], frames, batch["frame_mask"])}
    for (name, (cosine, dot)), weight in zip(scores.items(), nce, strict=True):
        terms[f"nce_{name}"] = weight * literal.nce(dot, labels)
        terms[f"triplet_{name}"] = literal.triplet(cosine, labels, margin, hard, pool)
    terms["query_diversity"] = diversity[0] * query_diversity(again, labels, *diversity[1:])
    terms["optimal_matching"] = match * literal_gmmformer.matching(again, clips, labels)
    of = distributions(model, tokens, batch, frames)
    samples = {side: mean[:, None] + torch.exp(spread)[:, None] * noise[side] for side, (mean, spread) in of.items()}
    terms["ral_proxy_matching"] = distribution[0] * proxy_matching(samples["video"], samples["text"])
    means = {side: (samples[side].mean(1), of[side][1]) for side in of}
    terms["ral_alignment"] = distribution[1] * alignment(means["video"], means["text"])
    return terms
