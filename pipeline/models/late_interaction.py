"""Late interaction: every word of a query finds its best frame of a video, and confident words count more (docs/methods.md, RAL).

The literal form holds queries x videos x words x frames; here a chunk of words is compared with all frames at once, what is kept for the
backward pass is the index of the best frame (one number per word and video), and gradients are sums of rows that were chosen.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.scores import TINY, max_cosine

CHUNK = 1 << 23  # products of words and frames in memory at once (32 MB in float32)


class ConfidenceGate(nn.Module):
    """How much each word of a query counts: a softmax over its words of a two-layer perceptron.

    Shapes: [Q, L, H], mask [Q, L] -> [Q, L], which sum to 1 over the words, 0 at padding.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(hidden, hidden)
        self.contract = nn.Linear(hidden, 1)

    def logits(self, words: Tensor) -> Tensor:
        """Shapes: [..., H] -> [...]."""
        return self.contract(F.relu(self.expand(words))).squeeze(-1)

    def forward(self, words: Tensor, mask: Tensor) -> Tensor:
        # The fill is finite, so that a query without a single word gets no NaN.
        return self.logits(words).masked_fill(mask == 0, torch.finfo(torch.float32).min).softmax(-1) * mask


def confidence_scores(words: Tensor, mask: Tensor, gates: tuple[Tensor, Tensor], frames: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """sum_t g_t max_j <h_t, f_j>, as a cosine and as a dot product, with gradients.

    A padded frame takes part with similarity 0, as in the released form: the score of a video that has padding is never below 0.

    Shapes: `words` [Q, L, H] and their `mask` [Q, L]; `gates` two [Q, L], the weights for the cosine and for the dot product; `frames`
    [V, F, H] and which are `real` [V, F] -> cosine [Q, V], dot [Q, V]. Source: docs/methods.md, RAL 2 (golden ral/d_csa).
    """
    queries, (query, place) = len(words), mask.nonzero(as_tuple=True)
    chosen, frames = words[query, place], frames * real[..., None]
    dot, cosine = _Best.apply(chosen, frames, frames / frames.norm(dim=-1, keepdim=True).clamp_min(TINY))
    cosine = cosine / chosen.norm(dim=-1, keepdim=True).clamp_min(TINY)
    weight = [gate[query, place] for gate in gates]
    return _summed(cosine, weight[0], query, queries), _summed(dot, weight[1], query, queries)


def confidence_cosines(words: Tensor, gate: Tensor, frames: Tensor) -> Tensor:
    """The cosine form for ranking, without gradients.

    Shapes: `words` [Q, L, H] of unit length, `gate` [Q, L], 0 at padding; `frames` [V, F, H] of unit length, zero where padded -> [Q, V].
    """
    query, place = gate.nonzero(as_tuple=True)
    return _summed(max_cosine(words[query, place], frames), gate[query, place], query, len(words))


def _summed(best: Tensor, gate: Tensor, query: Tensor, queries: int) -> Tensor:
    """The sum over a query's words, in float64: these numbers are few. Shapes: `best` [N, V], `gate` [N], `query` [N] -> [Q, V]."""
    weighted = gate.double()[:, None] * best.double()
    return weighted.new_zeros(queries, best.shape[1]).index_add(0, query, weighted).to(best.dtype)


class _Best(torch.autograd.Function):
    """The largest product of a word with a video's frames, and with its frames at unit length.

    Shapes: `words` [N, H], `frames` and `unit` [V, F, H] -> [N, V] each. Memory: CHUNK products, and two indices per word and video.
    """

    @staticmethod
    def forward(ctx: Any, words: Tensor, frames: Tensor, unit: Tensor) -> tuple[Tensor, Tensor]:
        videos, length, width = frames.shape
        flat = frames.reshape(-1, width).T
        shrink = 1 / frames.norm(dim=-1).clamp_min(TINY)
        values = words.new_empty(2, len(words), videos)
        chosen = torch.empty(2, len(words), videos, dtype=torch.int16 if length < 1 << 15 else torch.int64, device=words.device)
        step = max(1, CHUNK // (videos * length))
        space = words.new_empty(min(step, len(words)), videos * length)  # one for all chunks: fresh pages cost as much as the product
        for start in range(0, len(words), step):
            some = words[start : start + step]
            products = torch.mm(some, flat, out=space[: len(some)]).unflatten(1, (videos, length))
            for form in range(2):
                best = (products if form == 0 else products.mul_(shrink)).max(-1)
                values[form, start : start + step], chosen[form, start : start + step] = best.values, best.indices
        ctx.save_for_backward(words, frames, unit, chosen)
        return values[0], values[1]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dot: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        words, frames, unit, chosen = ctx.saved_tensors
        to_frames, by_dot = _chosen_sums(words, frames, chosen[0], dot)
        to_unit, by_cosine = _chosen_sums(words, unit, chosen[1], cosine)
        return by_dot + by_cosine, to_frames, to_unit


def _chosen_sums(words: Tensor, frames: Tensor, chosen: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The gradients of the frames and of the words.

    Shapes: `words` [N, H], `frames` [V, F, H], `chosen`, `weight` [N, V] -> [V, F, H], [N, H].
    """
    videos, length, width = frames.shape
    rows = chosen.long() + torch.arange(videos, device=chosen.device) * length  # [N, V] index into all frames
    by_word = F.embedding_bag(rows, frames.reshape(-1, width), mode="sum", per_sample_weights=weight)
    # The words that chose a frame lie together once sorted by frame; the sort is stable, so the order of the sum is fixed.
    order = rows.flatten().sort(stable=True)
    starts = torch.bincount(order.values, minlength=videos * length).cumsum(0)
    offsets = torch.cat([starts.new_zeros(1), starts])
    by_frame = F.embedding_bag(
        order.indices // videos,
        words,
        offsets,
        mode="sum",
        per_sample_weights=weight.reshape(-1)[order.indices],
        include_last_offset=True,
    )
    return by_frame.view(videos, length, width), by_word
