"""HLFormer (docs/methods.md, HLFormer) written out literally: every layer whole, every loss a query or a pair at a time.

Own code on this project's parameters, for two uses only: the tests compare values and gradients against it, the benchmarks compare time
and memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import literal
from benchmarks.literal_model import _attend, _feed_forward, _linear, _position, _project, _scores, encoder_layer
from pipeline.models.hlformer import Cones, HlFormer, HybridBlock, HybridBranch
from pipeline.models.lorentz_layer import LorentzAttention, LorentzLayer, LorentzLinear


def product(x: Tensor, y: Tensor) -> Tensor:
    """<x, y>_L."""
    return (x[..., 1:] * y[..., 1:]).sum(-1, keepdim=True) - x[..., :1] * y[..., :1]


def _heads(module: LorentzLinear, points: Tensor, drop: float, training: bool) -> Tensor:
    """Step 3. Shapes: [B, L, D] -> [B, heads, L, D/heads]."""
    rows = _linear(module.linear, F.dropout(points, drop, training))
    rows = rows.view(*rows.shape[:2], module.heads, -1).permute(0, 2, 1, 3)
    time = torch.sigmoid(rows[..., :1]) * module.log_scale.exp() + 1.1
    space = rows[..., 1:] / rows[..., 1:].norm(dim=-1, keepdim=True) * torch.sqrt(time**2 - 1)
    return torch.cat([time, space], dim=-1)


def lorentz_attention(module: LorentzAttention, tokens: Tensor, mask: Tensor | None, window: Tensor | None) -> Tensor:
    """Steps 1-6, and the projection of step 7. Shapes: [B, L, H] -> same."""
    drop, training = module.dropout, module.training
    u = _project(module.inwards, tokens) * module.log_scale.exp()
    length = u.norm(dim=-1, keepdim=True)
    space = torch.sinh(length.clamp_max(10)) * u / length
    points = torch.cat([torch.sqrt(1 + (space**2).sum(-1, keepdim=True)), space], dim=-1)
    query, key, value = (_heads(m, points, drop, training) for m in (module.query, module.key, module.value))
    products = torch.matmul(query[..., 1:], key[..., 1:].transpose(-1, -2)) - torch.matmul(query[..., :1], key[..., :1].transpose(-1, -2))
    logits = (2 + 2 * products) / module.logit_scale + module.logit_bias
    if window is not None:
        logits = logits * window
    if mask is not None:
        logits = logits + (1 - mask[:, None, None, :]) * -1e18
    mean = torch.matmul(torch.softmax(logits, dim=-1), value)
    context = mean / torch.sqrt(product(mean, mean).abs())
    together = context.permute(0, 2, 1, 3).contiguous().view(*tokens.shape[:2], -1)
    time = together[..., :1].clamp_min(1 + 4 * torch.finfo(together.dtype).eps)  # float32 rounds centroids near the origin below it
    return _project(module.outwards, torch.acosh(time) / torch.sqrt(time**2 - 1) * together[..., 1:] / module.log_scale.exp())


def lorentz_layer(layer: LorentzLayer, tokens: Tensor, mask: Tensor | None, window: Tensor | None) -> Tensor:
    """Step 7. Shapes: [B, L, H] -> same."""
    attended = F.dropout(lorentz_attention(layer.attention, tokens, mask, window), layer.dropout, layer.training)
    tokens = layer.norm1(tokens + attended)
    return layer.norm2(tokens + _feed_forward(layer.feed_forward, tokens, layer.dropout))


def block(module: HybridBlock, tokens: Tensor, mask: Tensor | None) -> Tensor:
    """Eight layers; the mean of their outputs attends to each through full projections. Shapes: [B, L, H] -> same."""
    part, outputs, logits = module.consolidation, [], []
    windows = [None if width is None else window for width, window in zip(module.widths, module.windows, strict=True)]
    for layer, window in zip(module.euclidean, windows, strict=True):
        outputs.append(encoder_layer(layer, tokens, mask, window, None))
    for layer, window in zip(module.hyperbolic, windows, strict=True):
        outputs.append(lorentz_layer(layer, tokens, mask, window))
    query = torch.stack(outputs, dim=1).mean(dim=(1, 2))[:, None]
    for output in outputs:
        attended = _attend(part.attention, query, output, mask, None, None, part.dropout)
        read = part.norm1(query + F.dropout(attended, part.dropout, part.training))
        read = part.norm2(read + _feed_forward(part.feed_forward, read, part.dropout))
        logits.append(_linear(part.logits, F.dropout(F.relu(_linear(part.hidden, read)), part.dropout, part.training)))
    weights = torch.softmax(torch.cat(logits, dim=1) / part.temperature, dim=1)  # [B, K, L]
    output = (torch.stack(outputs, dim=1) * weights[..., None]).sum(dim=1)
    return output if mask is None else output * mask[..., None]


def _branch(module: HybridBranch, rows: Tensor, mask: Tensor | None) -> Tensor:
    return block(module.block, _position(module.positions, _project(module.projection, rows)), mask)


def encode_query(model: HlFormer, batch: dict[str, Tensor]) -> Tensor:
    """One vector a query."""
    part, mask = model.query, batch["word_mask"]
    words = encoder_layer(part.layer, _position(part.positions, _project(part.projection, batch["words"])), mask, None, None)
    weights = torch.softmax(_linear(part.pooling.linear, words) + (1 - mask[..., None]) * -1e10, dim=1)
    return torch.matmul(weights.transpose(1, 2), words).squeeze(1)


def encode(model: HlFormer, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Frame tokens, clip tokens, queries, and queries a second time."""
    frames = _branch(model.frame, batch["frames"], batch["frame_mask"])
    return frames, _branch(model.clip, batch["clips"], None), encode_query(model, batch), encode_query(model, batch)


def _exponential(tangent: Tensor, curvature: Tensor) -> Tensor:
    length = tangent.norm() * curvature.sqrt()
    return torch.sinh(length) * tangent / length


def entailment(module: Cones, frames: Tensor, clips: Tensor, query: Tensor, labels: Tensor) -> Tensor:
    """Step 9, one query at a time."""
    c, losses = module.log_curvature.exp(), []
    for text, label in zip(query, labels.tolist(), strict=True):
        pooled = []
        for pooling, tokens in ((module.frames, frames[label]), (module.clips, clips[label])):
            weights = torch.softmax(_linear(pooling.linear, tokens), dim=0)
            pooled.append((weights * tokens).sum(dim=0))
        v = _exponential(module.log_video_scale.exp() * (pooled[0] + pooled[1]) / 2, c)
        t = _exponential(module.log_query_scale.exp() * text, c)
        time_v, time_t = torch.sqrt(1 / c + v @ v), torch.sqrt(1 / c + t @ t)
        d = c * (v @ t - time_v * time_t)
        angle = torch.acos((time_t + d * time_v) / (v.norm() * torch.sqrt(d**2 - 1)))
        aperture = torch.asin(0.2 / (c.sqrt() * v.norm()))
        losses.append((angle - aperture).clamp_min(0))
    return torch.stack(losses).mean()


def query_diversity(query: Tensor, labels: Tensor, delta: float, alpha: float, focus: float) -> Tensor:
    """docs/methods.md, GMMFormer v2, one pair at a time."""
    total = torch.zeros((), dtype=query.dtype)
    for i, first in enumerate(query):
        for j, second in enumerate(query):
            if i != j and labels[i] == labels[j]:
                cosine = F.cosine_similarity(first, second, dim=0)
                total = total + (1 + cosine) ** focus * F.softplus(alpha * (cosine + delta))
    return total / len(query)


def loss(
    model: HlFormer,
    batch: dict[str, Tensor],
    *,
    margin: float,
    hard: bool,
    pool: int,
    nce: tuple[float, float],
    diversity: tuple[float, float, float, float],
    cones: float,
) -> dict[str, Tensor]:
    """Every weighted term; `diversity` = weight, delta, alpha, lambda."""
    frames, clips, query, again = encode(model, batch)
    labels, terms = batch["labels"], {}
    for name, tokens, weight in (("clip", clips, nce[0]), ("frame", frames, nce[1])):
        cosine, dot = _scores(query, tokens)
        terms[f"nce_{name}"] = weight * literal.nce(dot, labels)
        terms[f"triplet_{name}"] = literal.triplet(cosine, labels, margin, hard, pool)
    terms["query_diversity"] = diversity[0] * query_diversity(again, labels, *diversity[1:])
    terms["entailment"] = cones * entailment(model.cones, frames, clips, again, labels)
    return terms
