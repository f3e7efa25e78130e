"""An architecture of open_clip, built from its description and fitted with the names of its published weights; nothing from the hub."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pipeline.config import published
from pipeline.config.encoders import OpenClip
from pipeline.core.errors import EncoderError, WeightsError
from pipeline.encoders import checkpoints
from pipeline.encoders.text import ClipTokenizer, FileTokenizer, Tokenizer
from pipeline.encoders.weights import Weights, vocabulary

RESIZING = {"resize_mode": ("shortest", "squash"), "interpolation": ("bicubic", "bilinear")}
OPENAI_BUFFERS = ("input_resolution", "context_length", "vocab_size")  # only OpenAI's archives carry these


def import_library() -> None:
    """Import open_clip without transformers, which it wants for towers from the hub, refused here, and which takes seconds of a job."""
    if "open_clip" in sys.modules or "transformers" in sys.modules:
        return
    sys.modules["transformers"] = None  # type: ignore[assignment]  # documented: importing it raises ModuleNotFoundError
    try:
        import_module("open_clip")
    finally:
        del sys.modules["transformers"]


def check_frames(config: OpenClip, preprocessing: dict[str, Any]) -> None:
    """EncoderError when frames are not resized as those the weights were trained on; fills in what they are."""
    stream, said = config.stream, config.described
    for key, mine in (("resize_mode", stream.resize), ("interpolation", stream.interpolation)):
        if said.get(key, mine) != mine or mine not in RESIZING[key]:
            raise EncoderError(
                f"{config.architecture} was trained on frames with {key} {said.get(key)}, the frames here have {mine}",
                fix=f"leave `{'resize' if key == 'resize_mode' else key}` out" if said.get(key) in RESIZING[key] else "use other weights",
            )
    preprocessing |= {"resize_mode": stream.resize, "interpolation": stream.interpolation}


def described(config: OpenClip, weights: Weights) -> tuple[dict[str, Any], dict[str, Any]]:
    """The architecture's configuration and the preprocessing its weights were trained with."""
    from open_clip import get_model_config, list_models
    from open_clip.transform import PreprocessCfg

    preprocessing = asdict(PreprocessCfg())
    known = get_model_config(config.architecture)
    if weights.folder is not None:
        file = weights.folder / config.config_file
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
    different = [k for k in ("embed_dim", "quick_gelu") if one.get(k, False) != other.get(k, False)]
    for part, kind in (("vision_cfg", CLIPVisionCfg), ("text_cfg", CLIPTextCfg)):
        a, b = asdict(kind(**one[part])), asdict(kind(**other[part]))
        different += [f"{part}.{k}" for k in a if k not in ignored and a[k] != b[k]]
    return different


def check_network_free(cfg: dict[str, Any], config: OpenClip) -> None:
    """EncoderError for a tower that is described on the hub alone."""
    elsewhere = cfg["text_cfg"].get("hf_model_name") or cfg["vision_cfg"].get("timm_model_name") or ""
    if cfg["text_cfg"].get("hf_model_name") or ":" in elsewhere or "/" in elsewhere:
        raise EncoderError(
            f"{config.architecture} builds a tower from {elsewhere} on the hub, and nothing is fetched from there",
            fix="use an architecture with open_clip's own text transformer, and a vision tower timm lists",
        )


def check_quick_gelu(cfg: dict[str, Any], state: dict[str, Tensor], weights: Weights, config: OpenClip) -> None:
    """WeightsError when the weights are known to have been trained with the other activation: nothing else would show it."""
    openai = any(key in state for key in OPENAI_BUFFERS) or any(e.sha256 == weights.sha256 for e in published.by_file().values())
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


def build(config: OpenClip, weights: Weights, cfg: dict[str, Any]) -> Any:
    """The bare architecture, its parameters still to be filled by `load_strict`."""
    from open_clip import create_model

    name = f"local-dir:{weights.folder}" if weights.folder is not None else config.architecture
    with quiet(), checkpoints.SkipInit():
        return create_model(name, load_weights=False, pretrained_image=False, pretrained_text=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence open_clip's warning that the model is random: it is, until the next line of `load`."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def fitted(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Published names brought to open_clip's: OpenAI's extra buffers dropped, old single-tower names moved, scalars reshaped."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    dropped = {*OPENAI_BUFFERS, "text.transformer.embeddings.position_ids"}
    state = {k: v for k, v in state.items() if k not in dropped and k.rsplit(".", 1)[-1] != "attn_mask"}
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for key in ("logit_scale", "logit_bias"):
        own = getattr(model, key, None)
        if key in state and own is not None and own.numel() == state[key].numel():
            state[key] = state[key].reshape(own.shape)
    return state


def tokenizer_of(config: OpenClip, weights: Weights, cfg: dict[str, Any]) -> Tokenizer:
    """The tokenizer of the architecture, from local files only.

    Errors: WeightsError when they are not here, EncoderError when they are damaged or of another vocabulary.
    """
    from open_clip.tokenizer import SimpleTokenizer

    text_cfg = cfg["text_cfg"]
    length, kwargs = int(text_cfg.get("context_length", 77)), dict(text_cfg.get("tokenizer_kwargs") or {})
    kwargs.pop("reduction_mask", None)  # a training augmentation; here a caption that is too long keeps its beginning
    where: Path | str | None = None
    tokenizer: Tokenizer
    if text_cfg.get("hf_tokenizer_name"):
        where = vocabulary(config)
        if unread := set(kwargs) - {"clean", "strip_sep_token"}:
            raise EncoderError(f"a tokenizer with {', '.join(sorted(unread))} is not supported", fix="use another architecture as `text:`")
        tokenizer = FileTokenizer(where, length, **kwargs)
    else:
        if "bpe_path" in kwargs:
            where = kwargs["bpe_path"] = str((weights.folder or Path()) / kwargs["bpe_path"])
        tokenizer = ClipTokenizer(SimpleTokenizer(context_length=length, **kwargs), length)
    if tokenizer.size > text_cfg.get("vocab_size", 49408):
        raise EncoderError(
            f"the vocabulary has {tokenizer.size} entries, the text tower {text_cfg.get('vocab_size', 49408)}",
            where=where,
            fix="give the vocabulary the model was trained with",
        )
    return tokenizer
