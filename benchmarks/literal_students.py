"""DL-DKD, DL-DKD++, AMDNet and BGM-Net (docs/methods.md) written out literally: layer by layer, the losses a query or a video at a time.

Own code on this project's parameters, for two uses only: the tests compare values and gradients against it, the benchmarks compare time
and memory. A batch holds what benchmarks/literal_methods.py says, and `sentence` [Q, T] for AMDNet, `teacher_frames` [B, F, T] and
`teacher_sentences` [Q, T] for DL-DKD.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks import literal, literal_gmmformer, literal_ms_sl
from benchmarks.literal_model import _attend, _linear, _position, _project, _scores
from pipeline.config.method import Experiment

Batch = dict[str, Tensor]
Terms = dict[str, Tensor]
OUTSIDE = -1e10


def dl_dkd(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, DL-DKD and DL-DKD++."""
    chosen, labels, mask = settings.objectives, batch["labels"], batch["frame_mask"]
    epoch, terms, plus_plus = chosen.triplet.hard_start_epoch, {}, model.settings.plus_plus
    for branch in model.branches:
        part, frames = model.query[branch], model.frame[branch]
        words = _position(part.positions, _project(model.words[branch if plus_plus else "inheritance"], batch["words"]))
        words = literal_gmmformer.attention_layer(part.layer, words, batch["word_mask"], None)
        query = literal_gmmformer._attention_pool(part.pooling.linear, words, batch["word_mask"])
        rows = _position(frames.positions, _project(frames.projection, batch["frames"]))
        tokens = _linear(frames.output, literal_gmmformer.attention_layer(frames.layer, rows, mask, None))
        cosine, dot = (_best(F.normalize(query, dim=-1), F.normalize(tokens, dim=-1), mask), _best(query, tokens, mask))
        terms[f"triplet_{branch}"] = literal.triplet(cosine, labels, chosen.triplet.margin, True, chosen.triplet.hard_pool)
        if plus_plus:
            taught = _best(batch["teacher_sentences"], batch["teacher_frames"], mask) if branch == "inheritance" else dot
            terms[f"soft_nce_{branch}"] = chosen.soft_nce.weights[branch] * soft_nce(dot, labels, taught, epoch)
        else:
            terms[f"nce_{branch}"] = chosen.nce.weights[branch] * literal.nce(dot, labels)
        if branch == "inheritance":
            part = chosen.distillation
            terms["distillation"] = part.weight * part.decay**epoch * divergence(query, tokens, batch, part.temperature)
    return terms


def _best(query: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """The best of a video's own frames. Shapes: [Q, H], [B, F, H], [B, F] -> [Q, B]."""
    products = torch.matmul(tokens, query.t()).permute(2, 0, 1)
    return products.masked_fill(mask[None] == 0, OUTSIDE).max(dim=2).values


def divergence(query: Tensor, tokens: Tensor, batch: Batch, temperature: float) -> Tensor:
    """DL-DKD 3, one query at a time with the frames of its own video."""
    losses = []
    for i, label in enumerate(batch["labels"].tolist()):
        real = batch["frame_mask"][label] > 0
        seen, own = batch["teacher_frames"][label][real], tokens[label][real]
        teacher = torch.softmax(F.cosine_similarity(batch["teacher_sentences"][i][None], seen, dim=1) / temperature, dim=0)
        student = torch.log_softmax(F.cosine_similarity(query[i][None], own, dim=1) / temperature, dim=0)
        losses.append((teacher * (teacher.log() - student)).sum())
    return torch.stack(losses).sum()


def soft_nce(dot: Tensor, labels: Tensor, reference: Tensor, epoch: int) -> Tensor:
    """DL-DKD 4, a query and a video at a time: hard rows are those of the videos with most captions."""
    queries, videos = dot.shape
    s = 800 / (800 + math.exp(epoch / 8))
    alpha, beta = 0.8 * s, max(0.8 * s, 0.5)
    owned = [[q for q, label in enumerate(labels.tolist()) if label == v] for v in range(videos)]
    order = sorted(range(videos), key=lambda v: -len(owned[v]))
    hard_videos = set(order[: math.floor(alpha * videos)])
    hard_queries = set([q for v in order for q in owned[v]][: math.floor(alpha * queries)])
    rows: dict[bool, list[Tensor]] = {True: [], False: []}
    columns: dict[bool, list[Tensor]] = {True: [], False: []}
    for q in range(queries):
        target = F.one_hot(labels[q], videos).to(dot.dtype)
        if q not in hard_queries:
            target = (1 - beta) * torch.softmax(reference[q], dim=0) + beta * target
        rows[q in hard_queries].append(dot[q].logsumexp(0) - (target * dot[q]).sum())
    for v in range(videos):
        target = torch.zeros(queries, dtype=dot.dtype)
        target[owned[v]] = 1
        if v not in hard_videos:
            target = (1 - beta) * torch.softmax(reference[:, v], dim=0) + beta * target
        columns[v in hard_videos].append(dot[:, v].logsumexp(0) - ((target + 1e-12).log() + dot[:, v]).logsumexp(0))

    def mean(values: list[Tensor]) -> Tensor:
        return torch.stack(values).mean() if values else torch.zeros((), dtype=dot.dtype)

    return alpha * (mean(rows[True]) + mean(columns[True])) + (1 - alpha) * (mean(rows[False]) + mean(columns[False]))


def amdnet(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, AMDNet 1-4."""
    chosen, labels, spans = settings.objectives, batch["labels"], settings.objectives.spans
    query, again = _project(model.query, batch["sentence"]), _project(model.query, batch["sentence"])
    rows = _position(model.positions, _project(model.projection, batch["clips"]))
    summary = _linear(model.summary, model.norm(rows.mean(dim=1)))
    predicted = torch.sigmoid(_linear(model.spans, summary))
    windows = torch.stack([torch.stack([_window(span, rows.shape[1]) for span in of.view(-1, 2)]) for of in predicted])
    plain = literal_gmmformer.attention_layer(model.plain, rows, None, None)
    part = model.windowed
    attended = _linear(part.output, _attend(part.attention, plain, plain, None, windows[:, :, None], None, part.dropout))
    windowed = part.norm(plain + F.dropout(attended, part.dropout, part.training))
    _, dot = _scores(query, (plain + windowed) / 2)
    apart, answered = [], []
    for values in windows:
        shares = values / values.sum(dim=1, keepdim=True)
        apart.append((spans.overlap * torch.eye(len(shares)) - shares @ shares.t()).square().sum())
    for said, label in zip(again, labels.tolist(), strict=True):
        moments = torch.stack([(window[:, None] * rows[label]).sum(dim=0) for window in windows[label]])
        whole = F.cosine_similarity(said, summary[label], dim=0)
        answered.append((spans.margin + whole - F.cosine_similarity(said[None], moments, dim=1).max()).clamp_min(0))
    return {
        "nce_clip": chosen.nce.weights["clip"] * literal.nce(dot, labels),
        "span_diversity": spans.diversity * torch.stack(apart).mean(),
        "span_relevance": spans.relevance * torch.stack(answered).mean(),
    }


def _window(span: Tensor, length: int) -> Tensor:
    """AMDNet 2, with the maximum taken off the exponent. Shapes: [2] -> [L]."""
    exponent = -((torch.linspace(0, 1, length) - span[0]) ** 2) / (2 * (span[1].clamp_min(0.01) / 9) ** 2)
    return (exponent - exponent.max()).exp()


def bgm_net(model: Any, batch: Batch, settings: Experiment) -> Terms:
    """docs/methods.md, BGM-Net 1-5, while matching."""
    query, clips, frames = literal_ms_sl.encode(model, batch)
    labels, chosen = batch["labels"], settings.objectives
    key = torch.zeros(len(query), dtype=torch.int64)
    for video, own in enumerate(clips):
        asked = (labels == video).nonzero()[:, 0]
        cosine = F.normalize(query[asked], dim=-1) @ F.normalize(own, dim=-1).t()
        key[asked] = cosine.argmax(dim=1)
        rows, columns = linear_sum_assignment(-cosine.detach().cpu().numpy())
        key[asked[torch.from_numpy(rows)]] = torch.from_numpy(columns).to(key)
    matched = torch.stack([clips[label][key[i]] for i, label in enumerate(labels.tolist())])
    cosine, dot = (scores.clone() for scores in _scores(query, clips))
    for i, label in enumerate(labels.tolist()):
        cosine[i, label] = F.cosine_similarity(query[i], matched[i], dim=0)
        dot[i, label] = query[i] @ matched[i]
    unit, other = F.normalize(query, dim=-1), F.normalize(matched, dim=-1)
    apart = torch.stack([(unit @ one - other @ two).abs().mean() for one, two in zip(unit, other, strict=True)])
    terms = literal_ms_sl.terms(model, query, (cosine, dot), matched, frames, batch, settings)
    return terms | {"relations": chosen.relations.weight * apart.mean()}


LOSSES = {"dl_dkd": dl_dkd, "dl_dkd_plus_plus": dl_dkd, "amdnet": amdnet, "bgm_net": bgm_net}
