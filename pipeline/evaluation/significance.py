"""Whether two models differ by more than chance over the queries: a paired randomisation test, corrected for how many are made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.ranking.cutoffs import CUTOFFS

DRAWS = 9999
_AT_ONCE = 200


def sumr_of_queries(ranks: np.ndarray) -> np.ndarray:
    """What each query adds to SumR, percent: 100 for every cut-off its rank is within. Shapes: [..., Q] -> same."""
    within: np.ndarray = (ranks[..., None] <= np.asarray(CUTOFFS)).sum(-1)
    return 100.0 * within


def randomisation(ours: np.ndarray, theirs: np.ndarray, video: Sequence[str], *, draws: int = DRAWS, seed: int = 0) -> float:
    """The two-sided p-value of the mean difference, were it chance which of the two models a query's value came from.

    The queries of one video are not independent, so their differences change sign together; with few videos all signs are tried.

    Shapes: `ours`, `theirs` [Q] a value of each query, means over seeds; `video` [Q] the query's video. Source: Smucker, Allan and
    Carterette, CIKM 2007; signs by group as in a randomised block.
    """
    _, group = np.unique(np.asarray(video, dtype=str), return_inverse=True)
    differences = np.bincount(group, weights=np.asarray(ours) - np.asarray(theirs))
    if not differences.any():
        return 1.0
    if len(differences) < 2:
        return float("nan")  # one video: both signs are alike
    from scipy.stats import permutation_test  # which takes 1.6 s to import

    test = permutation_test(
        (differences,),
        lambda values, axis: values.sum(axis),
        permutation_type="samples",
        n_resamples=draws,
        batch=_AT_ONCE,
        vectorized=True,
        random_state=seed,
    )
    return float(test.pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, step down; what is not a number stays so and counts for none. Source: Holm, 1979."""
    known = [i for i, value in enumerate(values) if not np.isnan(value)]
    corrected, least = [float("nan")] * len(values), 0.0
    for place, i in enumerate(sorted(known, key=lambda i: values[i])):
        least = max(least, min(1.0, (len(known) - place) * values[i]))
        corrected[i] = least
    return corrected
