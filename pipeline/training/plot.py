"""One picture of a training: what the loss is made of, and the recalls by which the epoch is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pipeline.core.figures import figure, save


def learning_curves(
    path: Path, history: Sequence[Mapping[str, float]], chosen: int, split: str, title: str, hard: int | None = None
) -> None:
    """Write a PNG: left, every weighted term of the loss over the epochs; right, SumR on the selection split and the epoch kept.

    `history`: one row per epoch (loop.py): learning rate, loss, gradient norm, the terms, the recalls. `hard`: the first epoch whose
    negatives are hard ones; the triplet rises there, as it is compared with harder ones.
    """
    table = pd.DataFrame(history)
    drawn = figure(10, 4.6)
    left, right = drawn.subplots(1, 2)
    left.plot(table["epoch"], table["loss"], color="0.2", linewidth=2, label="loss")
    names = [str(name) for name in table]
    for name in names[names.index("gradient_norm") + 1 : names.index("R@1")]:
        left.plot(table["epoch"], table[name], label=name.replace("_", " "))
    left.set(xlabel="epoch", ylabel="loss and its weighted terms", yscale="log")
    for name in (name for name in names if name.startswith("SumR")):
        right.plot(table["epoch"], table[name], label=name.removeprefix("SumR_") if name != "SumR" else "fused")
    right.axvline(chosen, color="0.7", linestyle=":", label=f"epoch {chosen}, kept")
    right.set(xlabel="epoch", ylabel=f"SumR on {split}")
    if hard is not None and hard <= table["epoch"].max():
        for axes in (left, right):
            axes.axvline(hard, color="0.4", linestyle="--", linewidth=1, label=f"hard negatives from epoch {hard}")
    # Beside the curves, which fill the whole picture: a legend on them would lie over the first epochs.
    for axes in (left, right):
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
    drawn.suptitle(title)
    save(drawn, path)
