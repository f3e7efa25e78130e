"""A training step and the ranking of each method at its published size: ours against the formulae written out literally.

    python -m benchmarks.methods [--methods ms_sl,gmmformer] [--videos 128] [--queries-per-video 5] [--dataset tvr] [--steps 2]
                                 [--threads 1] [--clock cpu] [--allocator tuned] [--sides ours,recomputed,literal]

Every side of every method runs in a process of its own under the same allocator: forward and backward, without the loading and the
optimiser's step, which are the same for both; dropout on, hard negatives on. Prints the median seconds of the steps after the first, the
peak memory above what was held before them, what the forward pass keeps for the backward pass (parameters and inputs apart; it depends on
neither machine nor load), and the ratios to the literal form (aim: 3 times as fast, a third of the memory). Ranking: as many queries
against as many videos, the literal side a query at a time. `--steps 0`: only what is kept. `recomputed`: with `training.recompute`.
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

METHODS = ("ms_sl", "bgm_net", "gmmformer", "gmmformer_v2", "ral", "hlformer", "dl_dkd", "dl_dkd_plus_plus", "amdnet")
SIDES = ("ours", "literal")
COLUMNS = {"step": "step s", "peak_gb": "peak GB", "kept_gb": "kept GB", "rank": "rank s"}
FRAMES, CLIPS, SHORTEST = 128, 32, 40
TEACHER = 512  # values of CLIP-B/32's vectors, of which DL-DKD learns


def settings_of(method: str, dataset: str) -> Any:
    """The experiment of a preset."""
    from pipeline.config import presets, variants
    from pipeline.config.base import merge
    from pipeline.config.method import Experiment

    values = presets.values(f"{method}/{dataset}", {}, where="benchmark")
    named = {"features": ["a"], "text": "a", **values}
    return Experiment.model_validate(merge(variants.defaults("released", variants.kind(named)), named))


def batch_of(options: argparse.Namespace) -> dict[str, Any]:
    """Random videos of 40 to 128 rows, and captions of 6 to 20 words."""
    import torch

    torch.manual_seed(0)
    device = torch.device(options.device)
    videos, queries = options.videos, options.videos * options.queries_per_video
    lengths = torch.randint(SHORTEST, FRAMES + 1, (videos,))
    words = torch.randint(6, 21, (queries,))
    mask = (torch.arange(FRAMES) < lengths[:, None]).float()
    word_mask = (torch.arange(int(words.max())) < words[:, None]).float()
    unit = torch.nn.functional.normalize
    batch = {
        "frames": unit(torch.randn(videos, FRAMES, options.dim), dim=-1) * mask[..., None],
        "frame_mask": mask,
        "clips": unit(torch.randn(videos, CLIPS, options.dim), dim=-1),
        "words": unit(torch.randn(queries, word_mask.shape[1], options.text_dim), dim=-1) * word_mask[..., None],
        "word_mask": word_mask,
        "labels": torch.arange(videos).repeat_interleave(options.queries_per_video),
        "sentence": torch.randn(queries, options.text_dim),
        "teacher_frames": torch.randn(videos, FRAMES, TEACHER) * mask[..., None],
        "teacher_sentences": torch.randn(queries, TEACHER),
    }
    return {name: value.to(device) for name, value in batch.items()}


def child(method: str, side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of one side in this process."""
    import torch

    from benchmarks import literal_methods
    from pipeline.models.base import Dims, Videos, Words, build
    from pipeline.objectives.total import Total, step_of
    from pipeline.ranking import gallery

    torch.set_num_threads(options.threads)
    settings, batch = settings_of(method, options.dataset), batch_of(options)
    device = torch.device(options.device)
    torch.set_default_device(device)  # the literal form makes its zeros wherever torch makes tensors
    model = build(settings.model.kind, settings.model, Dims(options.dim, options.text_dim)).to(device).train()
    count, nothing = len(batch["labels"]), torch.zeros(options.videos, CLIPS)
    fields = {"sizes": nothing, "frame_to_clip": torch.zeros(options.videos, FRAMES, dtype=torch.int64), "context": nothing}
    videos = Videos(frames=batch["frames"], clips=batch["clips"], mask=batch["frame_mask"], **fields)
    words, total = Words(batch["words"], batch["word_mask"], batch["sentence"]), Total(settings.objectives)
    teacher = {name: batch[name] for name in ("teacher_frames", "teacher_sentences")}
    epoch = max(settings.objectives.triplet.hard_start_epoch, getattr(settings.model, "start_epoch", 0))

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() if options.clock == "wall" else time.process_time()

    def held() -> float:
        return (
            torch.cuda.max_memory_allocated(device) / 1e9
            if device.type == "cuda"
            else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        )

    def step() -> Any:
        if side == "literal":
            return torch.stack(list(literal_methods.LOSSES[method](model, batch, settings).values())).sum()
        made = step_of(model, videos, words, batch["labels"], None, **teacher, needs=total.needs, epoch=epoch)
        return total(made)[0]

    model.recompute(side == "recomputed")
    kept = kept_by(step, known=[*model.parameters(), *model.buffers(), *batch.values()])
    if not options.steps:
        return {"kept_gb": kept}
    before, seconds = held(), []
    for _ in range(options.steps + 1):
        model.zero_grad(set_to_none=True)
        start = clock()
        step().backward()
        seconds.append(clock() - start)
    peak = held() - before
    model.zero_grad(set_to_none=True)
    encoded = gallery.encode_videos(model, [videos])
    queries = gallery.encode_queries(model, [words])
    start = clock()
    if side != "literal":
        gallery.score(model, queries, encoded, settings.evaluation.fusion(model.branches))
    else:
        for i in range(count):  # a query at a time, with the whole gallery
            gallery.score(model, gallery.part(queries, slice(i, i + 1)), encoded, settings.evaluation.fusion(model.branches))
    return {"step": statistics.median(seconds[1:]), "peak_gb": peak, "kept_gb": kept, "rank": clock() - start}


def kept_by(step: Callable[[], Any], known: list[Any]) -> float:
    """GB that a forward pass keeps for its backward pass, each storage once, those of `known` tensors apart."""
    import torch

    kept: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no other takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = step()
    apart = {tensor.untyped_storage().data_ptr() for tensor in known}
    total = sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in apart)
    del loss
    return total / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--dataset", default="tvr", help="whose published sizes")
    parser.add_argument("--videos", type=int, default=128)
    parser.add_argument("--queries-per-video", type=int, default=5)
    parser.add_argument("--dim", type=int, default=3072)
    parser.add_argument("--text-dim", type=int, default=768)
    parser.add_argument("--steps", type=int, default=2, help="timed steps, after one that is not")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="cpu", help="cpu, with --threads 1: where others use the machine")
    parser.add_argument("--allocator", choices=["default", "tuned"], default="tuned")
    parser.add_argument("--device", default="cpu", help="cuda, with --clock wall: on a GPU")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child.split("/"), options)))
        return
    import torch

    print(
        f"{options.videos} videos x {options.queries_per_video} queries, {options.dim}/{options.text_dim} wide, {options.dataset}'s sizes; "
        f"{options.threads} threads, {options.device}, {options.clock} clock, {options.allocator} malloc, torch {torch.__version__}"
    )
    print(f"{'method':17}{'side':11}" + "".join(f"{name:>9}{'ratio':>8}" for name in COLUMNS.values()), flush=True)
    for method in options.methods.split(","):
        found = {side: _measured(method, side, options.allocator) for side in options.sides.split(",")}
        written = found.get("literal")
        for side, values in found.items():
            print(_line(method, side, values, written if side != "literal" else None), flush=True)


def _measured(method: str, side: str, allocator: str) -> dict[str, float] | str:
    environment = {**os.environ, **(TUNED if allocator == "tuned" else {})}
    command = [sys.executable, "-m", "benchmarks.methods", *sys.argv[1:], "--child", f"{method}/{side}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"failed ({done.returncode}): {done.stderr.strip().splitlines()[-1:]}"
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values


def _line(method: str, side: str, values: dict[str, float] | str, written: dict[str, float] | str | None) -> str:
    if isinstance(values, str):
        return f"{method:17}{side:11}{values}"
    cells = ""
    for name in COLUMNS:
        if name not in values:
            cells += f"{'':17}"
            continue
        ratio = f"{written[name] / values[name]:7.1f}x" if isinstance(written, dict) and values[name] else f"{'':8}"
        cells += f"{values[name]:9.3f}{ratio}"
    return f"{method:17}{side:11}{cells}"


if __name__ == "__main__":
    main()
