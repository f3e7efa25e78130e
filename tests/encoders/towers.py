"""Two-layer models of the families open_clip lists, in the formats they are published in."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
from open_clip.factory import create_model
from safetensors.torch import save_file
from timm.layers import LayerNorm
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer

from tests.encoders.conftest import CLIP_CFG, SIZE, clip_folder, randomised, tiny_clip

HALF = {"mean": [0.5] * 3, "std": [0.5] * 3}
TEXT = {"vocab_size": 64, "width": 32, "heads": 2, "layers": 2}
OWN_WORDS = {**TEXT, "vocab_size": 520, "tokenizer_kwargs": {"bpe_path": "vocab.txt.gz"}}
SIGLIP_TEXT = {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6}}
SIGLIP_TEXT |= {"context_length": 64, "hf_tokenizer_name": "timm/of-this-folder", "tokenizer_kwargs": {"clean": "canonicalize"}}


def _tower(name: str, pool: str, projection: str | None) -> dict[str, Any]:
    return {"image_size": SIZE, "timm_model_name": name, "timm_model_pretrained": False, "timm_pool": pool, "timm_proj": projection}


OWN = {"embed_dim": 24, "custom_text": True}
SIGLIP = {**OWN, "init_logit_bias": -10, "vision_cfg": _tower("tiny_siglip", "map", "none")}
# name -> (model_cfg, preprocess_cfg), as in open_clip's own files but for the sizes.
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "siglip": (
        {
            "embed_dim": 24,
            "init_logit_bias": -10,
            "custom_text": True,
            "vision_cfg": _tower("tiny_siglip", "map", "none"),
            "text_cfg": SIGLIP_TEXT,
        },
        {**HALF, "interpolation": "bicubic", "resize_mode": "squash"},
    ),
    "siglip2": (
        {**SIGLIP, "text_cfg": {**SIGLIP_TEXT, "act_kwargs": {"approximate": "tanh"}}},
        {**HALF, "interpolation": "bicubic", "resize_mode": "squash"},
    ),
    "pe-core": (
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": _tower("tiny_pe", "map", None),
            "text_cfg": {**OWN_WORDS, "context_length": 32},
        },
        {**HALF, "interpolation": "bilinear", "resize_mode": "squash"},
    ),
    "eva02": (
        {
            "embed_dim": 24,
            "custom_text": True,
            "vision_cfg": _tower("tiny_eva02", "token", None),
            "text_cfg": {**OWN_WORDS, "context_length": 77},
        },
        {"interpolation": "bicubic", "resize_mode": "shortest"},
    ),
    "metaclip": ({**CLIP_CFG, "quick_gelu": True}, {}),
    "mobileclip": (
        {**CLIP_CFG, "custom_text": True, "text_cfg": {**CLIP_CFG["text_cfg"], "no_causal_mask": True}},
        {"mean": [0.0] * 3, "std": [1.0] * 3, "interpolation": "bilinear", "resize_mode": "shortest"},
    ),
    "cased": (
        {**CLIP_CFG, "text_cfg": {**TEXT, "context_length": 77, "pool_type": "eos", "eos_id": 1, "hf_tokenizer_name": "some/cased"}},
        {},
    ),
    "clipa": (
        {
            **CLIP_CFG,
            "text_cfg": {
                **{**TEXT, "context_length": 32, "no_causal_mask": True, "pool_type": "last", "hf_tokenizer_name": "bert-base-uncased"},
                "tokenizer_kwargs": {"strip_sep_token": True},
            },
        },
        {"interpolation": "bilinear", "resize_mode": "squash"},
    ),
}
OF_HUB = ("siglip", "siglip2", "cased", "clipa")  # whose tokenizer is a file of the hub


def register() -> None:
    """Make timm list the towers: the classes of the published ones, with the published arguments but for the sizes."""
    if "tiny_siglip" in sys.modules[__name__].__dict__.get("__all__", []):
        return
    small = {"img_size": SIZE, "patch_size": 16, "embed_dim": 24, "depth": 2, "num_heads": 2}
    rope = {"use_rot_pos_emb": True, "ref_feat_shape": (2, 2)}

    def tiny_siglip(pretrained: bool = False, **kwargs: Any) -> VisionTransformer:
        return _built(VisionTransformer, pretrained, {**small, "class_token": False, "global_pool": "map"}, kwargs)

    def tiny_pe(pretrained: bool = False, **kwargs: Any) -> Eva:
        own = {"mlp_ratio": 4.0, "attn_type": "rope", "use_pre_transformer_norm": True, "rope_grid_offset": 1.0, "rope_grid_indexing": "xy"}
        head = {"attn_pool_num_heads": 2, "attn_pool_mlp_ratio": 4.0, "norm_layer": partial(LayerNorm, eps=1e-5)}
        return _built(Eva, pretrained, {**small, **rope, **own, **head, "global_pool": "map"}, kwargs)

    def tiny_eva02(pretrained: bool = False, **kwargs: Any) -> Eva:
        own = {"qkv_fused": False, "mlp_ratio": 4 * 2 / 3, "swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True}
        return _built(Eva, pretrained, {**small, **rope, **own}, kwargs)

    for model in (tiny_siglip, tiny_pe, tiny_eva02):
        model.__module__ = __name__
        register_model(model)


def _built(model: type, pretrained: bool, arguments: dict[str, Any], given: dict[str, Any]) -> Any:
    assert not pretrained, "nobody may ask the hub"
    of_timm = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
    return model(**{**arguments, **{key: value for key, value in given.items() if key not in of_timm}})


def family(name: str, folder: Path) -> Path:
    """A folder with a small model of a family, its weights away from every initial value."""
    register()
    cfg, preprocess = FAMILIES[name]
    clip_folder(folder, tiny_clip(), cfg, preprocess)  # for its vocabulary and configuration
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = create_model(f"local-dir:{folder}", load_weights=False, pretrained_image=False, pretrained_text=False)
        if name == "coca":  # open_clip leaves its decoder's projection as the memory was: not a number, now and then
            torch.nn.init.normal_(model.text_decoder.text_projection, std=0.1)
        randomised(model)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    if name in OF_HUB:
        tokenizer(folder, name)
    return folder


def tokenizer(folder: Path, name: str) -> None:
    """A small vocabulary as transformers saves one: SigLIP's pads with the end token, SigLIP 2's and the others' with a pad token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<unk>", "<s>", "[CLS]", "[SEP]"]
    pieces = [*special, *"▁abcdefghijklmnopqrstuvwxyzTC!", "▁the", "▁The", "cat"]
    words = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, [], unk_token="<unk>"))
    if name != "clipa":
        words = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=2))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.add_special_tokens(special)
    template = {"clipa": "[CLS] $A [SEP]", "cased": "<s> $A </s>"}.get(name, "$A </s>")
    ids = [(token, pieces.index(token)) for token in special]
    words.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    pad = "</s>" if name == "siglip" else "<pad>"
    saved = PreTrainedTokenizerFast(tokenizer_object=words, pad_token=pad, eos_token="</s>", unk_token="<unk>", sep_token="[SEP]")
    saved.save_pretrained(folder)
    assert json.loads((folder / "tokenizer_config.json").read_text())["pad_token"] == pad
