"""GMMFormer and GMMFormer v2 (docs/methods.md) written out literally: layer by layer, the losses a pair or a video at a time.

Own code on this project's parameters, for two uses only: the tests compare values and gradients against it, the benchmarks compare time
and memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from benchmarks import literal
from benchmarks.literal_hlformer import query_diversity as diversity_by_pair
from benchmarks.literal_model import _attend, _linear, _position, _project, _scores, block, encoder_layer
from pipeline.models.blocks import AttentionLayer
from pipeline.models.gmmformer import GmmFormer, MeanMixtureBlock, RowBranch
from pipeline.models.gmmformer_v2 import GmmFormerV2


def attention_layer(layer: AttentionLayer, tokens: Tensor, mask: Tensor | None, window: Tensor | None) -> Tensor:
    """Layer A. Shapes: [B, L, H] -> same."""
    attended = _linear(layer.output, _attend(layer.attention, tokens, tokens, mask, window, None, layer.dropout))
    return layer.norm(tokens + F.dropout(attended, layer.dropout, layer.training))


def mean_block(module: MeanMixtureBlock, tokens: Tensor, mask: Tensor | None, widths: list[float | None]) -> Tensor:
    """GMMFormer 1. Shapes: [B, L, H] -> same."""
    outputs = []
    for layer, width in zip(module.layers, widths, strict=True):
        window = None if width is None else literal.gaussian_window(tokens.shape[1], width).to(tokens)
        outputs.append(attention_layer(layer, tokens, mask, window))
    return torch.stack(outputs, dim=-1).mean(dim=-1)


def _rows(module: RowBranch, rows: Tensor, mask: Tensor | None) -> Tensor:
    tokens = _position(module.positions, _project(module.projection, rows))
    for part in module.blocks:
        tokens = mean_block(part, tokens, mask, module.widths)
    return tokens


def _attention_pool(weigh: torch.nn.Linear, tokens: Tensor, mask: Tensor) -> Tensor:
    weights = torch.softmax(_linear(weigh, tokens) + (1 - mask[..., None]) * -1e10, dim=1)
    return torch.matmul(weights.transpose(1, 2), tokens).squeeze(1)


def encode_query(model: GmmFormer | GmmFormerV2, batch: dict[str, Tensor]) -> Tensor:
    """One vector a query."""
    part, mask = model.query, batch["word_mask"]
    words = _position(part.positions, _project(part.projection, batch["words"]))
    if isinstance(part.layer, AttentionLayer):
        words = attention_layer(part.layer, words, mask, None)
    else:
        words = encoder_layer(part.layer, words, mask, None, None)
    return _attention_pool(part.pooling.linear, words, mask)


def encode_videos(model: GmmFormer | GmmFormerV2, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """What the frame branch scores with, as tokens [B, 1 or F, H], and the clip tokens."""
    mask = batch["frame_mask"]
    if isinstance(model, GmmFormer):
        return _attention_pool(model.pooling.linear, _rows(model.frame, batch["frames"], mask), mask)[:, None], _rows(
            model.clip, batch["clips"], None
        )
    outputs = []
    for part, rows, real in ((model.frame, batch["frames"], mask), (model.clip, batch["clips"], None)):
        outputs.append(block(part.block, _position(part.positions, _project(part.projection, rows)), model.token, real, None))
    return outputs[0] * mask[..., None], outputs[1]


def diversity_by_query(query: Tensor, labels: Tensor, delta: float, alpha: float) -> Tensor:
    """GMMFormer 5, one query at a time."""
    losses = []
    for i, first in enumerate(query):
        others = [F.cosine_similarity(first, second, dim=0) for j, second in enumerate(query) if i != j and labels[i] == labels[j]]
        total = torch.ones((), dtype=query.dtype)
        for cosine in others:
            total = total + torch.exp(alpha * (cosine + delta))
        losses.append(torch.log(total))
    return torch.stack(losses).mean()


def matching(query: Tensor, clips: Tensor, labels: Tensor) -> Tensor:
    """GMMFormer v2 4, one video at a time."""
    cosines = []
    for video, tokens in enumerate(clips):
        own = query[labels == video]
        if len(own) > 1:
            similarity = F.normalize(own, dim=-1) @ F.normalize(tokens, dim=-1).T
            rows, columns = linear_sum_assignment(-similarity.detach().cpu().numpy())
            cosines.append(similarity[torch.from_numpy(rows), torch.from_numpy(columns)])
    return 1 - torch.cat(cosines).mean()


def loss(
    model: GmmFormer | GmmFormerV2,
    batch: dict[str, Tensor],
    *,
    margin: float,
    hard: bool,
    pool: int,
    nce: tuple[float, float],
    diversity: tuple[float, ...],
    match: float = 0.0,
) -> dict[str, Tensor]:
    """Every weighted term; `diversity` = weight, delta, alpha, and lambda in GMMFormer v2; `match` the weight of the matching in v2."""
    frames, clips = encode_videos(model, batch)
    query, again, labels = encode_query(model, batch), encode_query(model, batch), batch["labels"]
    terms = {}
    for name, tokens, weight in (("clip", clips, nce[0]), ("frame", frames, nce[1])):
        cosine, dot = _scores(query, tokens)
        terms[f"nce_{name}"] = weight * literal.nce(dot, labels)
        terms[f"triplet_{name}"] = literal.triplet(cosine, labels, margin, hard, pool)
    weight, *factors = diversity
    if isinstance(model, GmmFormer):
        return terms | {"query_diversity": weight * diversity_by_query(again, labels, *factors)}
    terms["query_diversity"] = weight * diversity_by_pair(again, labels, *factors)
    return terms | {"optimal_matching": match * matching(again, clips, labels)}
