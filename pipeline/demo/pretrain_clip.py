"""Pretrains a tiny CLIP of open_clip on stills of the lessons and terse captions."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.demo import bpe, lessons
from pipeline.demo.vocabulary import COLOURS, PLACES, SHAPES
from pipeline.demo.world import Scene
from pipeline.encoders.preprocess import CLIP_MEAN, CLIP_STD, Normalisation
from pipeline.progress import Meter

CONTEXT = 32  # tokens of the longest caption
BATCH, GROUPS, ALIKE = 192, 6, 28


@dataclass(frozen=True)
class Recipe:
    """One CLIP: its architecture, how long it learns, and from which seed."""

    name: str
    seed: int
    size: int
    patch: int
    width: int
    layers: int
    text_width: int
    embed: int
    steps: int
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


def sentence_vectors(model: Any, ids: Tensor) -> Tensor:
    """open_clip's encode_text without computing on the padding. Shapes: ids [N, L] zero padded -> [N, E]."""
    length = int((ids != 0).sum(1).max())
    ids = ids[:, :length]
    states = model.token_embedding(ids) + model.positional_embedding[:length]
    states = model.ln_final(model.transformer(states, attn_mask=model.attn_mask[:length, :length]))
    return states[torch.arange(len(ids)), ids.argmax(1)] @ model.text_projection


class Attributes(nn.Module):
    """Three linear readers on the image tower's pooled token: which colour, shape and place. They speed up learning and are thrown away."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.readers = nn.ModuleList(nn.Linear(width, len(names) + 1) for names in (COLOURS, SHAPES, PLACES))

    def forward(self, pooled: Tensor, truth: Tensor) -> Tensor:
        """Mean cross entropy. Shapes: [N, width], truth [N, 3] int64."""
        return torch.stack([functional.cross_entropy(read(pooled), truth[:, i]) for i, read in enumerate(self.readers)]).mean()

    @staticmethod
    def of(scenes: Sequence[Scene]) -> Tensor:
        """The right answers, the last class of each where there is no subject. Shapes: [N, 3] int64."""
        names = [list(COLOURS), list(SHAPES), list(PLACES)]
        return torch.tensor(
            [[names[i].index(v) if v else len(names[i]) for i, v in enumerate((*(s.subject or (None, None)), s.place))] for s in scenes]
        )


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


def train(recipe: Recipe, scenes: Sequence[Scene], frames: np.ndarray, merges: list[tuple[str, str]], folder: Path) -> None:
    """Train one CLIP and write its folder: open_clip_config.json, open_clip_model.safetensors (float16), bpe.txt.gz."""
    from open_clip.model import CLIP
    from open_clip.tokenizer import SimpleTokenizer
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    bpe.write(folder / "bpe.txt.gz", merges)
    config = recipe.architecture(bpe.size(merges))
    tokenizer = SimpleTokenizer(bpe_path=str(folder / "bpe.txt.gz"), context_length=CONTEXT)
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    model = CLIP(**json.loads(json.dumps(config)))
    attributes, truth = Attributes(recipe.width), Attributes.of(scenes)
    pooled: list[Tensor] = []
    hook = model.visual.ln_post.register_forward_hook(lambda _m, _i, out: pooled.append(out[:, 0] if out.ndim == 3 else out))
    parameters = [*model.parameters(), *attributes.parameters()]
    decayed = [p for p in parameters if p.ndim > 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}],
        lr=recipe.rate,
        betas=(0.9, 0.98),
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.rate, total_steps=recipe.steps, pct_start=0.1)
    ids = [tokenizer(lessons.captions(scenes, 100 * recipe.seed + k)) for k in range(6)]
    batches = Batches(scenes, rng)
    with Meter(recipe.steps, recipe.name, "step") as meter:
        for step in range(recipe.steps):
            chosen = batches.draw()
            pooled.clear()
            shown = stills(frames[chosen, rng.integers(0, lessons.SHOT, len(chosen))], recipe.size, rng)
            images = functional.normalize(model.encode_image(shown), dim=-1)
            texts = functional.normalize(sentence_vectors(model, ids[step % len(ids)][chosen]), dim=-1)
            logits = model.logit_scale.exp().clamp(max=100) * images @ texts.T
            pairs = torch.arange(len(chosen))
            contrast = (functional.cross_entropy(logits, pairs) + functional.cross_entropy(logits.T, pairs)) / 2
            loss = contrast + attributes(pooled[0], truth[chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            meter.update(1, f"loss {loss.item():.3f}, of it contrast {contrast.item():.3f}")
    hook.remove()
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    preprocessing = {
        "size": recipe.size,
        "mean": list(CLIP_MEAN),
        "std": list(CLIP_STD),
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing}, indent=1) + "\n")
