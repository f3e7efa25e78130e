"""The best one-to-one pairs of a video's queries and its parts."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


@torch.no_grad()
def assign(values: Tensor, labels: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """The pairs that add up to most in every video of at least `least` queries; of more queries than parts some stay alone.

    All values leave the device once; scipy then assigns video by video, tens of microseconds each.

    Shapes: `values` [Q, C] of each query and the parts of its own video, `labels` [Q] that video -> query [n], part [n] int64, by video,
    then by query.
    """
    order, counts = labels.argsort(stable=True), torch.bincount(labels).tolist()
    # What is not finite ends the run by the loss being so, not here.
    rows, owner = values[order].float().nan_to_num().cpu().numpy(), order.cpu().numpy()
    pairs, first = [], 0
    for count in counts:
        if count >= max(least, 1):
            queries, parts = linear_sum_assignment(rows[first : first + count], maximize=True)
            pairs.append((owner[first + queries], parts))
        first += count
    found = np.concatenate(pairs, axis=1) if pairs else np.zeros((2, 0), dtype=np.int64)
    queries, parts = torch.from_numpy(found).to(labels.device)
    return queries, parts
