"""Ranks of all queries at once against a loop that sorts each query's scores, at the size of TVR's test set.

    python benchmarks/ranking.py --queries 10895 --videos 2179 --repeats 20

The loop is the released one: negate, argsort, find the true video's place. Both sides must agree. Prints the seconds of each
(best of `--repeats`, wall and processor) and their ratio (aim: 50), then the seconds of scoring 160 tokens a video, which ranking follows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.models.scores import max_cosine
from pipeline.ranking.metrics import ranks, recalls


def literal(scores: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """One query after the other."""
    found = np.empty(len(scores), dtype=np.int64)
    for i, row in enumerate(scores):
        order = np.argsort(-row, kind="stable")
        found[i] = np.where(order == truth[i])[0][0] + 1
    return found


def best(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Wall and processor seconds of the quickest of several calls; the second is what a busy machine leaves comparable."""
    found = []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        call()
        found.append((time.perf_counter() - wall, time.process_time() - processor))
    return min(seconds for seconds, _ in found), min(seconds for _, seconds in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=10895)
    parser.add_argument("--videos", type=int, default=2179)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=384, help="0 leaves the scoring out")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    random = np.random.default_rng(0)
    scores = random.standard_normal((arguments.queries, arguments.videos), dtype=np.float32)
    truth = random.integers(0, arguments.videos, arguments.queries)
    tensor, own = torch.from_numpy(scores), torch.from_numpy(truth)
    assert (ranks(tensor, own).numpy() == literal(scores, truth)).all()
    slow = best(lambda: literal(scores, truth), max(2, arguments.repeats // 4))
    fast = best(lambda: ranks(tensor, own), arguments.repeats)
    whole = best(lambda: recalls(ranks(tensor, own)), arguments.repeats)
    print(f"{arguments.queries} queries x {arguments.videos} videos, {arguments.threads} threads; wall / processor seconds")
    print(f"a query at a time       {slow[0]:8.4f} / {slow[1]:8.4f}")
    for name, seconds in (("all at once", fast), ("all at once, recalls", whole)):
        print(f"{name:23} {seconds[0]:8.4f} / {seconds[1]:8.4f}   {slow[0] / seconds[0]:5.0f} x / {slow[1] / seconds[1]:5.0f} x")
    if arguments.hidden:
        part = min(arguments.queries, 1024)
        generator = torch.Generator().manual_seed(0)
        tokens = [F.normalize(torch.randn(arguments.videos, n, arguments.hidden, generator=generator), dim=-1) for n in (128, 32)]
        queries = torch.randn(part, arguments.hidden, generator=generator)
        wall, processor = best(lambda: [max_cosine(queries, part) for part in tokens], 1)
        print(f"scoring {part} of the queries over {arguments.videos} x 160 tokens: {wall:.2f} / {processor:.2f}")


if __name__ == "__main__":
    main()
