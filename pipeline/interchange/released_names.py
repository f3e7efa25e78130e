"""Parameter names of the released code and of this model, each way, every name accounted for (golden small_weights)."""

from __future__ import annotations

from collections.abc import Mapping
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


def prefixes(branches: int = 8) -> dict[str, str]:
    """Prefix of our parameter name -> prefix of the released one, for a model of `branches` Gaussian branches."""
    table = {"token": "weight_token", "alignment.": "vproj_clip.", "query.pooling.linear.": "modular_vector_mapping."}
    for ours, released in (("frame", "frame"), ("clip", "clip"), ("query", "query")):
        table |= {f"{ours}.{a}": b.format(input=released) for a, b in _INPUT.items()}
    table |= {f"query.layer.{a}": f"query_encoder.{b}" for a, b in _LAYER.items()}
    for ours, released in (("frame", "frame_encoder_1"), ("clip", "clip_encoder")):
        for k in range(branches):
            table |= {f"{ours}.block.layers.{k}.{a}": f"{released}.attn{k}.{b}" for a, b in _LAYER.items()}
        table |= {f"{ours}.block.consolidation.{a}": f"{released}.ca.{b}" for a, b in _LAYER.items()}
        table |= {
            f"{ours}.block.consolidation.hidden.": f"{released}.layer1.",
            f"{ours}.block.consolidation.logits.": f"{released}.layer2.",
        }
    return table


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


def from_released(weights: Mapping[str, T], branches: int = 8) -> dict[str, T]:
    """Released names -> ours. Errors: WeightsError listing every name that has no place, and every one that is missing."""
    renamed = _rename(weights, {released: ours for ours, released in prefixes(branches).items()})
    _complete(renamed, prefixes(branches))
    return renamed


def to_released(weights: Mapping[str, T], branches: int = 8) -> dict[str, T]:
    """Our names -> released. Errors: as `from_released`."""
    _complete(weights, prefixes(branches))
    return _rename(weights, prefixes(branches))


def _complete(ours: Mapping[str, T], table: Mapping[str, str]) -> None:
    expected = set()
    for prefix in table:
        if not prefix.endswith("."):
            expected.add(prefix)
            continue
        expected.add(prefix + "weight")
        if prefix not in ("query.pooling.linear.", "frame.positions.table.", "clip.positions.table.", "query.positions.table."):
            expected.add(prefix + "bias")
    if missing := sorted(expected - set(ours)):
        raise WeightsError(f"parameters missing: {', '.join(missing)}", fix="check that the checkpoint is of this model")
