"""MS-SL and RAL (docs/methods.md) written out literally, and the literal form of each method under its kind.

Own code on this project's parameters, for two uses only: the tests compare values and gradients against it, the benchmarks compare time and
memory. A batch holds `frames` [B, F, D], `frame_mask`, `clips` [B, C, D], `words` [Q, L, Dt], `word_mask`, `labels` [Q].
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import literal, literal_gmmformer, literal_hlformer
from benchmarks.literal_model import _linear, _position, _project, _scores, encoder_layer
from pipeline.config.method import Experiment

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]


def retrieval(scores: tuple[Tensor, Tensor], labels: Tensor, settings: Experiment, branch: str) -> Terms:
    """InfoNCE and triplet of a branch; hard negatives on."""
    cosine, dot = scores
    triplet, weights = settings.objectives.triplet, settings.objectives.nce.weights
    ranked = literal.triplet(cosine, labels, triplet.margin, True, triplet.hard_pool)
    return {f"nce_{branch}": weights[branch] * literal.nce(dot, labels), f"triplet_{branch}": triplet.weight * ranked}


def proposals(clips: Tensor) -> Tensor:
    """docs/methods.md, MS-SL 2: the mean of every window, one after another. Shapes: [B, C, H] -> [B, C(C+1)/2, H]."""
    count, found = clips.shape[1], []
    for width in range(1, count + 1):
        for start in range(count - width + 1):
            found.append(clips[:, start : start + width].mean(dim=1))
    return torch.stack(found, dim=1)


def ms_sl(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, MS-SL 1-4."""
    frames = _row(model.frame, batch["frames"], batch["frame_mask"])
    query, labels, part = literal_gmmformer.encode_query(model, batch), batch["labels"], model.key_clip
    clips = proposals(_row(model.clip, batch["clips"], None))
    said = []
    for own, label in zip(query, labels.tolist(), strict=True):  # a query's own video, with its key proposal
        key = clips[label][F.cosine_similarity(own[None], clips[label], dim=1).argmax()]
        logits = _linear(part.key, frames[label]) @ key + (1 - batch["frame_mask"][label]) * -1e9
        said.append(torch.softmax(logits, dim=0) @ _linear(part.value, frames[label]))
    rows = torch.stack(said)
    square = torch.matmul(F.normalize(query, dim=-1), F.normalize(rows, dim=-1).t())
    terms = retrieval(_scores(query, clips), labels, settings, "clip")
    triplet, weights = settings.objectives.triplet, settings.objectives.nce.weights
    terms["nce_frame"] = weights["frame"] * pairwise_nce(torch.matmul(query, rows.t()))
    terms["triplet_frame"] = triplet.weight * pairwise_triplet(square, triplet.margin, triplet.hard_pool)
    return terms


def _row(part: Any, rows: Tensor, mask: Tensor | None) -> Tensor:
    tokens = _position(part.positions, _project(part.projection, rows))
    return literal_gmmformer.attention_layer(part.layer, tokens, mask, None)


def pairwise_nce(dot: Tensor) -> Tensor:
    """One query at a time: its row and its column. Shapes: [Q, Q] -> scalar."""
    return torch.stack([torch.cat([dot[i], dot[:, i]]).logsumexp(0) - dot[i, i] for i in range(len(dot))]).mean()


def pairwise_triplet(cosine: Tensor, margin: float, pool: int) -> Tensor:
    """Rows and columns, a query at a time; the negative is drawn from the hardest. Shapes: [Q, Q] -> scalar."""
    total = torch.zeros((), dtype=cosine.dtype)
    for matrix in (cosine, cosine.t()):
        losses = []
        for i, row in enumerate(matrix):
            others = torch.cat([row[:i], row[i + 1 :]]).sort(descending=True).values
            drawn = others[int(torch.randint(min(pool, len(others)), (1,)))]
            losses.append((margin + drawn - row[i]).clamp_min(0))
        total = total + torch.stack(losses).mean()
    return total


def gmmformer(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, GMMFormer and GMMFormer v2."""
    chosen = settings.objectives
    weights, diverse = chosen.nce.weights, chosen.query_diversity
    factors = (diverse.delta, diverse.alpha, *([diverse.focus] if diverse.form == "pair" else []))
    return literal_gmmformer.loss(
        model,
        batch,
        margin=chosen.triplet.margin,
        hard=True,
        pool=chosen.triplet.hard_pool,
        nce=(weights["clip"], weights["frame"]),
        diversity=(diverse.weight, *factors),
        match=chosen.optimal_matching.weight,
    )


def ral(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, RAL 1-4, on GMMFormer v2."""
    frames, clips = literal_gmmformer.encode_videos(model.base, batch)
    query, again = literal_gmmformer.encode_query(model.base, batch), literal_gmmformer.encode_query(model.base, batch)
    labels, mask, part = batch["labels"], batch["word_mask"], model.words
    words = encoder_layer(part.layer, _position(model.base.query.positions, _project(part.projection, batch["words"])), mask, None, None)
    unit = late_interaction(model.gate, F.normalize(words, dim=-1), mask, F.normalize(frames, dim=-1), batch["frame_mask"])
    plain = late_interaction(model.gate, words, mask, frames, batch["frame_mask"])
    terms = retrieval(_scores(query, clips), labels, settings, "clip") | retrieval((unit, plain), labels, settings, "frame")
    chosen = settings.objectives.query_diversity
    diverse = literal_hlformer.query_diversity(again, labels, chosen.delta, chosen.alpha, chosen.focus)
    terms["query_diversity"] = chosen.weight * diverse
    matched = literal_gmmformer.matching(again, clips, labels)
    terms["optimal_matching"] = settings.objectives.optimal_matching.weight * matched
    return terms | distributions(model, frames, words, batch, settings)


def late_interaction(gate: Any, words: Tensor, mask: Tensor, frames: Tensor, real: Tensor) -> Tensor:
    """RAL 2: every word with every frame of every video at once. Shapes: [Q, L, H], [B, F, H] -> [Q, B]."""
    logits = _linear(gate.contract, F.relu(_linear(gate.expand, words))).squeeze(-1) + (1 - mask) * -1e10
    products = torch.einsum("qlh,bfh->qblf", words, frames) * mask[:, None, :, None] * real[None, :, None, :]
    return (products.max(dim=-1).values * torch.softmax(logits, dim=-1)[:, None]).sum(dim=-1)


def distributions(model: Any, frames: Tensor, words: Tensor, batch: Batch, settings: Experiment) -> Terms:
    """RAL 3 and 4: the buffer filled a query at a time, every pair of samples."""
    chosen, labels, mask, real = settings.objectives.ral, batch["labels"], batch["word_mask"], batch["frame_mask"]
    videos, length, hidden = len(frames), words.shape[1], words.shape[2]
    buffer, means = torch.zeros(videos, chosen.buffer * length, hidden), []
    for video in range(videos):
        own = torch.nonzero(labels == video)[:, 0].tolist()
        rows = torch.cat([words[q] for q in own])
        buffer[video, : len(rows)] = rows
        means.append(torch.cat([words[q][mask[q] > 0] for q in own]).mean(dim=0))
    unit = F.normalize(frames, dim=-1)
    whole = F.normalize((unit * real[..., None]).sum(1) / real.sum(1, keepdim=True), dim=-1)
    samples, spreads = {}, {}
    for side, rows, vector in (("text", buffer, torch.stack(means)), ("video", frames, whole)):
        head = model.heads[side]
        mean = F.normalize(head.norm(vector + torch.sigmoid(_linear(head.mean, _local(head.mean_attention, rows)))), dim=-1)
        spreads[side] = _linear(head.spread_attended, _local(head.spread_attention, rows)) + _linear(head.spread_whole, vector)
        noise = torch.randn(videos, chosen.proxies, hidden)
        samples[side] = mean[:, None] + spreads[side].exp()[:, None] * noise
    logits = torch.matmul(samples["video"].flatten(0, 1), samples["text"].flatten(0, 1).t())
    matched = torch.stack([_rows(matrix, chosen.proxies) for matrix in (logits, logits.t())]).mean()
    means_of, s = {side: sample.mean(dim=1) for side, sample in samples.items()}, spreads
    total = torch.zeros(())
    for side in ("video", "text"):
        total = total + 0.5 * (s[side].exp() + means_of[side] ** 2 - 1 - s[side]).sum(dim=1).mean()
    apart = (2 * s["text"]).exp() + (means_of["text"] - means_of["video"]) ** 2
    total = total + (s["video"] - s["text"] + apart / (2 * (2 * s["video"]).exp()) - 0.5).sum(dim=1).mean()
    return {"ral_proxy_matching": chosen.proxy_matching * matched, "ral_alignment": chosen.distribution_alignment * total}


def _local(attention: Any, rows: Tensor) -> Tensor:
    weights = torch.softmax(_linear(attention.contract, torch.tanh(_linear(attention.expand, rows))), dim=1)
    return (weights * rows).sum(dim=1)


def _rows(logits: Tensor, proxies: int) -> Tensor:
    losses = []
    for i, row in enumerate(torch.log_softmax(logits, dim=1)):
        own = i // proxies * proxies
        losses.append(-row[own : own + proxies].mean())
    return torch.stack(losses).mean()


def hlformer(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, HLFormer."""
    chosen = settings.objectives
    weights, diverse = chosen.nce.weights, chosen.query_diversity
    return literal_hlformer.loss(
        model,
        batch,
        margin=chosen.triplet.margin,
        hard=True,
        pool=chosen.triplet.hard_pool,
        nce=(weights["clip"], weights["frame"]),
        diversity=(diverse.weight, diverse.delta, diverse.alpha, diverse.focus),
        cones=chosen.entailment.weight,
    )


LOSSES = {"ms_sl": ms_sl, "gmmformer": gmmformer, "gmmformer_v2": gmmformer, "ral": ral, "hlformer": hlformer}
