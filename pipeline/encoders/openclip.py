"""CLIP image and text towers of open_clip, from a tag, a file or a folder, with every parameter loaded or an error."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config.inputs import OpenClip
from pipeline.core.errors import EncoderError, WeightsError
from pipeline.encoders import checkpoints, onednn, published, text
from pipeline.encoders.preprocess import Normalisation
from pipeline.encoders.weights import CONFIG_FILE, Weights, resolve

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
TEXT_BATCH = {"cpu": 16, "cuda": 256}  # captions computed at once, always as many: see OpenClipEncoder.encode_texts
_OPENAI_BUFFERS = ("input_resolution", "context_length", "vocab_size")  # only OpenAI's archives carry these


class OpenClipEncoder:
    """A loaded CLIP: frames to projected image vectors, captions to token states and sentence vectors (none normalised).

    `embed_dim`: E of images and sentences; `text_dim`: D of token states; `context_length`: most tokens of a caption; `weights`: what
    was loaded; `preprocessing`: mean, std, size, interpolation, resize_mode.
    """

    def __init__(
        self, model: Any, tokenizer: Any, weights: Weights, preprocessing: dict[str, Any], config: OpenClip, device: torch.device
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        if device.type == "cpu":
            onednn.quicken(self.model)
        self.model.visual.to(memory_format=torch.channels_last)
        self.tokenizer, self.weights, self.preprocessing, self.device = tokenizer, weights, preprocessing, device
        self.context_length = int(getattr(model, "text", model).context_length)
        self.normalise = Normalisation(preprocessing["mean"], preprocessing["std"])
        self._dtype = PRECISIONS[config.precision]
        with torch.inference_mode():
            self.embed_dim = int(self.encode_images(np.zeros((1, config.size, config.size, 3), np.uint8)).shape[-1])
        if config.compile:
            self.model.visual = torch.compile(self.model.visual)

    @property
    def text_dim(self) -> int:
        """Width of the text transformer."""
        return int(text.text_tower(self.model).ln_final.normalized_shape[0])

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        with torch.inference_mode(), torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            yield

    def encode_images(self, frames: Tensor | np.ndarray) -> Tensor:
        """Projected image vectors. Shapes: frames uint8 [N, S, S, 3] RGB -> float32 [N, E] on the encoder's device."""
        frames = torch.as_tensor(frames).to(self.device, non_blocking=True)
        with self._computing():
            return self.model.encode_image(self.normalise(frames)).float()

    def encode_texts(self, texts: Sequence[str]) -> list[tuple[Tensor, Tensor, bool]]:
        """For each caption its token states, its sentence vector, and whether it had to be cut to the context length.

        Shapes: -> states float32 [L, D] ([SOS]..[EOS], after the final norm), sentence float32 [E] (= open_clip's encode_text); on the CPU.
        """
        tower = text.text_tower(self.model)
        ids, truncated = text.tokenize(self.tokenizer, texts, self.context_length)
        found: dict[int, tuple[Tensor, Tensor, bool]] = {}
        batch = TEXT_BATCH[self.device.type]
        for group in text.by_length(ids, batch):
            # The batch always has the same size: what a caption gets does not depend on which others are computed with it.
            rows = torch.stack([ids[i] for i in group] + [ids[group[0]]] * (batch - len(group)))
            with self._computing():
                states, sentences = text.states(tower, rows.to(self.device))
            states, sentences = states.float().cpu(), sentences.float().cpu()
            for place, i in enumerate(group):
                found[i] = states[place], sentences[place], truncated[i]
        return [found[i] for i in range(len(texts))]


def load(config: OpenClip, device: torch.device | str = "cpu", name: str = "") -> OpenClipEncoder:
    """The configured encoder with its pretrained weights on `device`.

    Errors: WeightsError (missing, damaged, wrong checksum, another architecture's, QuickGELU mismatch), EncoderError (unknown
    architecture, another image size, a preprocessing the frames were not made for).
    """
    weights = resolve(config, name)
    cfg, preprocessing = _described(config, weights)
    _check_network_free(cfg, config)
    state = checkpoints.read(weights.file)
    _check_quick_gelu(cfg, state, weights, config)
    model = _build(config, weights, cfg)
    checkpoints.load_strict(model, _fitted(state, model), where=weights.file)
    size = model.visual.image_size
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if sides != (config.size, config.size):
        raise EncoderError(
            f"{config.architecture} takes {sides[0]}x{sides[1]} pixels, the configuration says size: {config.size}",
            fix=f"set size: {sides[0]}",
        )
    preprocessing["size"] = config.size
    if preprocessing["resize_mode"] != "shortest" or preprocessing["interpolation"] != "bicubic":
        raise EncoderError(
            f"{config.architecture} was trained on frames resized by {preprocessing['resize_mode']}/{preprocessing['interpolation']}; "
            "frames here are resized by their short side (bicubic) and centre-cropped",
            fix="use an architecture with CLIP's own preprocessing",
        )
    return OpenClipEncoder(model, _tokenizer(config, weights, cfg), weights, preprocessing, config, torch.device(device))


def _described(config: OpenClip, weights: Weights) -> tuple[dict[str, Any], dict[str, Any]]:
    """The architecture's configuration and the preprocessing its weights were trained with."""
    from open_clip import get_model_config, list_models
    from open_clip.transform import PreprocessCfg

    preprocessing = asdict(PreprocessCfg())
    known = get_model_config(config.architecture)
    if weights.folder is not None:
        file = weights.folder / CONFIG_FILE["open_clip"]
        try:
            content = json.loads(file.read_text())
            cfg = content["model_cfg"]
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                "no readable open_clip_config.json with a model_cfg", where=file, fix="give a folder in open_clip's layout"
            ) from error
        if known is not None and (different := _differences(known, cfg)):
            raise WeightsError(
                f"the folder holds another architecture than {config.architecture}: {', '.join(different[:4])} differ",
                where=file,
                fix="set `architecture:` to the right name, or to a name of your own for an architecture open_clip does not list",
            )
        return cfg, preprocessing | content.get("preprocess_cfg", {})
    if known is None:
        raise EncoderError(
            f"open_clip knows no architecture {config.architecture!r}",
            fix="give a folder with open_clip_config.json, or one of: "
            + ", ".join(sorted(n for n in list_models() if n[:5] == config.architecture[:5])),
        )
    return known, preprocessing | (weights.published.preprocessing if weights.published else {})


def _differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Keys in which two architectures differ, defaults filled in."""
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    ignored = {"timm_model_pretrained", "hf_model_pretrained", "tokenizer_kwargs", "hf_tokenizer_name"}
    found = [k for k in ("embed_dim", "quick_gelu") if one.get(k, False) != other.get(k, False)]
    for part, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        a, b = asdict(kind(**one[part])), asdict(kind(**other[part]))
        found += [f"{part}.{k}" for k in a if k not in ignored and a[k] != b[k]]
    return found


def _check_network_free(cfg: dict[str, Any], config: OpenClip) -> None:
    if cfg["text_cfg"].get("hf_model_name"):
        raise EncoderError(
            f"{config.architecture} builds its text tower from {cfg['text_cfg']['hf_model_name']} on the hub: not CLIP's token states",
            fix="use an architecture with open_clip's own text transformer",
        )


def _check_quick_gelu(cfg: dict[str, Any], state: dict[str, Tensor], weights: Weights, config: OpenClip) -> None:
    """WeightsError when the weights are known to have been trained with the other activation: nothing else would show it."""
    openai = any(key in state for key in _OPENAI_BUFFERS) or any(e.sha256 == weights.sha256 for e in published.by_file().values())
    if weights.folder is not None and weights.published is None and not openai:
        return
    trained = True if openai else weights.published.quick_gelu if weights.published else None
    built = bool(cfg.get("quick_gelu", False))
    if trained is not None and trained != built:
        name = config.architecture.removesuffix("-quickgelu")
        raise WeightsError(
            f"QuickGELU mismatch: these weights were trained {'with' if trained else 'without'} it, "
            f"{config.architecture} is built {'with' if built else 'without'}",
            where=weights.file,
            fix=f"set architecture: {name + '-quickgelu' if trained else name}",
        )


def _build(config: OpenClip, weights: Weights, cfg: dict[str, Any]) -> Any:
    """The bare architecture, its parameters still to be filled by `load_strict`."""
    from open_clip import create_model

    name = f"local-dir:{weights.folder}" if weights.folder is not None else config.architecture
    with _quiet(), checkpoints.SkipInit():
        return create_model(name, load_weights=False, pretrained_image=False, pretrained_text=False)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence open_clip's warning that the model is random: it is, until the next line of `load`."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _fitted(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Published names brought to open_clip's: OpenAI's extra buffers dropped, old single-tower names moved, scalars reshaped."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    dropped = {*_OPENAI_BUFFERS, "text.transformer.embeddings.position_ids"}
    state = {k: v for k, v in state.items() if k not in dropped and k.rsplit(".", 1)[-1] != "attn_mask"}
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):
        own = getattr(model, key, None)
        if key in state and own is not None and own.numel() == state[key].numel():
            state[key] = state[key].reshape(own.shape)
    return state


def _tokenizer(config: OpenClip, weights: Weights, cfg: dict[str, Any]) -> Any:
    """The tokenizer of the architecture, from local files only. EncoderError when it would need the hub or another vocabulary."""
    from open_clip.tokenizer import SimpleTokenizer

    text_cfg = cfg["text_cfg"]
    wanted = text_cfg.get("hf_tokenizer_name")
    if wanted or (weights.folder is None and "siglip" in config.architecture.lower()):
        raise EncoderError(
            f"{config.architecture} needs the tokenizer {wanted or 'SigLIP'} from the hub",
            fix="use an architecture with CLIP's own tokenizer",
        )
    kwargs = dict(text_cfg.get("tokenizer_kwargs") or {})
    kwargs.pop("reduction_mask", None)  # a training augmentation; here a caption that is too long keeps its beginning
    if "bpe_path" in kwargs:
        kwargs["bpe_path"] = str((weights.folder or Path()) / kwargs["bpe_path"])
    tokenizer = SimpleTokenizer(context_length=text_cfg.get("context_length", 77), **kwargs)
    if tokenizer.vocab_size > text_cfg.get("vocab_size", 49408):
        raise EncoderError(
            f"the vocabulary has {tokenizer.vocab_size} entries, the text tower {text_cfg.get('vocab_size', 49408)}",
            where=kwargs.get("bpe_path"),
            fix="give the vocabulary the model was trained with",
        )
    return tokenizer
