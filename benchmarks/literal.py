"""The released behaviour (docs/method.md 1-6), written out literally: a query, a video, a pair at a time.

Own code, for two uses only: the tests compare values and gradients against it, the benchmarks compare time and memory.
"""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize, smooth_l1_loss

LEVELS = (32, 20, 12, 8, 5)


def nce(dot: Tensor, labels: Tensor) -> Tensor:
    """docs/method.md 6.2, one query and one video at a time."""
    queries, videos = dot.shape
    owned: dict[int, list[int]] = {}
    for query, label in enumerate(labels.tolist()):
        owned.setdefault(label, []).append(query)
    rows = [dot[q].logsumexp(0) - dot[q, int(labels[q])] for q in range(queries)]
    columns = [dot[:, v].logsumexp(0) - dot[owned[v], v].logsumexp(0) for v in range(videos)]
    return torch.stack(rows).mean() + torch.stack(columns).mean()


def triplet(cosine: Tensor, labels: Tensor, margin: float, hard: bool, pool: int) -> Tensor:
    """docs/method.md 6.3, negatives collected per video and per query."""
    queries, videos = cosine.shape
    video_losses, query_losses = [], []
    for video in range(videos):
        own = [q for q in range(queries) if int(labels[q]) == video]
        others = [q for q in range(queries) if int(labels[q]) != video]
        scores = cosine[others, video]
        negative = scores.max() if hard else scores[random.randrange(len(others))]
        video_losses.append((margin + negative - cosine[own, video].mean()).clamp_min(0))
    for query in range(queries):
        label = int(labels[query])
        others = [v for v in range(videos) if v != label]
        scores = cosine[query, others].sort(descending=True).values
        negative = scores[random.randrange(min(pool, len(others)) if hard else len(others))]
        query_losses.append((margin + negative - cosine[query, label]).clamp_min(0))
    return torch.stack(video_losses).mean() + torch.stack(query_losses).mean()


def distances(rows: Tensor) -> Tensor:
    """Pairwise distances, coincident rows at sqrt(1e-12), diagonal 0."""
    squared = (rows[:, None] - rows).square().sum(dim=2)
    return squared.clamp_min(1e-12).sqrt() * (1 - torch.eye(len(rows), dtype=rows.dtype))


def tcpl_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """docs/method.md 6.4, L_E: each matrix over the mean of its positive entries, smooth-L1 over all entries."""
    with torch.no_grad():
        target = distances(teacher)
        target = target / target[target > 0].mean()
    found = distances(student)
    return smooth_l1_loss(found / found[found > 0].mean(), target)


def angles(rows: Tensor) -> Tensor:
    """All Q^3 cosines at every anchor, from Q^2 x D differences."""
    differences = normalize(rows[None] - rows[:, None], dim=2)
    return torch.bmm(differences, differences.transpose(1, 2))


def tcpl_angle(student: Tensor, teacher: Tensor) -> Tensor:
    """docs/method.md 6.5, L_A."""
    with torch.no_grad():
        target = angles(teacher).view(-1)
    return smooth_l1_loss(angles(student).view(-1), target)


def context_ratio(clips: Tensor, tau: float) -> float:
    """docs/method.md 4.1: the transitive closure of "more similar than tau", pair by pair."""
    unit = normalize(clips, dim=1)
    linked = (unit @ unit.T > tau).tolist()
    count = len(linked)
    for through in range(count):
        for i in range(count):
            if linked[i][through]:
                for j in range(count):
                    if linked[through][j]:
                        linked[i][j] = True
    pairs = sum(linked[i][j] for i in range(count) for j in range(count) if i != j)
    return pairs / (count * (count - 1))


def pair_ratio(clips: Tensor, tau: float) -> float:
    """docs/method.md 4.1, the paper's reading: the share of ordered pairs more similar than tau."""
    unit, count = normalize(clips, dim=1), len(clips)
    return sum(float(unit[i] @ unit[j]) > tau for i in range(count) for j in range(count) if i != j) / (count * (count - 1))


def folded(rows: Tensor, sizes: Tensor, place: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Size-weighted means of the rows that share a place, and their sizes."""
    total = torch.zeros(target, dtype=sizes.dtype).index_add(0, place, sizes)
    return torch.zeros(target, rows.shape[1], dtype=rows.dtype).index_add(0, place, rows * sizes[:, None]) / total[:, None], total


def bipartite_merge(frozen: Tensor, sizes: Tensor, target: int) -> Tensor:
    """docs/method.md 4.3: greedy one-to-one matching of even with odd positions; the new index of each position."""
    count = len(frozen)
    unit = normalize(frozen, dim=1)
    similar = unit[0::2] @ unit[1::2].T
    into, used_even, used_odd = list(range(count)), set(), set()
    for place in similar.flatten().argsort(descending=True, stable=True):
        even, odd = divmod(place.item(), similar.shape[1])
        if even in used_even or odd in used_odd:
            continue
        used_even.add(even)
        used_odd.add(odd)
        into[2 * odd + 1] = 2 * even
        if len(used_even) == count - target:
            break
    kept = sorted(set(into))
    return torch.tensor([kept.index(place) for place in into])


def cbva(frames: Tensor, clips: Tensor, frozen: Tensor, sizes: Tensor, frame_to_clip: Tensor, ratios: list[float] | float) -> Tensor:
    """docs/method.md 6.6, video by video; `ratios` are the context ratios, or tau to count them with (as a training step does)."""
    losses = []
    for video in range(len(frames)):
        share = context_ratio(frozen[video], ratios) if isinstance(ratios, float) else ratios[video]
        wanted = LEVELS[min(int(share * 5 + 1e-9), 4)]
        tokens, rows, mass, label = clips[video], frozen[video], sizes[video], frame_to_clip[video].clone()
        for target in LEVELS[1:]:
            if target < wanted:
                break
            place = bipartite_merge(rows, mass, target)
            tokens, _ = folded(tokens, mass, place, target)
            rows, mass = folded(rows, mass, place, target)
            label = place[label]
        own = label[:, None] == torch.arange(len(tokens))
        to_contexts = frames[video] @ tokens.detach().T
        shifted = (to_contexts - to_contexts.max(dim=1, keepdim=True).values).exp()
        positive = torch.stack([shifted[j, own[j]].mean() for j in range(len(label))])
        negative = torch.stack([shifted[j, ~own[j]].mean() for j in range(len(label))])
        loss = -(positive / (positive + negative + 1e-8)).log().mean()
        to_frames = frames[video].detach() @ tokens.T
        shifted = (to_frames - to_frames.max(dim=0, keepdim=True).values).exp()
        positive = torch.stack([shifted[own[:, k], k].mean() for k in range(len(tokens))])
        negative = torch.stack([shifted[~own[:, k], k].mean() for k in range(len(tokens))])
        losses.append(loss - (positive / (positive + negative)).log().mean())
    return torch.stack(losses).mean()


def op_tome(frames: Tensor, schedule: tuple[int, ...] = (80, 52, 32)) -> tuple[Tensor, Tensor, Tensor]:
    """docs/method.md 3.1 for one video, as its loader does it: a new index from a cumulative sum, two index_adds."""
    rows, sizes, label = frames, torch.ones(len(frames), dtype=frames.dtype), torch.arange(len(frames))
    for target in schedule:
        pairs = rows.view(-1, 2, rows.shape[1])
        similar = (pairs[:, 0] * pairs[:, 1]).sum(dim=1)
        order = similar.argsort(descending=True, stable=True)[: len(rows) - target]
        begins = torch.ones(len(rows), dtype=torch.long)
        begins[2 * order + 1] = 0
        place = begins.cumsum(0) - 1
        mass = torch.zeros(target, dtype=rows.dtype).index_add(0, place, sizes)
        rows = torch.zeros(target, rows.shape[1], dtype=rows.dtype).index_add(0, place, rows * sizes[:, None]) / mass[:, None]
        sizes, label = mass, place[label]
    return rows, sizes, label


def pool(rows: np.ndarray, length: int, last_row: str = "drop") -> np.ndarray:
    """docs/method.md 2.2, row by row."""
    edges = np.minimum(np.round(np.arange(length + 1) / length * len(rows)).astype(int), len(rows) - 1)
    if last_row == "keep":
        edges[-1] = len(rows)
    return np.stack([rows[a:b].mean(axis=0) if b > a else rows[a] for a, b in itertools.pairwise(edges)])


def gaussian_window(length: int, width: float) -> Tensor:
    """docs/method.md 5.2, entry by entry, in float64."""
    sigma = max(width, 0.01) / 9
    rows = [[math.exp(-((j / (length - 1) - i / length) ** 2) / (2 * sigma**2)) for j in range(length)] for i in range(length)]
    return torch.tensor([[value / max(row) for value in row] for row in rows], dtype=torch.float64)


def schedule(step: int, total: int, warmup: float) -> float:
    """docs/method.md 7.2."""
    done = step / total
    return done / warmup if done < warmup else max(0.0, (1 - done) / (1 - warmup))


def bert_adam(weight: Tensor, gradients: list[Tensor], rates: list[float], decay: float) -> list[Tensor]:
    """docs/method.md 7.1 for one tensor; its value after each step."""
    first, second, values = torch.zeros_like(weight), torch.zeros_like(weight), []
    for gradient, rate in zip(gradients, rates, strict=True):
        gradient = gradient * min(1.0, 1 / (gradient.square().sum().sqrt().item() + 1e-6))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weight = weight - rate * (first / (second.sqrt() + 1e-6) + decay * weight)
        values.append(weight)
    return values


def ranks(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """docs/method.md 8.2, one competitor at a time."""
    found = []
    for row, own in zip(scores, truth, strict=True):
        better = [v for v in range(len(row)) if row[v] > row[own] or (row[v] == row[own] and v < own)]
        found.append(1 + len(better))
    return np.array(found)


def recalls(places: np.ndarray) -> list[float]:
    """docs/method.md 8.2: R@1, R@5, R@10, R@100 and their sum."""
    at = [100.0 * sum(1 for place in places if place <= k) / len(places) for k in (1, 5, 10, 100)]
    return [*at, sum(at)]
