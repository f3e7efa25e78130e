"""A training step of the published size: ours against the method written out literally, each in its own process under one allocator.

    python -m benchmarks.training_step [--videos 128] [--queries-per-video 5] [--steps 3] [--allocators default,tuned]
                                       [--sides literal,fp32,bf16,recompute] [--threads 2] [--clock wall] [--device cuda]

Every side loads a batch, computes the whole loss (NCE and triplet of both branches, TCPL, CBVA; hard negatives on), its gradients, and
one optimiser step; the literal side reads raw rows, pools and merges them, as the released loader does at every step, ours gathers stored
clips. Prints the median of the
steps after the first, the ratio to the literal side under the same allocator, and the peak resident memory. At 128 videos the
literal side holds about 18 GB; memory falls with the square of the batch. On a GPU the peak is that of its memory, and the last column the
share of the measured bf16 matrix peak that the step's matrix products reach.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.objectives import TUNED

SIDES = ("literal", "fp32", "bf16", "recompute")
WORDS = (6, 20)  # tokens of a caption, from [SOS] to [EOS]
ROWS = (60, 300)  # feature rows of a video


def world(options: argparse.Namespace) -> tuple[list, list]:
    """Raw rows of videos of a few scenes each, and captions that resemble one scene."""
    import numpy as np

    random = np.random.default_rng(0)
    videos, captions = [], []
    for i in range(options.videos):
        scenes = random.normal(size=(1 + i % 8, options.dim))  # the fewer, the fewer contexts
        length = int(random.integers(*ROWS))
        spread = 0.2 + i / options.videos
        rows = scenes[np.arange(length) * len(scenes) // length] + spread * random.normal(size=(length, options.dim))
        videos.append(rows.astype(np.float32))
        group = []
        for _ in range(options.queries_per_video):
            noise = random.normal(size=(int(random.integers(*WORDS)), options.dim))
            group.append((scenes[random.integers(len(scenes))] + noise).astype(np.float32))
        captions.append(group)
    return videos, captions


def child(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run the steps of one side in this process."""
    import torch

    from pipeline.config.method import Experiment
    from pipeline.models.base import Dims
    from pipeline.models.msc import DualBranch
    from pipeline.training.checkpoint import seed_everything

    torch.set_num_threads(options.threads)
    seed_everything(0)
    training = {"precision": "bf16" if side == "bf16" else "fp32"}
    settings = Experiment.model_validate({"features": ["a"], "text": "a", "training": training, "model": {"hidden": options.hidden}})
    videos, captions = world(options)
    model = DualBranch(settings.model, Dims(options.dim, options.dim)).train()
    seconds: list[dict[str, float]] = []
    device = torch.device(options.device)
    model.to(device)

    def now() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() if options.clock == "wall" else time.process_time()

    optimizer: Any
    rate = {"learning_rate": 1e-4, "total_steps": 100, "warmup": 0.01}
    if side == "literal":
        from benchmarks import literal_model

        optimizer = literal_model.LiteralAdam(model.named_parameters(), model.decays, **rate)
        torch.set_default_device(device)  # the literal form makes its index rows wherever torch makes tensors

        def load() -> dict[str, Any]:
            with torch.device("cpu"):  # it pools rows that numpy holds
                batch = literal_model.load(videos, captions, settings.model.max_words)
            return {name: values.to(device) for name, values in batch.items()}

        terms = {"margin": 0.2, "hard": True, "pool": 20, "nce": (0.02, 0.04), "tau": 0.8}
        compute = lambda batch: literal_model.loss(model, batch, **terms)  # noqa: E731
    else:
        model.recompute(side == "recompute")
        optimizer, load, compute = ours(model, settings, stored(videos, captions), device, rate)
        videos.clear()  # ours keeps the stored clips only
    for _ in range(options.steps + 1):
        marks = [now()]
        for parameter in model.parameters():
            parameter.grad = None
        batch = load()
        marks.append(now())
        loss = compute(batch)
        marks.append(now())
        loss.backward()
        marks.append(now())
        optimizer.step()
        marks.append(now())
        names = ("load", "forward", "backward", "update")
        seconds.append({name: b - a for name, a, b in zip(names, marks, marks[1:], strict=False)})
    found = {"seconds": seconds[1:], "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}
    if device.type == "cuda":
        from benchmarks.peaks import operations, product_peak

        found["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
        counted = operations(lambda: compute(load()).backward())
        found["share"] = counted / statistics.median(sum(part.values()) for part in seconds[1:]) / product_peak(device, "bf16")
    return found


def ours(model: Any, settings: Any, split: Any, device: Any, rate: dict[str, float]) -> tuple[Any, Callable[[], Any], Callable[[Any], Any]]:
    """The project's own optimiser, loading of a batch of all videos, and its loss with hard negatives."""
    import torch

    from pipeline.objectives.total import Total
    from pipeline.training.batches import Batches
    from pipeline.training.loop import loss_of
    from pipeline.training.optimizer import BertAdam
    from pipeline.training.trainee import Trainee

    trainee = Trainee(model, Total(settings.objectives)).to(device)
    optimizer = BertAdam(trainee.named_parameters(), trainee.decays, **rate)
    batches = Batches(split, settings.model.max_words, device)
    order = torch.arange(len(split.videos.ids))
    hard = settings.objectives.triplet.hard_start_epoch
    return optimizer, lambda: batches.gather(order), lambda batch: loss_of(trainee, batch, settings, hard)[0]


def stored(videos: list, captions: list) -> Any:
    """The same videos as the clips stage would have stored them."""
    import numpy as np
    import pandas as pd
    import torch

    from pipeline.clips.context import contexts
    from pipeline.clips.op_tome import op_tome
    from pipeline.clips.pooling import average_to_fixed_length
    from pipeline.datasets.table import Annotations
    from pipeline.ranking.split import PooledVideos, Queries, Split, normalised

    frames = torch.from_numpy(np.stack([average_to_fixed_length(rows, 128, "drop") for rows in videos]))
    merged = op_tome(frames, [80, 52, 32], "dot")
    found = contexts(normalised(merged.clips), merged.sizes, [32, 20, 12, 8, 5], 0.8)
    flat = [caption for group in captions for caption in group]
    words = torch.from_numpy(np.concatenate(flat))
    offsets = torch.tensor([0, *np.cumsum([len(caption) for caption in flat])])
    owner = torch.tensor([i for i, group in enumerate(captions) for _ in group])
    teacher = normalised(words[offsets[1:] - 1])
    ids = [f"v{i}" for i in range(len(videos))]
    unknown = np.full((len(videos), 128), np.nan)
    held = PooledVideos(
        ids,
        frames.half(),
        torch.full((len(videos),), 128),
        merged.clips.half(),
        merged.sizes,
        merged.frame_to_clip.to(torch.uint8),
        found.assignment.to(torch.uint8),
        *(unknown, unknown, unknown[:, 0]),
    )
    nothing = Annotations(pd.DataFrame(), pd.DataFrame(), {})
    return Split("train", held, Queries([f"q{i}" for i in range(len(flat))], owner, words.half(), offsets, teacher), nothing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=128)
    parser.add_argument("--queries-per-video", type=int, default=5)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--hidden", type=int, default=384)
    parser.add_argument("--steps", type=int, default=3, help="timed steps, after one that is not")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--allocators", default="default,tuned")
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall", help="cpu, with --threads 1: where others use the machine")
    parser.add_argument("--device", default="cpu", help="cuda: the step on a GPU")
    parser.add_argument("--child", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options)))
        return
    import torch

    print(
        f"{options.videos} videos x {options.queries_per_video} queries, {options.dim}/{options.hidden} wide, 8 branches, "
        f"{options.threads} threads, {options.device}, {options.clock} clock, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'malloc':9}{'side':11}{'step s':>9}{'ratio':>8}{'peak GB':>9}   load, forward, backward, update (s)")
    for allocator in options.allocators.split(","):
        base = None
        for side in options.sides.split(","):
            environment = {**os.environ, **(TUNED if allocator == "tuned" else {}), "OMP_NUM_THREADS": str(options.threads)}
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.training_step", *sys.argv[1:], "--child", side],
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                print(f"{allocator:9}{side:11} failed ({done.returncode}): {done.stderr.strip().splitlines()[-1:]}")
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            step = statistics.median(sum(part.values()) for part in found["seconds"])
            base = step if side == "literal" else base
            ratio = f"{base / step:7.2f}x" if base and side != "literal" else f"{'':8}"
            parts = ", ".join(f"{statistics.median(p[name] for p in found['seconds']):.3f}" for name in found["seconds"][0])
            share = f"   {found['share']:.1%} of the matrix peak" if "share" in found else ""
            print(f"{allocator:9}{side:11}{step:9.3f}{ratio}{found['peak_gb']:9.2f}   {parts}{share}", flush=True)


if __name__ == "__main__":
    main()
