"""Which model and which steps a collection of one's own can train: `prvr init` writes them into the configuration."""

from __future__ import annotations

from typing import NamedTuple

# Below this many training videos: this hidden size. The embedded world's 320 learn with 64 (config.yaml). 384 collapsed on 400 videos where
# 128 learnt (docs/method.md 10). The smallest published set has 2,214 and uses 384.
_HIDDEN = ((500, 64), (2_000, 128))
_PUBLISHED = 384
_RATE = 2.5e-4 * _PUBLISHED  # published rate times published width
_BATCH = 128


class Sizes(NamedTuple):
    """`hidden` values a row, `batch` videos a step, `rate` the peak learning rate, and why, a sentence each."""

    hidden: int
    batch: int
    rate: float
    why_hidden: str
    why_batch: str
    why_rate: str


def fitting(videos: int) -> Sizes:
    """The sizes for a number of training videos.

    The rate goes with one over the width, as Adam's does where what was found at one width is used at another; the demo's, 1.5e-3 at 64,
    was found by itself and lies on that line. A batch is a power of two: four steps an epoch at least, and never fewer than two videos,
    which are each other's negatives.
    Source: Yang et al. 2022, Tensor Programs V, table 3 (learning rate of Adam); docs/method.md 10.
    """
    hidden = next((size for below, size in _HIDDEN if videos < below), _PUBLISHED)
    batch = min(_BATCH, max(2, 2 ** ((videos // 4).bit_length() - 1) if videos >= 4 else 2))
    for_these = f"for {videos:,} videos"
    return Sizes(
        hidden,
        batch,
        float(f"{_RATE / hidden:.3g}"),
        f"{for_these}: the published {_PUBLISHED} from 2,000 on; on fewer it can collapse"
        if hidden < _PUBLISHED
        else f"{for_these}: published",
        f"{for_these}: at most a quarter, so that an epoch has several steps" if batch < _BATCH else f"{for_these}: published",
        f"the published 2.5e-4 x {_PUBLISHED} / hidden" if hidden < _PUBLISHED else "published",
    )
