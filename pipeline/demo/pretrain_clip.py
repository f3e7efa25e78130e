"""Pretrains a tiny CLIP of open_clip on stills of the lessons and terse captions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.core.progress import Meter
from pipeline.demo import bpe, lessons
from pipeline.demo.lessons import write_weights
from pipeline.demo.readers import SHOWN, TOLD, Readers, shown, told
from pipeline.demo.scenes import Scene
from pipeline.encoders.preprocess import CLIP_MEAN, CLIP_STD, Normalisation

CONTEXT = 32  # tokens of the longest caption
BATCH, GROUPS, ALIKE = 192, 6, 28


@dataclass(frozen=True)
class Recipe:
    """One CLIP: its architecture, from which seed it learns, and the steps of its two lessons."""

    name: str
    seed: int
    size: int
    patch: int
    width: int
    layers: int
    text_width: int
    embed: int
    steps: int
    listening: int = 600
    rate: float = 1e-3

    def architecture(self, vocabulary: int) -> dict[str, Any]:
        """open_clip's model_cfg."""
        return {
            "embed_dim": self.embed,
            "vision_cfg": {
                "image_size": self.size,
                "patch_size": self.patch,
                "width": self.width,
                "layers": self.layers,
                "head_width": 32,
                "mlp_ratio": 2.0,
            },
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": vocabulary,
                "width": self.text_width,
                "heads": self.text_width // 32,
                "layers": 2,
                "mlp_ratio": 2.0,
                "tokenizer_kwargs": {"bpe_path": "bpe.txt.gz"},
            },
        }


def stills(frames: np.ndarray, size: int, rng: np.random.Generator | None = None) -> Tensor:
    """Frames as a CLIP sees them; with `rng` slightly brighter or darker, tinted, zoomed and mirrored.

    Shapes: uint8 [N, S, S, 3] -> float32 [N, 3, size, size].
    """
    images = torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).float()
    if rng is not None:
        if rng.random() < 0.5:
            images = images.flip(-1)
        cut = int(rng.integers(0, 5))
        images = images[..., cut : images.shape[-2] - cut, cut : images.shape[-1] - cut]
        images = images * torch.from_numpy(rng.uniform(0.9, 1.1, (len(images), 1, 1, 1))).float()
        images = images + torch.from_numpy(rng.uniform(-8, 8, (len(images), 3, 1, 1))).float()
    images = functional.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False)
    return Normalisation(CLIP_MEAN, CLIP_STD)(images.round().clamp(0, 255).to(torch.uint8).movedim(1, -1)).contiguous()


def last_states(model: Any, ids: Tensor) -> Tensor:
    """The text tower's state at [EOS], before the projection, computed without the padding. Shapes: ids [N, L] zero padded -> [N, D]."""
    length = int((ids != 0).sum(1).max())
    ids = ids[:, :length]
    states = model.token_embedding(ids) + model.positional_embedding[:length]
    states = model.ln_final(model.transformer(states, attn_mask=model.attn_mask[:length, :length]))
    return states[torch.arange(len(ids)), ids.argmax(1)]


class Batches:
    """Indices of a batch: groups that share colour and place, so that the shape must be learnt, and some drawn at random."""

    def __init__(self, scenes: Sequence[Scene], rng: np.random.Generator) -> None:
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for i, scene in enumerate(scenes):
            if scene.subject:
                groups[scene.subject[0], scene.place].append(i)
        self.groups, self.count, self.rng = [np.array(g) for g in groups.values()], len(scenes), rng

    def draw(self) -> np.ndarray:
        chosen = self.rng.choice(len(self.groups), GROUPS, replace=False)
        alike = [self.rng.choice(self.groups[g], min(ALIKE, len(self.groups[g])), replace=False) for g in chosen]
        return np.concatenate([*alike, self.rng.choice(self.count, BATCH - GROUPS * ALIKE, replace=False)])


class Texts:
    """Captions of the lessons as tokens, in several wordings, with what each tells."""

    def __init__(self, scenes: Sequence[Scene], tokenizer: Any, seed: int, wordings: int, sentences: float = 0.0) -> None:
        lines = [lessons.captions(scenes, seed + k, sentences) for k in range(wordings)]
        self.ids = [tokenizer(wording) for wording in lines]
        self.told = [told(scenes, wording) for wording in lines]

    def take(self, step: int, chosen: np.ndarray) -> tuple[Tensor, Tensor]:
        """Shapes: -> ids [n, CONTEXT], answers [n, 4]."""
        return self.ids[step % len(self.ids)][chosen], self.told[step % len(self.told)][chosen]


class Optimiser:
    """AdamW with a one-cycle rate over `parameters`; vectors are not decayed."""

    def __init__(self, parameters: Iterable[nn.Parameter], rate: float, steps: int, decay: float) -> None:
        self.parameters = list(parameters)
        matrices, vectors = [p for p in self.parameters if p.ndim > 1], [p for p in self.parameters if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.adam, rate, total_steps=steps, pct_start=0.1)

    def step(self, loss: Tensor) -> None:
        self.adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.adam.step()
        self.schedule.step()


def contrast(model: Any, images: Tensor, texts: Tensor) -> Tensor:
    """CLIP's symmetric loss. Shapes: [N, E], [N, E], not normalised -> scalar."""
    scale = model.logit_scale.exp().clamp(max=100)
    logits = scale * functional.normalize(images, dim=-1) @ functional.normalize(texts, dim=-1).T
    pairs = torch.arange(len(logits))
    return (functional.cross_entropy(logits, pairs) + functional.cross_entropy(logits.T, pairs)) / 2


def look(model: Any, recipe: Recipe, scenes: Sequence[Scene], frames: np.ndarray, tokenizer: Any) -> None:
    """First lesson: both towers learn together from stills and terse labels."""
    rng = np.random.default_rng(recipe.seed)
    seen, truth = Readers(recipe.width, SHOWN), shown(scenes)
    pooled: list[Tensor] = []
    hook = model.visual.ln_post.register_forward_hook(lambda _m, _i, out: pooled.append(out[:, 0] if out.ndim == 3 else out))
    optimiser = Optimiser([*model.parameters(), *seen.parameters()], recipe.rate, recipe.steps, 0.1)
    labels, batches = Texts(scenes, tokenizer, 100 * recipe.seed, 6), Batches(scenes, rng)
    with Meter(recipe.steps, f"{recipe.name}, looking", "step") as meter:
        for step in range(recipe.steps):
            chosen = batches.draw()
            pooled.clear()
            images = model.encode_image(stills(frames[chosen, rng.integers(0, lessons.SHOT, len(chosen))], recipe.size, rng))
            loss = contrast(model, images, last_states(model, labels.take(step, chosen)[0]) @ model.text_projection)
            optimiser.step(loss + seen(pooled[0], truth[chosen]))
            meter.update(1, f"contrast {loss.item():.3f}")
    hook.remove()


def listen(model: Any, recipe: Recipe, scenes: Sequence[Scene], frames: np.ndarray, tokenizer: Any) -> None:
    """Second lesson: the image tower is locked, the text tower goes on with the labels and reads whole sentences besides."""
    torch.manual_seed(recipe.seed + 1)
    rng = np.random.default_rng(recipe.seed + 1)
    model.requires_grad_(True)
    model.visual.requires_grad_(False)
    model.logit_scale.requires_grad_(False)
    with torch.no_grad():
        parts = range(0, len(scenes), BATCH)
        images = torch.cat([model.encode_image(stills(frames[i : i + BATCH, rng.integers(lessons.SHOT)], recipe.size)) for i in parts])
    read = Readers(recipe.text_width, TOLD)
    labels, sentences = Texts(scenes, tokenizer, 100 * recipe.seed + 10, 3), Texts(scenes, tokenizer, 100 * recipe.seed + 20, 3, 1.0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = Optimiser([*trained, *read.parameters()], recipe.rate / 2, recipe.listening, 0.05)
    batches = Batches(scenes, rng)
    with Meter(recipe.listening, f"{recipe.name}, listening", "step") as meter:
        for step in range(recipe.listening):
            chosen, also = batches.draw(), rng.choice(len(scenes), BATCH // 2, replace=False)
            (ids, says), (more, more_says) = labels.take(step, chosen), sentences.take(step, also)
            states = last_states(model, torch.cat([ids, more]))
            loss = contrast(model, images[chosen], states[: len(chosen)] @ model.text_projection)
            understood = read(states, torch.cat([says, more_says]))
            optimiser.step(loss + understood)
            meter.update(1, f"contrast {loss.item():.3f}, readers {understood.item():.3f}")


def train(recipe: Recipe, scenes: Sequence[Scene], frames: np.ndarray, merges: list[tuple[str, str]], folder: Path) -> None:
    """Train one CLIP and write its folder: open_clip_config.json, open_clip_model.safetensors (float16), bpe.txt.gz."""
    from open_clip.model import CLIP
    from open_clip.tokenizer import SimpleTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    bpe.write(folder / "bpe.txt.gz", merges)
    config = recipe.architecture(bpe.size(merges))
    tokenizer = SimpleTokenizer(bpe_path=str(folder / "bpe.txt.gz"), context_length=CONTEXT)
    torch.manual_seed(recipe.seed)
    model = CLIP(**json.loads(json.dumps(config)))
    look(model, recipe, scenes, frames, tokenizer)
    model.half().float()  # as it is shipped, so that the second lesson can be given again to a shipped model
    listen(model, recipe, scenes, frames, tokenizer)
    preprocessing = {
        "size": recipe.size,
        "mean": list(CLIP_MEAN),
        "std": list(CLIP_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}, indent=1) + "\n")
    write_weights(folder / "open_clip_model.safetensors", model)
