"""The encoder, the loading and the optimiser of a training step as released (docs/method.md 2, 5, 7), written out literally.

Own code on this project's parameters, for two uses only: the tests compare values against it, the benchmarks compare time and memory.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import literal
from pipeline.models.blocks import EncoderLayer, GaussianMixtureBlock
from pipeline.models.dual import VideoBranch
from pipeline.models.layers import Attention, FeedForward, InputProjection, LearnedPositionalEncoding
from pipeline.models.msc import DualBranch
from pipeline.training.optimizer import BertAdam


def _linear(module: torch.nn.Linear, rows: Tensor) -> Tensor:
    return F.linear(rows, module.weight, module.bias)


def _project(module: InputProjection, rows: Tensor) -> Tensor:
    return F.relu(_linear(module.linear, F.dropout(module.norm(rows), module.dropout, module.training)))


def _position(module: LearnedPositionalEncoding, tokens: Tensor) -> Tensor:
    index = torch.arange(tokens.shape[1]).repeat(len(tokens), 1)
    return F.dropout(module.norm(tokens + module.table(index)), module.dropout, module.training)


def _attend(
    module: Attention, query: Tensor, tokens: Tensor, mask: Tensor | None, window: Tensor | None, size: Tensor | None, drop: float
) -> Tensor:
    """docs/method.md 5.3: logits / sqrt(d), times the window, plus mask, plus log size; softmax; dropout."""
    heads = module.heads
    q, k, v = (
        _linear(m, t).view(len(t), -1, heads, m.out_features // heads).permute(0, 2, 1, 3)
        for m, t in ((module.query, query), (module.key, tokens), (module.value, tokens))
    )
    logits = torch.matmul(q, k.transpose(-1, -2)) / math.sqrt(q.shape[-1])
    if window is not None:
        logits = logits * window
    if mask is not None:
        logits = logits + (1 - mask[:, None, None, :]) * -10000.0
    if size is not None:
        logits = logits + size.log()[:, None, None, :]
    weights = F.dropout(torch.softmax(logits, dim=-1), drop, module.training)
    return torch.matmul(weights, v).permute(0, 2, 1, 3).contiguous().view(len(query), -1, heads * q.shape[-1])


def _feed_forward(module: FeedForward, tokens: Tensor, drop: float) -> Tensor:
    inner = F.dropout(F.relu(_linear(module.expand, tokens)), drop, module.training)
    return F.dropout(_linear(module.contract, inner), drop, module.training)


def encoder_layer(layer: EncoderLayer, tokens: Tensor, mask: Tensor | None, window: Tensor | None, size: Tensor | None) -> Tensor:
    """docs/method.md 5.3. Shapes: [B, L, H] -> same."""
    attended = F.dropout(_attend(layer.attention, tokens, tokens, mask, window, size, layer.dropout), layer.dropout, layer.training)
    tokens = layer.norm1(tokens + attended)
    return layer.norm2(tokens + _feed_forward(layer.feed_forward, tokens, layer.dropout))


def block(module: GaussianMixtureBlock, tokens: Tensor, token: Tensor, mask: Tensor | None, size: Tensor | None) -> Tensor:
    """docs/method.md 5.4-5.5: eight layers one by one, the token attends to each through full projections. Shapes: [B, L, H] -> same."""
    part = module.consolidation
    outputs, logits = [], []
    for layer, width, window in zip(module.layers, module.widths, module.windows, strict=True):
        outputs.append(encoder_layer(layer, tokens, mask, None if width is None else window, size))
        query = token.repeat(len(tokens), 1, 1)
        attended = _attend(part.attention, query, outputs[-1], mask, None, None, part.dropout)
        read = part.norm1(query + F.dropout(attended, part.dropout, part.training))
        read = part.norm2(read + _feed_forward(part.feed_forward, read, part.dropout))
        logits.append(_linear(part.logits, F.dropout(F.relu(_linear(part.hidden, read)), part.dropout, part.training)))
    weights = torch.softmax(torch.cat(logits, dim=1) / part.temperature, dim=1)  # [B, K, L]
    return (torch.stack(outputs, dim=1) * weights[..., None]).sum(dim=1)


def _branch(module: VideoBranch, rows: Tensor, token: Tensor, mask: Tensor | None, size: Tensor | None) -> Tensor:
    return block(module.block, _position(module.positions, _project(module.projection, rows)), token, mask, size)


def encode(model: DualBranch, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Frame tokens, clip tokens, pooled queries of a collated batch."""
    frames = _branch(model.frame, batch["frames"], model.token, batch["frame_mask"], None)
    clips = _branch(model.clip, batch["clips"], model.token, None, batch["sizes"])
    part, mask = model.query, batch["word_mask"]
    words = encoder_layer(part.layer, _position(part.positions, _project(part.projection, batch["words"])), mask, None, None)
    weights = torch.softmax(_linear(part.pooling.linear, words) + (1 - mask[..., None]) * -1e10, dim=1)
    return frames, clips, torch.matmul(weights.transpose(1, 2), words).squeeze(1)


def _scores(query: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """docs/method.md 6.1: the best token, once by cosine and once by dot product, each its own product."""
    cosine = torch.matmul(F.normalize(tokens, dim=-1), F.normalize(query, dim=-1).t()).permute(2, 1, 0).max(dim=1).values
    return cosine, torch.matmul(tokens, query.t()).permute(2, 1, 0).max(dim=1).values


def loss(
    model: DualBranch, batch: dict[str, Tensor], *, margin: float, hard: bool, pool: int, nce: tuple[float, float], tau: float
) -> Tensor:
    """docs/method.md 6.7."""
    frames, clips, query = encode(model, batch)
    labels, total = batch["labels"], torch.zeros(())
    for tokens, weight in ((clips, nce[0]), (frames, nce[1])):
        cosine, dot = _scores(query, tokens)
        total = total + weight * literal.nce(dot, labels) + literal.triplet(cosine, labels, margin, hard, pool)
    total = total + 15 * literal.tcpl_distance(query, batch["teacher"]) + 30 * literal.tcpl_angle(query, batch["teacher"])
    aligned = _linear(model.alignment, frames), _linear(model.alignment, clips)
    return total + 0.1 * literal.cbva(*aligned, batch["clips"], batch["sizes"], batch["frame_to_clip"], tau)


def _unit(rows: Tensor) -> Tensor:
    return rows / (rows.norm(dim=-1, keepdim=True) + 1e-5)


def load(videos: list[np.ndarray], captions: list[list[np.ndarray]], max_words: int) -> dict[str, Tensor]:
    """docs/method.md 2.2, 3.1: every video pooled and merged by itself at every step, captions padded one at a time."""
    frames, clips, sizes, places = [], [], [], []
    for rows in videos:
        pooled = torch.from_numpy(literal.pool(rows, 128))
        merged, size, place = literal.op_tome(pooled)
        frames.append(_unit(pooled))
        clips.append(_unit(merged))
        sizes.append(size)
        places.append(place)
    words = [_unit(torch.from_numpy(caption))[:max_words] for group in captions for caption in group]
    padded = torch.zeros(len(words), max(map(len, words)), words[0].shape[1])
    mask = torch.zeros(padded.shape[:2])
    for i, caption in enumerate(words):
        padded[i, : len(caption)], mask[i, : len(caption)] = caption, 1
    labels = torch.tensor([i for i, group in enumerate(captions) for _ in group])
    return {
        "frames": torch.stack(frames),
        "frame_mask": torch.ones(len(frames), 128),
        "clips": torch.stack(clips),
        "sizes": torch.stack(sizes),
        "frame_to_clip": torch.stack(places),
        "words": padded,
        "word_mask": mask,
        "teacher": torch.stack([caption[-1] for caption in words]),
        "labels": labels,
    }


class LiteralAdam(BertAdam):
    """docs/method.md 7.1, one parameter and one operation at a time."""

    @torch.no_grad()
    def step(self) -> Tensor:
        rate = self.rate
        for name, parameter in self.parameters.items():
            if parameter.grad is None:
                continue
            torch.nn.utils.clip_grad_norm_(parameter, self.clip_norm)
            first, second = self.first[name], self.second[name]
            first.mul_(0.9).add_(parameter.grad, alpha=0.1)
            second.mul_(0.999).addcmul_(parameter.grad, parameter.grad, value=0.001)
            update = first / (second.sqrt() + 1e-6)
            if self.decays(name):
                update += self.weight_decay * parameter
            parameter.add_(-rate * update)
        self.steps += 1
        return torch.zeros(())
