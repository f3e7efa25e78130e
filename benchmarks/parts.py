"""The parts of the pipeline whose limits are measured: what each does, on what, and the operations and bytes that it needs at least."""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.decode import KINDS, MORE, bare, made, used
from benchmarks.encoders import save_weights
from benchmarks.extraction import NAMES
from benchmarks.peaks import operations, seconds
from benchmarks.training_step import ours, stored, world
from pipeline.clips.op_tome import op_tome
from pipeline.clips.stage import BATCH
from pipeline.config.encoder import Encoder
from pipeline.config.method import Experiment
from pipeline.config.schema import Config
from pipeline.encoders.base import load
from pipeline.encoders.batch_size import find_batch
from pipeline.models.base import Dims
from pipeline.models.msc import DualBranch
from pipeline.ranking import gallery
from pipeline.ranking.metrics import ranks
from pipeline.training.checkpoint import seed_everything
from pipeline.video.choose import choose
from pipeline.video.probe import probe

ENCODERS = ("clip-b16", "clip-l14", "slowfast-r50")
PARTS = ("step", *ENCODERS, "op-tome", "scores", "ranks", "decoding")
FRAMES, SCHEDULE = 128, [80, 52, 32]  # rows of a video, and what OP-ToMe makes of them
Seconds = tuple[float, float]  # wall and processor


@dataclass
class Part:
    """A piece of work; `count` gives its operations, `floor` its least seconds where neither operations nor bytes say them."""

    name: str
    shapes: str
    run: Callable[[], object]
    count: Callable[[], int]
    bytes: int
    said: str  # which bytes
    precision: str = "fp32"
    spread: Callable[[int], Seconds] | None = None  # its seconds where it is divided among processes
    floor: Callable[[int], Seconds] | None = None


def training(options: argparse.Namespace, device: torch.device) -> Part:
    """A step of MSC: loading a batch, its loss, the gradients, the update."""
    seed_everything(0)
    model_settings = {"hidden": options.hidden}
    settings = Experiment.model_validate(
        {"features": ["a"], "text": "a", "training": {"precision": options.precision}, "model": model_settings}
    )
    split = stored(*world(options))
    model = DualBranch(settings.model, Dims(options.dim, options.dim)).train().to(device)
    rate = {"learning_rate": 1e-4, "total_steps": 10000, "warmup": 0.01}
    optimizer, gather, loss = ours(model, settings, split, device, rate)

    def step() -> None:
        for parameter in model.parameters():
            parameter.grad = None
        loss(gather()).backward()
        optimizer.step()

    held = [value for part in (split.videos, split.queries) for value in vars(part).values() if isinstance(value, Tensor)]
    weights = sum(parameter.nbytes for parameter in model.parameters())
    shapes = f"{options.videos} videos x {options.queries_per_video} queries, {options.dim}/{options.hidden} wide"
    moved = sum(value.nbytes for value in held) + 6 * weights
    said = "the stored rows of videos and words, read; the weights and both moments of their gradients, read and written"
    return Part("step", shapes, step, lambda: operations(step), moved, said, options.precision)


def encoding(name: str, settings: Encoder, rows: int, device: torch.device) -> Part:
    """An encoder on pixels that are ready; its tower's weights are those of `model.visual` where it also has one for text."""
    encoder = load(settings, device)
    stream = settings.stream
    shape = (*([stream.count] if stream.count > 1 else []), stream.size, stream.size, 3)
    rows = rows or find_batch(encoder.encode, shape, device)
    pixels = torch.randint(0, 256, (rows, *shape), dtype=torch.uint8, device=device)
    model = encoder.model  # type: ignore[attr-defined]
    weights = sum(parameter.nbytes for parameter in getattr(model, "visual", model).parameters())
    moved = pixels.nbytes + weights + 4 * rows * encoder.dim
    return Part(
        name,
        f"{rows} x {' x '.join(map(str, shape))}",
        lambda: encoder.encode(pixels),
        lambda: rows * operations(lambda: encoder.encode(pixels[:1])),  # a row does not depend on the others
        moved,
        "pixels and weights, read; vectors, written",
        settings.precision,
    )


def merging(options: argparse.Namespace, device: torch.device) -> Part:
    """OP-ToMe: of each step's n rows the n // 2 dot products, their weighing and adding up, and the division by the clips' sizes."""
    frames = torch.randn(options.videos, FRAMES, options.dim, device=device)
    steps = zip([FRAMES, *SCHEDULE], SCHEDULE, strict=False)
    arithmetic = sum(2 * (before // 2) + 2 * before + after for before, after in steps) * options.dim * options.videos
    kept = SCHEDULE[-1]
    moved = frames.nbytes + options.videos * (4 * kept * (options.dim + 1) + 8 * FRAMES)
    return Part(
        "op-tome",
        f"{options.videos} videos x {FRAMES} to {kept} x {options.dim}, {BATCH} at once",
        lambda: [op_tome(some, SCHEDULE) for some in frames.split(BATCH)],
        lambda: arithmetic,
        moved,
        "frames, read; clips, their sizes and each frame's clip, written",
    )


def scoring(options: argparse.Namespace, device: torch.device) -> Part:
    """Queries against the tokens of both branches of all videos, and the fused scores."""
    settings = Experiment.model_validate({"features": ["a"], "text": "a", "model": {"hidden": options.hidden}})
    model = DualBranch(settings.model, Dims(options.dim, options.dim)).to(device)
    tokens = {"frames": FRAMES, "clips": SCHEDULE[-1]}
    encoded = {name: torch.randn(options.gallery, count, options.hidden, device=device) for name, count in tokens.items()}
    held, asked = model.gallery(encoded), {"pooled": torch.randn(options.asked, options.hidden, device=device)}
    weights = settings.evaluation.fusion(model.branches)

    def run() -> object:
        return gallery.score(model, asked, held, weights)

    moved = sum(value.nbytes for value in [*held.values(), *asked.values()]) + 4 * (len(tokens) + 1) * options.asked * options.gallery
    return Part(
        "scores",
        f"{options.asked} queries x {options.gallery} videos x {sum(tokens.values())} tokens x {options.hidden}",
        run,
        lambda: operations(run),
        moved,
        "tokens and queries, read; the scores of two branches and their sum, written",
    )


def ranking(options: argparse.Namespace, device: torch.device) -> Part:
    """Ranks of the true videos: a comparison a score."""
    scores = torch.randn(options.queries, options.gallery, device=device)
    truth = torch.randint(options.gallery, (options.queries,), device=device)
    return Part(
        "ranks",
        f"{options.queries} queries x {options.gallery} videos",
        lambda: ranks(scores, truth),
        scores.numel,
        scores.nbytes + 2 * truth.nbytes,
        "scores and true videos, read; ranks, written",
    )


def spread(work: Callable[..., object], files: list[str], *more: object, options: argparse.Namespace) -> Callable[[int], Seconds]:
    """The seconds of some work on every file, in this process or divided among several, by their number."""

    def measured(threads: int) -> Seconds:
        if threads == 1:
            return seconds(lambda: [work(file, *more) for file in files], torch.device("cpu"), options.repeats, options.seconds)
        found = []
        for _ in range(options.repeats + 1):
            started = time.perf_counter()
            spent = sum(_processes(threads).map(used, *zip(*[(work, file, *more) for file in files], strict=True)))
            found.append((time.perf_counter() - started, spent))
        return min(wall for wall, _ in found[1:]), min(spent for _, spent in found[1:])  # the first starts the processes

    return measured


@functools.cache
def _processes(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"))


def decoding(files: list[str], options: argparse.Namespace) -> Iterator[Part]:
    """Stills and windows by PyAV, windows by decord of the files that it may read."""
    allowed = [file for file in files if choose(probe(file), "decord").decoder == "decord"]
    for kind, decoder, chosen in (("stills", "pyav", files), ("windows", "pyav", files), ("windows", "decord", allowed)):
        if not chosen:
            continue
        stream = KINDS[kind][0]
        frames = sum(made(file, decoder, stream) for file in chosen)
        yield Part(
            f"{kind}, {decoder}",
            f"{len(chosen)} files, {frames // (stream.size**2 * 3)} frames x {stream.size} x {stream.size} x 3",
            lambda: [made(file, decoder, stream) for file in chosen],  # noqa: B023
            lambda: 0,
            sum(Path(file).stat().st_size for file in chosen) + frames,
            "files, read; frames, written",
            spread=spread(made, chosen, decoder, stream, options=options),
            floor=spread(bare, chosen, options=options),
        )


def parts(options: argparse.Namespace, device: torch.device, folder: Path) -> Iterator[Part]:
    """The wanted parts, each made when its turn comes."""
    makers = {"step": training, "op-tome": merging, "scores": scoring, "ranks": ranking}
    wanted = options.parts.split(",")
    if unknown := set(wanted) - set(PARTS):
        raise SystemExit(f"no part {', '.join(sorted(unknown))}: {', '.join(PARTS)}")
    files = [str(options.folder / file) for file in (*NAMES, *MORE) if (options.folder / file).exists()]
    if "decoding" in wanted and not files:
        raise SystemExit(f"none of the videos to decode is in {options.folder}: give --folder, or leave decoding out of --parts")
    for name in wanted:
        if name in makers:
            yield makers[name](options, device)
        elif name == "decoding":
            yield from decoding(files, options)
        else:
            entry = save_weights(name, folder) | {"precision": options.precision}
            config = Config(encoders={"x": entry, "text": {"kind": "open_clip"}}, features=["x"], text="text")
            yield encoding(name, config.encoders["x"], options.rows, device)
