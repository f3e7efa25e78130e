"""Parameter names of the released codes and of our models, each way, every name accounted for (golden small_weights)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeVar

from pipeline.core.errors import WeightsError

T = TypeVar("T")

_INPUT = {
    "projection.norm.": "{input}_input_proj.LayerNorm.",
    "projection.linear.": "{input}_input_proj.net.1.",
    "positions.table.": "{input}_pos_embed.position_embeddings.",
    "positions.norm.": "{input}_pos_embed.LayerNorm.",
}
_LAYER = {
    "attention.query.": "self.query.",
    "attention.key.": "self.key.",
    "attention.value.": "self.value.",
    "norm1.": "norm1.",
    "feed_forward.expand.": "output.layer1.",
    "feed_forward.contract.": "output.layer2.",
    "norm2.": "norm2.",
}


_ATTENTION_LAYER = {
    "attention.query.": "self.query.",
    "attention.key.": "self.key.",
    "attention.value.": "self.value.",
    "output.": "output.dense.",
    "norm.": "output.LayerNorm.",
}
_WITHOUT_BIAS = (
    "pooling.linear.",
    "positions.table.",
    "key_clip.guide.",
    "key_clip.value.",
    "_attention.expand.",
    "_attention.contract.",
)


def _shared(layer: Mapping[str, str]) -> dict[str, str]:
    """The inputs of every branch and the query encoder, which is one `layer`."""
    table = {"query.pooling.linear.": "modular_vector_mapping."}
    for name in ("frame", "clip", "query"):
        table |= {f"{name}.{a}": b.format(input=name) for a, b in _INPUT.items()}
    return table | {f"query.layer.{a}": f"query_encoder.{b}" for a, b in layer.items()}


def _ms_sl(branches: int) -> dict[str, str]:
    table = _shared(_ATTENTION_LAYER) | {"key_clip.guide.": "mapping_linear.0.", "key_clip.value.": "mapping_linear.1."}
    for name in ("frame", "clip"):
        table |= {f"{name}.layer.{a}": f"{name}_encoder.{b}" for a, b in _ATTENTION_LAYER.items()}
    return table


def _gmmformer(branches: int) -> dict[str, str]:
    table = _shared(_ATTENTION_LAYER) | {"pooling.linear.": "modular_vector_mapping_2."}
    blocks = {"frame.blocks.0": "frame_encoder_1", "frame.blocks.1": "frame_encoder_2"}
    for ours, released in (blocks | {"clip.blocks.0": "clip_encoder", "clip.blocks.1": "clip_encoder_2"}).items():
        for k in range(branches):
            table |= {f"{ours}.layers.{k}.{a}": f"{released}.attn{k}.{b}" for a, b in _ATTENTION_LAYER.items()}
    return table


def _gmmformer_v2(branches: int) -> dict[str, str]:
    table = _shared(_LAYER) | {"token": "weight_token"}
    for ours, released in (("frame", "frame_encoder_1"), ("clip", "clip_encoder")):
        for k in range(branches):
            table |= {f"{ours}.block.layers.{k}.{a}": f"{released}.attn{k}.{b}" for a, b in _LAYER.items()}
        table |= {f"{ours}.block.consolidation.{a}": f"{released}.ca.{b}" for a, b in _LAYER.items()}
        table |= {
            f"{ours}.block.consolidation.hidden.": f"{released}.layer1.",
            f"{ours}.block.consolidation.logits.": f"{released}.layer2.",
        }
    return table


def _msc(branches: int) -> dict[str, str]:
    return _gmmformer_v2(branches) | {"alignment.": "vproj_clip."}


_HEAD = {
    "mean_attention.expand.": "pie_net_{}.attention.w_1.",
    "mean_attention.contract.": "pie_net_{}.attention.w_2.",
    "mean.": "pie_net_{}.fc.",
    "norm.": "pie_net_{}.layer_norm.",
    "spread_attention.expand.": "uncertain_net_{}.attention.w_1.",
    "spread_attention.contract.": "uncertain_net_{}.attention.w_2.",
    "spread_attended.": "uncertain_net_{}.fc.",
    "spread_whole.": "uncertain_net_{}.fc2.",
}


def _ral(branches: int) -> dict[str, str]:
    """RAL on GMMFormer v2, the only base its released code has."""
    table = {f"base.{ours}": released for ours, released in _gmmformer_v2(branches).items()}
    table |= {"words.projection.norm.": "frame_branch_query_proj.LayerNorm.", "words.projection.linear.": "frame_branch_query_proj.net.1."}
    table |= {f"words.layer.{a}": f"frame_branch_query_encoder.{b}" for a, b in _LAYER.items()}
    table |= {"gate.expand.": "text_weight_fc.0.", "gate.contract.": "text_weight_fc.2."}
    return table | {f"heads.{side}.{a}": b.format(side) for side in ("video", "text") for a, b in _HEAD.items()}


_TABLES = {"msc": _msc, "ms_sl": _ms_sl, "gmmformer": _gmmformer, "gmmformer_v2": _gmmformer_v2, "ral": _ral}
KINDS = tuple(_TABLES)  # of the models whose released checkpoints are read


def prefixes(branches: int = 8, kind: str = "msc") -> dict[str, str]:
    """Prefix of our parameter name -> prefix of the released one, for a model of a kind with `branches` Gaussian branches."""
    return _TABLES[kind](branches)


def kind_of(names: Collection[str]) -> str | None:
    """The kind of model that has all of these released parameter names and no others; None: none that is known."""
    branches = len({name.split(".")[1] for name in names if name.startswith("clip_encoder.attn")})
    for kind in KINDS:
        known = set(prefixes(branches, kind).values())
        if known == {name if name in known else name.rpartition(".")[0] + "." for name in names}:
            return kind
    return None


def _rename(names: Mapping[str, T], table: Mapping[str, str]) -> dict[str, T]:
    renamed, unknown = {}, []
    for name, value in names.items():
        prefix = name if name in table else name.rpartition(".")[0] + "."
        if prefix in table:
            renamed[table[prefix] + name[len(prefix) :]] = value
        else:
            unknown.append(name)
    if unknown:
        raise WeightsError(
            f"parameters that belong to no part of the model: {', '.join(sorted(unknown))}", fix="check the number of Gaussian widths"
        )
    return renamed


def from_released(weights: Mapping[str, T], branches: int = 8, kind: str = "msc") -> dict[str, T]:
    """Released names -> ours. Errors: WeightsError listing every name that has no place, and every one that is missing."""
    table = prefixes(branches, kind)
    renamed = _rename(weights, {released: ours for ours, released in table.items()})
    _complete(renamed, table)
    return renamed


def to_released(weights: Mapping[str, T], branches: int = 8, kind: str = "msc") -> dict[str, T]:
    """Our names -> released. Errors: as `from_released`."""
    table = prefixes(branches, kind)
    _complete(weights, table)
    return _rename(weights, table)


def _complete(ours: Mapping[str, T], table: Mapping[str, str]) -> None:
    expected = set()
    for prefix in table:
        if not prefix.endswith("."):
            expected.add(prefix)
            continue
        expected.add(prefix + "weight")
        if not prefix.endswith(_WITHOUT_BIAS):
            expected.add(prefix + "bias")
    if missing := sorted(expected - set(ours)):
        raise WeightsError(f"parameters missing: {', '.join(missing)}", fix="check that the checkpoint is of this model")
