"""Golden arrays of this project's own making: `python -m tests.golden.make_own` writes tests/golden/own/*.npz.

Inputs are drawn from fixed seeds and outputs computed in float64 by the literal, loop-for-loop forms of docs/method.md in
`benchmarks/literal*.py`, which share no code with what they check but the containers of a model's parameters. `in/` holds inputs, `out/`
outputs, `noise/` the largest difference of the same literal form in float32: the production code, which computes in float32, is held to
ten times that (tests/golden/test_own.py). A test makes the files again and compares.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import literal, literal_model
from pipeline.config.models import Msc
from pipeline.models.base import Dims
from pipeline.models.msc import DualBranch

FOLDER = Path(__file__).parent / "own"
SETTINGS = Msc.model_validate({"hidden": 8, "heads": 2, "widths": [None, 0.5, 5.0], "max_words": 7, "consolidation_temperature": 0.6})
VIDEO, TEXT = 6, 5  # widths of the rows of the small model
TAUS = (0.2, 0.4, 0.6, 0.8, 0.9)
TERMS = {"margin": 0.2, "hard": True, "pool": 1, "nce": (0.02, 0.04), "tau": 0.8}
STEPS, TOTAL, RATE, WARMUP = 5, 12, 1e-3, 0.2

Arrays = dict[str, np.ndarray]


def draw_pooling(random: np.random.RandomState) -> Arrays:
    """Fewer rows than 128, exactly as many, either side of where the last row is lost (192), more."""
    return {f"rows{n}": random.standard_normal((n, 3)).astype(np.float32) for n in (1, 7, 127, 128, 191, 193, 301)}


def pooling(given: Arrays) -> Arrays:
    """docs/method.md 2.2, both rules for the last row."""
    return {f"{rule}/{name}": literal.pool(rows, 128, rule) for name, rows in given.items() for rule in ("drop", "keep")}


def draw_op_tome(random: np.random.RandomState) -> Arrays:
    """Ordinary rows, rows of very different lengths, and small integers, among whose products many are equal."""
    plain = random.standard_normal((128, 4))
    spread = random.standard_normal((128, 4)) * np.exp(0.8 * random.standard_normal((128, 1)))
    ties = random.randint(-3, 4, (128, 4))
    return {name: rows.astype(np.float32) for name, rows in (("plain", plain), ("spread", spread), ("ties", ties))}


def op_tome(given: Arrays) -> Arrays:
    """docs/method.md 3.1 with the released schedule."""
    found: Arrays = {}
    for name, rows in given.items():
        parts = literal.op_tome(torch.from_numpy(rows))
        found |= {f"{name}/{part}": values.numpy() for part, values in zip(("clips", "sizes", "frame_to_clip"), parts, strict=True)}
    return found


def draw_contexts(random: np.random.RandomState) -> Arrays:
    """Videos of 2, 3, 4, 6, 12 and 32 different scenes."""
    clips = []
    for scenes in (2, 3, 4, 6, 12, 32):
        scene = random.standard_normal((scenes, 6))
        clips.append(scene[np.arange(32) * scenes // 32] + 0.25 * random.standard_normal((32, 6)))
    return {"clips": np.stack(clips).astype(np.float32), "sizes": random.randint(1, 9, (6, 32)).astype(np.float32)}


def contexts(given: Arrays) -> Arrays:
    """docs/method.md 4: the ratio by both readings at several thresholds, and every level's merges."""
    clips, sizes = torch.from_numpy(given["clips"]), torch.from_numpy(given["sizes"])
    found: Arrays = {"closure": np.array([[literal.context_ratio(video, tau) for tau in TAUS] for video in clips])}
    found["pairs"] = np.array([[literal.pair_ratio(video, tau) for tau in TAUS] for video in clips])
    assignments = []
    for rows, mass in zip(clips, sizes, strict=True):
        context, levels = torch.arange(32), [torch.arange(32)]
        for target in literal.LEVELS[1:]:
            place = literal.bipartite_merge(rows, mass, target)
            rows, mass = literal.folded(rows, mass, place, target)
            context = place[context]
            levels.append(context)
        assignments.append(torch.stack(levels))
    return found | {"assignments": torch.stack(assignments).numpy()}


def draw_losses(random: np.random.RandomState) -> Arrays:
    """Scores and relations of 10 queries of 4 videos, and tokens of 3 videos that take three levels."""
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3])
    frozen = draw_contexts(random)
    order = np.sort(random.randint(0, 32, (3, 96)), axis=1)
    return {
        "labels": labels,
        "dot": (3 * random.standard_normal((10, 4))).astype(np.float32),
        "cosine": np.tanh(random.standard_normal((10, 4))).astype(np.float32),
        "student": random.standard_normal((10, 6)).astype(np.float32),
        "teacher": random.standard_normal((10, 5)).astype(np.float32),
        "frames": random.standard_normal((3, 128, 4)).astype(np.float32),
        "tokens": random.standard_normal((3, 32, 4)).astype(np.float32),
        "frozen": frozen["clips"][[0, 2, 5]],
        "sizes": frozen["sizes"][[0, 2, 5]],
        "frame_to_clip": np.sort(np.concatenate([np.tile(np.arange(32), (3, 1)), order], axis=1), axis=1),
    }


def losses(given: Arrays) -> Arrays:
    """docs/method.md 6.2-6.6: values, and gradients with respect to what each trains."""
    data = {name: torch.from_numpy(array) for name, array in given.items()}
    teacher, labels = data["teacher"], data["labels"]
    found: Arrays = {}
    for name, of, value in (
        ("nce", "dot", lambda x: literal.nce(x, labels)),
        ("triplet", "cosine", lambda x: literal.triplet(x, labels, 0.2, True, 1)),
        ("tcpl_distance", "student", lambda x: literal.tcpl_distance(x, teacher)),
        ("tcpl_angle", "student", lambda x: literal.tcpl_angle(x, teacher)),
    ):
        at = data[of].clone().requires_grad_()
        loss = value(at)
        found |= {name: loss.detach().numpy(), f"{name}/gradient": torch.autograd.grad(loss, at)[0].numpy()}
    for ratio in (0.0, 0.2, 0.4, 0.6, 0.8):
        frames, tokens = (data[name].clone().requires_grad_() for name in ("frames", "tokens"))
        loss = literal.cbva(frames, tokens, data["frozen"], data["sizes"], data["frame_to_clip"], [ratio] * 3)
        found[f"cbva{ratio}"] = loss.detach().numpy()
        if ratio in (0.0, 0.4):
            by_frames, by_tokens = torch.autograd.grad(loss, [frames, tokens])
            found |= {f"cbva{ratio}/by_frames": by_frames.numpy(), f"cbva{ratio}/by_clips": by_tokens.numpy()}
    return found


def draw_ranking(random: np.random.RandomState) -> Arrays:
    """Scores of 40 queries against 110 videos, and the same rounded until many are equal."""
    clip, frame = (np.tanh(random.standard_normal((40, 110))) for _ in range(2))
    return {
        "clip": np.round(clip, 4).astype(np.float32),
        "frame": np.round(frame, 4).astype(np.float32),
        "tied": np.round(clip, 1).astype(np.float32),
        "truth": random.randint(0, 110, 40),
    }


def ranking(given: Arrays) -> Arrays:
    """docs/method.md 8.1-8.2."""
    fused = 0.4 * given["clip"] + 0.6 * given["frame"]
    found: Arrays = {}
    for name, scores in (("clip", given["clip"]), ("frame", given["frame"]), ("fused", fused), ("tied", given["tied"])):
        places = literal.ranks(scores, given["truth"])
        found |= {f"{name}/ranks": places, f"{name}/recalls": np.array(literal.recalls(places))}
    return found


def draw_optimizer(random: np.random.RandomState) -> Arrays:
    """A weight and a bias, and gradients shorter and longer than the clipping norm."""
    size = np.array([0.01, 0.1, 1, 3, 10, 0.5])[:, None, None]
    return {
        "weight": random.standard_normal((3, 4)).astype(np.float32),
        "bias": random.standard_normal(4).astype(np.float32),
        "by_weight": (size * random.standard_normal((6, 3, 4))).astype(np.float32),
        "by_bias": (size[:, 0] * random.standard_normal((6, 4))).astype(np.float32),
    }


def optimizer(given: Arrays) -> Arrays:
    """docs/method.md 7.1-7.2: each step's values, and the schedule."""
    found: Arrays = {"schedule": np.array([literal.schedule(step, TOTAL, WARMUP) for step in range(TOTAL + 3)])}
    rates = [1e-2 * factor for factor in found["schedule"][:6]]
    for name, decay in (("weight", 0.01), ("bias", 0.0)):
        gradients = list(torch.from_numpy(given[f"by_{name}"]))
        found[name] = torch.stack(literal.bert_adam(torch.from_numpy(given[name]), gradients, rates, decay)).numpy()
    return found


def draw_model(random: np.random.RandomState) -> Arrays:
    """Weights in which every parameter matters, and a batch of 4 videos with 9 captions, as the literal loader collates it."""
    found: Arrays = {}
    for name, value in sorted(DualBranch(SETTINGS, Dims(VIDEO, TEXT)).state_dict().items()):
        z = random.standard_normal(tuple(value.shape))
        scale = 1.0 if value.ndim != 2 or "table" in name else value.shape[1] ** -0.5
        norm = "norm" in name and name.endswith("weight")
        z = 1 + 0.1 * z if norm else z * (0.1 if value.ndim == 1 else scale)
        found[f"weights/{name}"] = z.astype(np.float32)
    videos = []
    for rows, scenes in ((40, 2), (128, 4), (200, 40), (260, 8)):
        scene = random.standard_normal((scenes, VIDEO))
        videos.append((scene[np.arange(rows) * scenes // rows] + 0.2 * random.standard_normal((rows, VIDEO))).astype(np.float32))
    captions = [[random.standard_normal((int(random.randint(3, 10)), TEXT)).astype(np.float32) for _ in range(n)] for n in (3, 2, 3, 1)]
    batch = literal_model.load(videos, captions, SETTINGS.max_words)
    return found | {f"batch/{name}": value.numpy() for name, value in batch.items()}


def model_of(given: Arrays) -> DualBranch:
    """The small model with stored weights, without dropout, in the weights' precision, with literal windows."""
    weights = {name.removeprefix("weights/"): torch.from_numpy(value) for name, value in given.items() if name.startswith("weights/")}
    model = DualBranch(SETTINGS, Dims(VIDEO, TEXT)).eval().to(next(iter(weights.values())).dtype)
    model.load_state_dict(weights)
    for branch, length in ((model.frame, 128), (model.clip, 32)):
        for k, width in enumerate(SETTINGS.widths):
            if width is not None:
                branch.block.windows[k] = literal.gaussian_window(length, width).to(branch.block.windows.dtype)
    return model


def batch_of(given: Arrays) -> dict[str, Tensor]:
    """The stored batch as tensors."""
    return {name.removeprefix("batch/"): torch.from_numpy(value) for name, value in given.items() if name.startswith("batch/")}


def encoder(given: Arrays) -> Arrays:
    """docs/method.md 5 and 6.7: tokens, queries, the total loss, and its gradient's norm for every parameter."""
    model, batch = model_of(given), batch_of(given)
    frames, clips, query = literal_model.encode(model, batch)
    found = {"frames": frames[:2, ::8], "clips": clips, "query": query}
    loss = literal_model.loss(model, batch, **TERMS)
    loss.backward()
    zero = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in sorted(model.named_parameters())}
    found |= {"loss": loss, "norms": torch.stack([gradient.norm() for gradient in zero.values()])}
    found |= {f"gradient/{name}": zero[name] for name in ("token", "alignment.weight", "query.pooling.linear.weight")}
    return {name: value.detach().numpy() for name, value in found.items()}


def idle(name: str) -> bool:
    """Whether a parameter's gradient is zero in exact arithmetic: the optimiser then divides one rounding by another."""
    return name.endswith(("key.bias", "logits.bias"))


def trajectory(given: Arrays) -> Arrays:
    """Some steps of training on one batch: the loss before each, and what the parameters became (docs/method.md 5-7)."""
    model, batch = model_of(given), batch_of(given)
    history: dict[str, list[Tensor]] = {name: [] for name, _ in model.named_parameters()}
    start = {name: value.detach().clone() for name, value in model.named_parameters()}
    rates, found = [RATE * literal.schedule(step, TOTAL, WARMUP) for step in range(STEPS)], []
    for step in range(STEPS):
        model.zero_grad()
        loss = literal_model.loss(model, batch, **TERMS)
        loss.backward()
        found.append(loss.item())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                history[name].append(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone())
                decay = 0.0 if name.endswith(("bias", "projection.norm.weight", "positions.norm.weight")) else 0.01
                parameter.copy_(literal.bert_adam(start[name], history[name], rates[: step + 1], decay)[-1])
    moved = torch.stack([(value.detach() - start[name]).norm() for name, value in sorted(model.named_parameters()) if not idle(name)])
    return {"losses": np.array(found), "moved": moved.numpy(), "alignment.weight": model.alignment.weight.detach().numpy()}


Draw, Compute = Callable[[np.random.RandomState], Arrays], Callable[[Arrays], Arrays]
FILES: dict[str, tuple[Draw, list[Compute]]] = {
    "pooling": (draw_pooling, [pooling]),
    "op_tome": (draw_op_tome, [op_tome]),
    "contexts": (draw_contexts, [contexts]),
    "losses": (draw_losses, [losses]),
    "ranking": (draw_ranking, [ranking]),
    "optimizer": (draw_optimizer, [optimizer]),
    "model": (draw_model, [encoder, trajectory]),
}


def make(name: str) -> Arrays:
    """The arrays of one file."""
    draw, parts = FILES[name]
    given = draw(np.random.RandomState(20250 + list(FILES).index(name)))
    wide = {key: value.astype(np.float64) if value.dtype == np.float32 else value for key, value in given.items()}
    found = {f"in/{key}": value for key, value in given.items()}
    for part in parts:
        exact, rounded = part(wide), part(given)
        for key, value in exact.items():
            if value.dtype.kind == "f":
                found[f"noise/{key}"] = np.abs(value - rounded[key]).max()
                found[f"out/{key}"] = value if value.size < 64 else value.astype(np.float32)
            else:
                np.testing.assert_array_equal(value, rounded[key], err_msg=f"{name} {key}: rounding decides it")
                found[f"out/{key}"] = value.astype(np.uint8) if value.max() < 256 else value
    return found


def main() -> None:
    torch.set_num_threads(1)
    FOLDER.mkdir(exist_ok=True)
    for name in FILES:
        np.savez_compressed(FOLDER / f"{name}.npz", **make(name))
        print(f"{name}.npz {(FOLDER / f'{name}.npz').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
