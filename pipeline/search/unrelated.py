"""Sentences that are about nothing in particular: what their best video scores is what a query gets that no video answers."""

from __future__ import annotations

import random

_WHO = ("the committee", "a neighbour", "my grandfather", "the old clock", "an invoice", "the northern province", "a theorem")
_DOES = ("postpones", "inherits", "translates", "forgets", "outweighs", "photographs", "denies", "borrows", "repaints", "predicts")
_WHAT = (
    "the verdict",
    "a violin sonata",
    "last year's taxes",
    "the ocean floor",
    "a broken promise",
    "seven languages",
    "a distant galaxy",
)
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def sentences(count: int = 64, seed: int = 0) -> list[str]:
    """The same sentences every time: three of four are words put together by chance, the fourth is letters."""
    draw = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        if len(made) % 4 == 3:
            made[" ".join("".join(draw.choices(_LETTERS, k=draw.randint(3, 8))) for _ in range(draw.randint(2, 5)))] = None
        else:
            made[f"{draw.choice(_WHO)} {draw.choice(_DOES)} {draw.choice(_WHAT)}"] = None
    return list(made)
