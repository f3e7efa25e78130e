"""How far the learnt space has collapsed: similarity structure, agreement with the foundation model, and who wins against zero-shot."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

RELEASED_TOKENS = 32  # tokens per video in the released `total`
RELEASED_BLOCK = 400  # rows per block; pairs inside one block are left out of the released `total`
SPEARMAN_QUERIES = 6000  # 18 million pairs: about 1 GB while ranking


def _unit(rows: Tensor) -> Tensor:
    return F.normalize(rows.to(torch.float64), dim=-1)


def _pair_mean(total: Tensor, count: Tensor | int) -> Tensor:
    """Mean cosine over ordered pairs i != j of `count` unit rows whose sum has squared length `total`."""
    return (total - count) / (count * (count - 1))


def diff_norm(intra: float, total: float) -> float:
    """(intra - total) / (intra + total): how much closer two texts, or tokens, of one video are than any two. Paper Table 8."""
    return (intra - total) / (intra + total)


def text_structure(queries: Tensor, videos: Tensor) -> dict[str, float]:
    """Mean cosine of two queries of one video (`intra`), of any two (`total`), and `diff_norm`.

    No pair matrix is formed: the sum of all cosines of a set of unit vectors is the squared length of their sum.
    Shapes: `queries` [Q, H], `videos` [Q] int, the video of each query. Intra is the mean over videos with at least two queries of
    their own mean; NaN when there is none. Source: paper Table 8, docs/method.md 9.1; golden g_dist.
    """
    rows = _unit(queries)
    count = torch.bincount(videos)
    sums = torch.zeros(len(count), rows.shape[1], dtype=rows.dtype, device=rows.device).index_add_(0, videos, rows)
    several = count > 1
    intra = float(_pair_mean(sums[several].square().sum(-1), count[several]).mean())
    total = float(_pair_mean(rows.sum(0).square().sum(), len(rows))) if len(rows) > 1 else float("nan")
    return {"intra": intra, "total": total, "diff_norm": diff_norm(intra, total)}


def video_structure(tokens: Tensor, count: Tensor | None = None) -> dict[str, float]:
    """Mean cosine of two tokens of one video (`intra`), of any two tokens (`total`), and `diff_norm`, as the paper and as the code read it.

    The released total takes the first 32 tokens of each video and leaves out the pairs inside one block of 400 rows: NaN when all rows
    fit in one block. Both readings are given because the published Table 8 is the released one and the paper's text is the other.
    Shapes: `tokens` [V, L, H]; `count` [V] tokens of a video that are not padding (None: all). Intra is the mean over videos of at least
    two tokens. Source: paper Table 8, docs/method.md 9.1; golden g_dist.
    """
    videos, length = tokens.shape[:2]
    count = torch.full((videos,), length) if count is None else count.long()
    real = torch.arange(length) < count[:, None]
    squares, whole, first = [], torch.zeros(tokens.shape[2], dtype=torch.float64), _Released(tokens.shape[2])
    for chunk, kept in zip(tokens.split(256), real.split(256), strict=True):
        rows = _unit(chunk.cpu()) * kept[..., None]
        sums = rows.sum(1)
        squares.append(sums.square().sum(-1))
        whole += sums.sum(0)
        first.add(rows[:, :RELEASED_TOKENS][kept[:, :RELEASED_TOKENS]])
    several, every = count > 1, int(count.sum())
    intra = float(_pair_mean(torch.cat(squares)[several], count[several]).mean())
    total = float(_pair_mean(whole.square().sum(), every)) if every > 1 else float("nan")
    released = first.total()
    return {
        "intra": intra,
        "total": total,
        "diff_norm": diff_norm(intra, total),
        "total_released": released,
        "diff_norm_released": diff_norm(intra, released),
    }


class _Released:
    """Mean cosine of rows that come bit by bit, pairs inside a block of 400 left out."""

    def __init__(self, width: int) -> None:
        self.waiting = torch.zeros(0, width, dtype=torch.float64)
        self.whole = torch.zeros(width, dtype=torch.float64)
        self.inside, self.rows, self.pairs = 0.0, 0, 0  # squared lengths of the blocks' sums; rows; ordered pairs inside blocks

    def add(self, rows: Tensor) -> None:
        waiting = torch.cat([self.waiting, rows])
        full = len(waiting) // RELEASED_BLOCK * RELEASED_BLOCK
        for block in waiting[:full].split(RELEASED_BLOCK) if full else ():
            self._block(block)
        self.waiting = waiting[full:].clone()

    def _block(self, rows: Tensor) -> None:
        total = rows.sum(0)
        self.whole += total
        self.inside += float(total.square().sum())
        self.rows, self.pairs = self.rows + len(rows), self.pairs + len(rows) ** 2

    def total(self) -> float:
        """The mean; NaN when all rows lie in one block."""
        self._block(self.waiting)
        pairs = self.rows**2 - self.pairs
        return (float(self.whole.square().sum()) - self.inside) / pairs if pairs else float("nan")


def spearman(student: Tensor, teacher: Tensor, *, limit: int = SPEARMAN_QUERIES) -> dict[str, float]:
    """Spearman correlation between the student's and the foundation model's pairwise text cosines, over pairs i < j.

    Above `limit` queries, evenly spaced ones are taken (pairs grow with the square); `queries` says how many were used.
    Shapes: `student` [Q, H], `teacher` [Q, E]. NaN when there are fewer than three queries. Source: paper Table 9.
    """
    if len(student) > limit:
        chosen = torch.linspace(0, len(student) - 1, limit).round().long()
        student, teacher = student[chosen], teacher[chosen]
    above = torch.triu_indices(len(student), len(student), 1)
    ranked = []
    for rows in (student, teacher):
        unit = _unit(rows).float().cpu()
        ranked.append(pd.Series((unit @ unit.T)[above[0], above[1]].numpy()).rank())  # as scipy.stats, which takes 1.6 s to import
    rho = ranked[0].corr(ranked[1]) if len(student) > 2 else float("nan")
    return {"spearman": rho, "queries": len(student)}


def against(ours: Tensor, reference: Tensor, *, cutoffs: tuple[int, ...] = (1, 10)) -> dict[str, dict[str, Any]]:
    """The 2x2 table of hits within K against a reference's, and the mean rank of each side's losers.

    Per K: shares in percent `both`, `only_ours`, `only_reference`, `neither`; `our_rank_where_we_lost` is our mean rank over the
    queries only the reference hits, `reference_rank_where_it_lost` its mean rank over those only we hit; None when there is none.
    Shapes: `ours`, `reference` [Q] ranks. Source: paper Table A2, docs/method.md 9.3.
    """
    tables: dict[str, dict[str, Any]] = {}
    for k in cutoffs:
        hit, hit_reference = ours <= k, reference <= k
        ours_only, reference_only = hit & ~hit_reference, ~hit & hit_reference
        share = {
            "both": hit & hit_reference,
            "only_ours": ours_only,
            "only_reference": reference_only,
            "neither": ~hit & ~hit_reference,
        }
        tables[f"R@{k}"] = {
            **{name: float(mask.double().mean() * 100) for name, mask in share.items()},
            "our_rank_where_we_lost": float(ours[reference_only].double().mean()) if reference_only.any() else None,
            "reference_rank_where_it_lost": float(reference[ours_only].double().mean()) if ours_only.any() else None,
        }
    return tables
