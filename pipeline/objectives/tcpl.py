"""Text correlation preservation: the queries keep the distances and angles their frozen text encoder gives them (paper Eq. 1-4).

The literal angle term holds Q^2 x D differences and Q^3 angles. Here an angle comes from three distances, some anchors at a time, and
the gradient is gathered in the same sweep, so memory is O(chunk * Q^2) and nothing of it waits for the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pipeline.config.objectives import Objectives
from pipeline.config.objectives import Tcpl as Settings
from pipeline.objectives.base import Objective, Step

T = TypeVar("T")
ANCHORS_PER_WORKER = 64  # fewer are not worth a thread
SAME = 1e-13  # squared distance over squared norms below which two rows are one: under float32's own resolution of the rows
LEAST = 1e-12  # squared distance two coincident queries count as (docs/method.md 10)


class TextCorrelation(Objective):
    """The weighted distance and angle terms between pooled queries and their frozen sentence vectors."""

    needs = frozenset({"query.pooled", "data.teacher"})

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __call__(self, step: Step) -> dict[str, Tensor]:
        assert step.teacher is not None  # `needs` was checked
        return relations("tcpl", self.settings, 1.0, step.query["pooled"], step.teacher)


def build(settings: Settings, among: Objectives) -> TextCorrelation:
    """The objective of `objectives.tcpl`."""
    return TextCorrelation(settings)


def relations(name: str, settings: Settings, factor: float, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    """The weighted distance and angle terms that are switched on. Shapes: `student` [Q, H], `teacher` [Q, T] -> scalars."""
    terms = {}
    if settings.distance:
        terms[f"{name}_distance"] = factor * settings.distance * distance(student, teacher, settings.normaliser)
    if settings.angle:
        terms[f"{name}_angle"] = factor * settings.angle * angle(student, teacher, settings.chunk)
    return terms


def distance(student: Tensor, teacher: Tensor, normaliser: str = "all") -> Tensor:
    """Mean smooth-L1 difference of the two sets' pairwise distances, each divided by its own mean.

    Shapes: `student` [Q, H], `teacher` [Q, T] -> scalar; 0 for a single query. `normaliser` "all": mean over Q^2 entries (released);
    "off_diagonal": over Q(Q-1) (paper). Source: paper Eq. 2, docs/method.md 6.4.
    """
    queries = len(student)
    if queries < 2:
        return student.sum() * 0.0
    with torch.no_grad():
        target = _relative(teacher)
    difference = torch.nn.functional.smooth_l1_loss(_relative(student), target, reduction="sum")
    return (difference / (queries * queries if normaliser == "all" else queries * (queries - 1))).to(student.dtype)


def angle(student: Tensor, teacher: Tensor, chunk: int = 0) -> Tensor:
    """Mean smooth-L1 difference of the two sets' angles, cos(x_j - x_i, x_k - x_i), over all Q^3 triples.

    An angle with a coincident pair is 0 and passes no gradient (its direction does not exist; the literal form sends 1e9 there).

    Shapes: `student` [Q, H], `teacher` [Q, T] -> scalar. `chunk` anchors at a time, 0 chooses: it changes memory and speed, not the
    value. No second derivative. Source: paper Eq. 3, docs/method.md 6.5.
    """
    if chunk == 0:
        chunk = 1 if student.device.type == "cpu" else 64  # one anchor's Q x Q arrays fit a processor's cache
    result: Tensor = _Angle.apply(student, teacher.detach(), chunk)
    return result


def squared_distances(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distances in float64, and which pairs are apart (not the same point). Shapes: [Q, D] -> [Q, Q], bool [Q, Q].

    Queries of a trained model lie close together: centring and double precision keep what the Gram matrix would cancel.
    """
    rows = rows.double()
    rows = rows - rows.mean(dim=0)
    gram = rows @ rows.T
    norms = gram.diagonal()
    squared = norms[:, None] + norms - 2 * gram
    # Only products of the rows matter here, but their own size decides what rounding may have put between two equal ones.
    apart = squared.detach() > SAME * (norms[:, None] + norms).detach()
    return squared, apart & ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)


def _relative(rows: Tensor) -> Tensor:
    """Pairwise distances over their mean. Shapes: [Q, D] -> float64 [Q, Q], diagonal 0."""
    squared, apart = squared_distances(rows)
    lengths = torch.where(apart, squared, LEAST).sqrt()
    lengths = lengths * ~torch.eye(len(rows), dtype=torch.bool, device=rows.device)
    return lengths / (lengths.sum() / (len(rows) * (len(rows) - 1)))


class _Angle(torch.autograd.Function):
    """The angle term and its gradient in one sweep over the anchors.

    With E = squared distances, d = sqrt(E), r = 1/d (0 for coincident pairs), the law of cosines gives for anchor i
        cos_jk = (d_j r_k + r_j d_k - r_j r_k E_jk) / 2,   d_j = d_ij, r_j = r_ij.
    With W = the derivative of smooth-L1 at cos(student) - cos(teacher) (symmetric in j, k) the derivatives are
        by E_jk, as a constant beside d and r:  -1/2 sum_i W_jk r_j r_k
        by d_ij:                                sum_k W_jk (r_k - r_j^2 d_k + r_j^2 r_k E_jk)
    and, through E_ij = |x_i - x_j|^2 and d = sqrt(E), by the rows.
    """

    @staticmethod
    def forward(context: Any, student: Tensor, teacher: Tensor, chunk: int) -> Tensor:
        queries, trained = len(student), context.needs_input_grad[0]
        exact = _sides(student)
        ours, theirs = (_Sides(*(side.to(student.dtype) for side in sides)) for sides in (exact, _sides(teacher)))
        parts = _share_out(lambda first, last: _sweep(ours, theirs, first, last, chunk, trained), queries, student.device)
        scale = 1.0 / queries**3
        if trained:
            by_squared = torch.stack([part[1] for part in parts]).sum(dim=0).double()
            by_length = torch.cat([part[2] for part in parts]).double()
            by_pair = by_length * exact.inverse / 2 - by_squared / 2
            by_pair = by_pair + by_pair.T
            rows = student.double()
            rows = rows - rows.mean(dim=0)
            gradient = 2 * scale * (by_pair.sum(dim=1, keepdim=True) * rows - by_pair @ rows)
            context.save_for_backward(gradient.to(student.dtype))
        return (torch.stack([part[0] for part in parts]).sum() * scale).to(student.dtype)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *incoming: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = context.saved_tensors
        return gradient * incoming[0], None, None


class _Sides(NamedTuple):
    """Squared distances, distances and inverse distances, all 0 for coincident pairs. Shapes: 3 x [Q, Q]."""

    squared: Tensor
    lengths: Tensor
    inverse: Tensor


def _sides(rows: Tensor) -> _Sides:
    """The triangle sides between rows, in float64. Shapes: [Q, D] -> 3 x [Q, Q]."""
    squared, apart = squared_distances(rows)
    squared = torch.where(apart, squared, 0.0)
    lengths = squared.sqrt()
    return _Sides(squared, lengths, torch.where(apart, 1 / lengths, 0.0))


def _sweep(ours: _Sides, theirs: _Sides, first: int, last: int, chunk: int, trained: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The sums over the anchors first:last (see _Angle). Shapes: -> smooth-L1 scalar float64, by E [Q, Q], by d [last - first, Q]."""
    queries, like = len(ours.squared), ours.squared
    # cos(student) - cos(teacher) = left @ right + the two terms in E; the halves and signs go into `right` and E.
    left = torch.stack([ours.lengths[first:last], ours.inverse[first:last], theirs.lengths[first:last], theirs.inverse[first:last]], dim=2)
    right = (
        torch.stack([ours.inverse[first:last], ours.lengths[first:last], -theirs.inverse[first:last], -theirs.lengths[first:last]], dim=1)
        / 2
    )
    minus_half_ours, half_theirs = ours.squared * -0.5, theirs.squared * 0.5
    total = torch.zeros((), dtype=torch.float64, device=like.device)
    by_squared, by_length = torch.zeros_like(like), torch.zeros_like(like[first:last])
    buffers = like.new_empty(3, min(chunk, last - first), queries, queries)
    for start in range(0, last - first, chunk):
        here = slice(start, min(start + chunk, last - first))
        difference, work, slope = buffers[:, : here.stop - start]
        r, d, q = ours.inverse[first:last][here], ours.lengths[first:last][here], theirs.inverse[first:last][here]
        torch.bmm(left[here], right[here], out=difference)
        difference.addcmul_(torch.mul(minus_half_ours, r[:, :, None], out=work), r[:, None])
        difference.addcmul_(torch.mul(half_theirs, q[:, :, None], out=work), q[:, None])
        torch.clamp(difference, -1, 1, out=slope)
        # smooth-L1 of x with slope w = clamp(x) is w (x - w / 2)
        total += _inner(slope, difference) - _inner(slope, slope) / 2
        if trained:
            straight, along = _apply(slope, r), _apply(slope, d)
            torch.mul(slope, r[:, :, None], out=work)
            _add_scaled(by_squared, work, r)
            by_length[here] = straight - r * r * along + r * _apply(work.mul_(ours.squared), r)
    return total, by_squared, by_length


def _share_out(sweep: Callable[[int, int], T], queries: int, device: torch.device) -> list[T]:
    """`sweep(first, last)` over all anchors, on a CPU in as many parts as torch may use threads, each on one thread of its own.

    The arrays of one anchor are too small to be split well: threads that meet after every operation wait for each other, and on a busy
    machine ten times longer than they work.
    """
    threads = torch.get_num_threads()
    workers = min(threads, queries // ANCHORS_PER_WORKER) if device.type == "cpu" else 1
    if workers <= 1:
        return [sweep(0, queries)]
    bounds = [queries * i // workers for i in range(workers + 1)]
    try:
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(sweep, bounds[:-1], bounds[1:]))
    finally:
        torch.set_num_threads(threads)  # the setting is a thread's own, but new threads begin with the last one made


# With one anchor a time the plain matrix routines read an array once, several times faster on a CPU than the batched forms below.


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    """Matrix-vector products. Shapes: [m, Q, Q], [m, Q] -> [m, Q]."""
    if len(matrices) == 1:
        return torch.mv(matrices[0], vectors[0])[None]
    return torch.bmm(matrices, vectors[:, :, None]).squeeze(2)


def _add_scaled(total: Tensor, matrices: Tensor, vectors: Tensor) -> None:
    """Add every matrix, its columns scaled, to `total`. Shapes: [Q, Q], [m, Q, Q], [m, Q]."""
    if len(matrices) == 1:
        total.addcmul_(matrices[0], vectors[0])
    else:
        total += (matrices * vectors[:, None]).sum(dim=0)


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Sum of products, in float64 across the rows of a batch. Shapes: [m, Q, Q] twice -> scalar."""
    if len(left) == 1:
        return torch.dot(left.view(-1), right.view(-1)).double()
    return (left * right).sum(dim=2).sum(dtype=torch.float64)
