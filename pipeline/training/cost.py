"""What a method costs: parameters, a training epoch, peak memory, vectors of a video, and a query's latency on galleries of several sizes.

Measured once a method, by a job that has the machine for itself, on random weights: how long a step or a product takes does not depend on
what was learnt.
"""

from __future__ import annotations

import os
import platform
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.core.atomic import write_json
from pipeline.core.layout import Layout
from pipeline.core.lease import device as leased
from pipeline.models.base import Encoded, Retriever, Words
from pipeline.ranking import gallery
from pipeline.ranking.split import Split
from pipeline.training.batches import Batches, Sampler
from pipeline.training.loop import loss_of
from pipeline.training.optimizer import BertAdam
from pipeline.training.splits import train_split
from pipeline.training.stage import prepare
from pipeline.training.trainee import Trainee

STEPS = 5  # timed after one that is not
STEP_SECONDS = 60.0  # no further step is begun after so long
QUERIES = 5  # asked one at a time, of every gallery
QUERY_SECONDS = 2.0  # of a gallery, after which no further query is asked
LONGEST = 120.0  # a gallery that would take longer for one query is left out
MEMORY_SHARE = 0.2  # of the free memory that encoded videos take; a larger gallery is scanned block after block
TOP = 100


def run(config: Config, layout: Layout, experiment: str) -> None:
    """Write costs/<experiment>.json. Errors: StoreError, TrainingError, DeviceError."""
    chosen = config.experiment(experiment)
    torch.set_num_threads(chosen.training.threads)
    train = train_split(chosen, layout)
    with leased(config.runtime.device, share=config.runtime.share_gpu) as device:
        write_json(layout.cost(experiment), {"experiment": experiment, **measure(chosen, train, device, config.compare.galleries)})


def measure(settings: Experiment, train: Split, device: torch.device, galleries: list[int]) -> dict[str, Any]:
    """All costs of one method on this machine. Errors: TrainingError."""
    trainee, optimizer, sampler = prepare(settings, train, 0, device)
    result = {
        "device": _name(device),
        "threads": torch.get_num_threads(),
        "batch_videos": min(settings.training.batch_videos, len(train.videos)),
        "precision": settings.training.precision,
        **_training(trainee, optimizer, sampler, train, settings, device),
    }
    model = trainee.model
    one = next(iter(train.videos.batches(min(len(train.videos), 64), device, raw=settings.model.reads_raw_rows)))
    words = [train.queries.padded(torch.tensor([i]), settings.model.max_words, device) for i in range(min(QUERIES, len(train.queries)))]
    result["parameters"] = {"training": _count(trainee), "inference": at_inference(model, one, words[0])}
    encoded = gallery.encode_videos(model, [one])
    result |= {"vectors": vectors(encoded, settings.model.hidden), "bytes": int(_bytes(encoded) / len(one.frames))}
    weights = settings.evaluation.fusion(model.branches)
    result["latency_ms"] = latencies(model, encoded, words, weights, galleries)
    return result


def _training(
    trainee: Trainee, optimizer: BertAdam, sampler: Sampler, train: Split, settings: Experiment, device: torch.device
) -> dict[str, float]:
    """Seconds of an epoch, from some steps, and the peak memory of the process, or of the GPU, MB."""
    batches = Batches(train, settings.model.max_words, device, raw=settings.model.reads_raw_rows)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    trainee.train()
    videos, spent, steps, began = 0, 0.0, 0, time.perf_counter()
    while steps <= STEPS and (steps < 2 or time.perf_counter() - began < STEP_SECONDS):
        for chosen in sampler.epoch():
            start = time.perf_counter()
            optimizer.zero_grad()
            loss, _ = loss_of(trainee, batches.gather(chosen), settings, settings.objectives.triplet.hard_start_epoch)
            loss.backward()
            optimizer.step()
            _finish(device)
            if steps:  # the first one warms up
                videos, spent = videos + len(chosen), spent + time.perf_counter() - start
            steps += 1
            if steps > STEPS or (steps > 1 and time.perf_counter() - began > STEP_SECONDS):
                break
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _peak()
    return {"epoch_seconds": spent / videos * len(train.videos), "step_seconds": spent / (steps - 1), "peak_mb": peak / 1e6}


def at_inference(model: Retriever, videos: Any, words: Words) -> int:
    """Parameters that ranking reads: those a score has a gradient for. What only objectives use is left out."""
    model.eval()
    model.zero_grad(set_to_none=True)
    scores = model.rank(model.asked(model.encode_queries(words)), model.gallery(model.encode_videos(videos)))
    torch.stack([value.float().sum() for value in scores.values()]).sum().backward()
    count = sum(parameter.numel() for parameter in model.parameters() if parameter.grad is not None)
    model.zero_grad(set_to_none=True)
    return count


def vectors(encoded: Encoded, hidden: int) -> float:
    """Vectors of `hidden` values that ranking keeps of a video. Shapes: entries [B, ..., H]; masks and sizes are none."""
    rows = [value[0].numel() / hidden for value in encoded.values() if value.is_floating_point() and value.shape[-1] == hidden]
    return float(sum(rows))


def latencies(
    model: Retriever, encoded: Encoded, words: list[Words], weights: dict[str, float], galleries: list[int]
) -> dict[str, float | None]:
    """Milliseconds of one query, encoded, scored against every video and its best hundred kept: the median of several, by gallery size.

    The gallery is made up of real videos, over and over; what does not fit into the memory is scanned block after block. None: too long.
    """
    device = next(iter(encoded.values())).device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    fitting = max(gallery.count(encoded), int(MEMORY_SHARE * free / (_bytes(encoded) / gallery.count(encoded))))
    found: dict[str, float | None] = {}
    scale = 0.0  # seconds a video, from the gallery before
    for videos in sorted(galleries):
        if scale * videos > LONGEST:
            found[str(videos)] = None
            continue
        block = gallery.part(encoded, torch.arange(min(videos, fitting, 4096), device=device) % gallery.count(encoded))
        ask(model, block, words[0], weights, min(videos, gallery.count(block)))  # warms up
        times: list[float] = []
        for of in words:
            start = time.perf_counter()
            ask(model, block, of, weights, videos)
            _finish(device)
            times.append(time.perf_counter() - start)
            if sum(times) > QUERY_SECONDS:
                break
        found[str(videos)] = 1000 * statistics.median(times)
        scale = statistics.median(times) / videos
    return found


def ask(model: Retriever, block: Encoded, words: Words, weights: dict[str, float], videos: int) -> tuple[Tensor, Tensor]:
    """The best hundred of `videos` videos for one query, the block being read as often as needed. Shapes: scores and places [1, <=100]."""
    query = gallery.encode_queries(model, [words])
    size = gallery.count(block)
    best: Tensor | None = None
    places: Tensor | None = None
    for first in range(0, videos, size):
        some = block if videos - first >= size else gallery.part(block, slice(0, videos - first))
        fused = gallery.score(model, query, some, weights, video_chunk=1024).fused
        top = fused.topk(min(TOP, fused.shape[1]), dim=1)
        scores, here = top.values, top.indices + first
        if best is not None and places is not None:
            scores, here = torch.cat([best, scores], 1), torch.cat([places, here], 1)
            top = scores.topk(min(TOP, scores.shape[1]), dim=1)
            scores, here = top.values, here.gather(1, top.indices)
        best, places = scores, here
    assert best is not None
    assert places is not None
    return best, places


def _count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def _bytes(encoded: Encoded) -> int:
    return sum(value.numel() * value.element_size() for value in encoded.values())


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak() -> int:
    """Bytes this process had at most; Linux counts them in kilobytes, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _name(device: torch.device) -> str:
    """The GPU, or the processor and its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    models = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    )
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores"
