"""How many contexts a video has, and which clips share one: from frozen features only, so once per video (paper Algorithms 2-3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import normalize


class Contexts(NamedTuple):
    """Contexts of a batch of videos. Shapes: `assignment` [V, C] int64 context of each clip, `counts` [V] int64, `ratio` [V] in [0, 1]."""

    assignment: Tensor
    counts: Tensor
    ratio: Tensor


def contexts(
    clips: Tensor,
    sizes: Tensor,
    levels: Sequence[int],
    tau: float,
    *,
    context_ratio: str = "closure",
    context_choice: str = "at_least",
    context_merge: str = "greedy",
) -> Contexts:
    """The adaptive contexts: the more of a video's clips are alike, the fewer contexts it gets.

    Shapes: `clips` [V, C, D] frozen clip rows, `sizes` [V, C]; `levels` the context counts, C first. The keywords are the switches of
    the same name in the configuration. Source: paper Eq. 7-9, docs/method.md 4.
    """
    clips = normalize(clips, dim=-1)
    ratios = ratio(similarities(clips), tau, context_ratio)
    level = choose(ratios, len(levels), context_choice)
    assignments = levels_of(clips, sizes, levels, context_merge)
    assignment = assignments[level, torch.arange(len(clips), device=clips.device)]
    return Contexts(assignment, torch.tensor(levels, device=clips.device)[level], ratios)


def similarities(clips: Tensor) -> Tensor:
    """Cosines between a video's clips. Shapes: [V, C, D] -> [V, C, C]."""
    clips = normalize(clips, dim=-1)
    return clips @ clips.mT


def ratio(similar: Tensor, tau: float, kind: str = "closure") -> Tensor:
    """Share of ordered clip pairs above tau: each pair by itself ("pairs", paper) or connected through others ("closure", released).

    "closure" equals sum n(n-1) over connected components of n clips, over C(C-1). Shapes: [V, C, C] -> [V]; 1 for a single clip.
    Source: paper Eq. 7, docs/method.md 4.1.
    """
    clips = similar.shape[-1]
    if clips == 1:
        return torch.ones(len(similar), dtype=similar.dtype, device=similar.device)
    itself = torch.eye(clips, dtype=torch.bool, device=similar.device)
    linked = (similar > tau) | itself
    if kind == "closure":
        reach = 1
        while reach < clips - 1:  # squaring doubles the length of the paths seen
            linked = linked.to(similar.dtype) @ linked.to(similar.dtype) > 0
            reach *= 2
    return (linked & ~itself).sum(dim=(1, 2)).to(similar.dtype) / (clips * (clips - 1))


def choose(ratios: Tensor, levels: int, bound: str = "at_least") -> Tensor:
    """The level of each video: how many of the thresholds 1/K ... (K-1)/K its ratio reaches ("at_least") or exceeds ("above").

    Level 0 merges nothing. Shapes: [V] -> int64 [V]. Source: paper Eq. 8 in the order of meaning, docs/method.md 4.2.
    """
    # As literals: k / 5 in float32 and the float32 ratio 0.6 fall on the same number, so that a ratio on a threshold counts as there.
    thresholds = torch.arange(1, levels, device=ratios.device, dtype=torch.float64) / levels
    ratios = ratios[:, None].to(torch.float32)
    thresholds = thresholds.to(torch.float32)
    reached = ratios >= thresholds if bound == "at_least" else ratios > thresholds
    return reached.sum(dim=1)


def levels_of(clips: Tensor, sizes: Tensor, levels: Sequence[int], method: str = "greedy") -> Tensor:
    """The context of every clip at every level, each level merged from the one before.

    A step matches the even positions with the odd ones by cosine and merges by size-weighted mean, "greedy": one to one, the best pair
    first, kept at the even position; "tome": each even position's best odd one, many to one, kept at the odd position. Survivors keep
    their order, which numbers the contexts. Ties: the lower even, then the lower odd position.

    Shapes: `clips` [V, C, D], `sizes` [V, C] -> int64 [K, V, C], values below levels[k]. Source: docs/method.md 4.3; ToMe (Bolya 2023).
    """
    videos, count, _ = clips.shape
    assignment = torch.arange(count, device=clips.device).expand(videos, count)
    assignments = [assignment]
    for target in levels[1:]:
        into = _match(clips, clips.shape[1] - target, method)
        clips, sizes, place = _fold(clips, sizes, into, target)
        assignment = place.gather(1, assignment)
        assignments.append(assignment)
    return torch.stack(assignments)


def _match(rows: Tensor, merges: int, method: str) -> Tensor:
    """Which position each position goes into (its own when it stays). Shapes: [V, n, D] -> int64 [V, n]."""
    videos, length, _ = rows.shape
    unit = normalize(rows, dim=-1)
    similar = unit[:, 0::2] @ unit[:, 1::2].mT
    into = torch.arange(length, device=rows.device).repeat(videos, 1)
    if method == "tome":
        best, partner = _first_max(similar)
        going = best.argsort(dim=1, descending=True, stable=True)[:, :merges]
        return into.scatter(1, 2 * going, 2 * partner.gather(1, going) + 1)
    batch, odds = torch.arange(videos, device=rows.device), similar.shape[2]
    for _ in range(merges):
        _, place = _first_max(similar.flatten(1)[:, None])
        even, odd = place[:, 0] // odds, place[:, 0] % odds
        into[batch, 2 * odd + 1] = 2 * even
        similar[batch, even] = float("-inf")
        similar[batch, :, odd] = float("-inf")
    return into


def _first_max(values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest value of each row and its first place (argmax promises no order among equals). Shapes: [V, m, n] -> [V, m] twice."""
    best = values.amax(dim=2)
    places = torch.arange(values.shape[2], device=values.device)
    return best, torch.where(values == best[:, :, None], places, values.shape[2]).amin(dim=2)


def _fold(rows: Tensor, sizes: Tensor, into: Tensor, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Merge every position into its place. Shapes: [V, n, D], [V, n], [V, n] -> [V, target, D], [V, target], new index [V, n]."""
    stays = into == torch.arange(into.shape[1], device=into.device)
    place = (stays.cumsum(dim=1) - 1).gather(1, into)
    mass = torch.zeros(len(rows), target, dtype=sizes.dtype, device=rows.device).scatter_add_(1, place, sizes)
    summed = torch.zeros(len(rows), target, rows.shape[2], dtype=rows.dtype, device=rows.device)
    summed.scatter_add_(1, place[:, :, None].expand_as(rows), rows * sizes[:, :, None].to(rows.dtype))
    return summed / mass[:, :, None], mass, place
