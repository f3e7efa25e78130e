"""How much quicker the objectives and OP-ToMe are than the method written out literally, in one run, turn and turn about.

    python -m benchmarks.objectives [--only tcpl_angle,cbva] [--threads 2] [--allocator tuned|default] [--repeats 3]

Prints the median seconds of both sides, their ratio, and how far each raised the peak resident memory (ours runs first). Training terms
are forward and backward, both sides compute the same value. The literal angle term holds about 7 GB at the default size.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

# With glibc's own settings, half of the literal form's time is page faults.
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "34359738368", "MALLOC_TOP_PAD_": "67108864"}
Side = Callable[[], object]


def cases(videos: int, per_video: int, visual: int, hidden: int) -> dict[str, Callable[[], tuple[Side, Side]]]:
    """name -> a function that makes the inputs and returns (ours, literal)."""
    import torch
    from torch import Tensor

    from benchmarks import literal
    from pipeline.clips.context import contexts
    from pipeline.clips.op_tome import op_tome
    from pipeline.objectives import cbva, tcpl
    from pipeline.objectives import nce as info_nce
    from pipeline.objectives import triplet as ranking

    generator = torch.Generator().manual_seed(0)
    queries = videos * per_video
    labels = torch.arange(videos).repeat_interleave(per_video)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def trained(loss: Callable[..., Tensor], *inputs: Tensor) -> Side:
        leaves = [value.clone().requires_grad_() for value in inputs]
        return lambda: torch.autograd.grad(loss(*leaves), leaves)

    def angle() -> tuple[Side, Side]:
        student, teacher = noise(queries, hidden), torch.nn.functional.normalize(noise(queries, visual), dim=1)
        return trained(lambda s: tcpl.angle(s, teacher), student), trained(lambda s: literal.tcpl_angle(s, teacher), student)

    def distance() -> tuple[Side, Side]:
        student, teacher = noise(queries, hidden), torch.nn.functional.normalize(noise(queries, visual), dim=1)
        return trained(lambda s: tcpl.distance(s, teacher), student), trained(lambda s: literal.tcpl_distance(s, teacher), student)

    def clips() -> tuple[Tensor, Tensor, Tensor]:
        """Frozen clips of videos of a few scenes each, as alike within a scene as CLIP features are."""
        scenes = noise(videos, 8, visual)
        spread = torch.linspace(0.2, 1.2, videos)[:, None, None]
        merged = op_tome(scenes.repeat_interleave(16, dim=1) + spread * noise(videos, 128, visual), [80, 52, 32])
        return torch.nn.functional.normalize(merged.clips, dim=2), merged.sizes, merged.frame_to_clip

    def alignment() -> tuple[Side, Side]:
        frozen, sizes, frame_to_clip = clips()
        frames, tokens = 0.2 * noise(videos, 128, hidden), 0.2 * noise(videos, 32, hidden)
        context = contexts(frozen, sizes, literal.LEVELS, 0.8).assignment
        return (
            trained(lambda f, c: cbva.loss(f, c, sizes, frame_to_clip, context), frames, tokens),
            trained(lambda f, c: literal.cbva(f, c, frozen, sizes, frame_to_clip, 0.8), frames, tokens),
        )

    def counting() -> tuple[Side, Side]:
        frozen, sizes, _ = clips()

        def one_by_one() -> None:
            for rows, mass in zip(frozen, sizes, strict=True):
                literal.context_ratio(rows, 0.8)
                for target in literal.LEVELS[1:]:
                    place = literal.bipartite_merge(rows, mass, target)
                    total = torch.zeros(target).index_add(0, place, mass)
                    rows = torch.zeros(target, visual).index_add(0, place, rows * mass[:, None]) / total[:, None]
                    mass = total

        return lambda: contexts(frozen, sizes, literal.LEVELS, 0.8), one_by_one

    def nce() -> tuple[Side, Side]:
        scores = noise(queries, videos)
        return trained(lambda s: info_nce.nce(s, labels), scores), trained(lambda s: literal.nce(s, labels), scores)

    def triplet() -> tuple[Side, Side]:
        scores = 0.2 * noise(queries, videos)
        return (
            trained(lambda s: ranking.triplet(s, labels, 0.2, hard=True), scores),
            trained(lambda s: literal.triplet(s, labels, 0.2, hard=True, pool=20), scores),
        )

    def merging() -> tuple[Side, Side]:
        frames = noise(videos, 128, visual)
        return (
            lambda: [op_tome(part, [80, 52, 32]) for part in frames.split(8)],
            lambda: [literal.op_tome(video) for video in frames],
        )

    return {
        "tcpl_angle": angle,
        "tcpl_distance": distance,
        "cbva": alignment,
        "contexts": counting,
        "nce": nce,
        "triplet": triplet,
        "op_tome": merging,
    }


def measure(ours: Side, theirs: Side, repeats: int) -> tuple[list[float], list[float], int, int]:
    """Seconds of each side, alternately, and the rise of peak resident memory in MB (first ours, then the literal one)."""
    seconds: tuple[list[float], list[float]] = ([], [])
    rises = []
    for side in (ours, theirs):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        side()
        rises.append((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
    for _ in range(repeats):
        for kept, side in zip(seconds, (ours, theirs), strict=True):
            start = time.perf_counter()
            side()
            kept.append(time.perf_counter() - start)
    return *seconds, *rises


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="comma-separated cases")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--allocator", choices=["tuned", "default"], default="tuned")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--videos", type=int, default=128)
    parser.add_argument("--queries-per-video", type=int, default=5)
    parser.add_argument("--visual", type=int, default=768)
    parser.add_argument("--hidden", type=int, default=384)
    options = parser.parse_args()
    wanted = (
        {**TUNED, "OMP_NUM_THREADS": str(options.threads)} if options.allocator == "tuned" else {"OMP_NUM_THREADS": str(options.threads)}
    )
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks.objectives", *sys.argv[1:]], {**os.environ, **wanted})  # read at start

    import torch

    torch.set_num_threads(options.threads)
    shape = (options.videos, options.queries_per_video, options.visual, options.hidden)
    print(
        f"{shape[0]} videos x {shape[1]} queries, {shape[2]}/{shape[3]} wide, {options.threads} threads, {options.allocator} malloc, "
        f"torch {torch.__version__}, median of {options.repeats}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':16}{'literal s':>11}{'ours s':>11}{'ratio':>9}{'literal MB':>12}{'ours MB':>9}")
    found = cases(*shape)
    for name in [part for part in options.only.split(",") if part] or list(found):
        ours, theirs, our_rise, their_rise = measure(*found[name](), options.repeats)
        ratio = statistics.median(theirs) / statistics.median(ours)
        print(
            f"{name:16}{statistics.median(theirs):11.4f}{statistics.median(ours):11.4f}{ratio:8.1f}x{their_rise:12d}{our_rise:9d}",
            flush=True,
        )


if __name__ == "__main__":
    main()
