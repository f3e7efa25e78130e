"""Linear layers and self-attention through oneDNN on a CPU: MKL, torch's choice for float32, runs at half the speed on AMD processors.

Measured, one core of an EPYC, 1576 x 768 by 768 x 3072: MKL 90, oneDNN 205 GFLOP/s; on the result's last bits they differ.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.onednn import available

Module = TypeVar("Module", bound=nn.Module)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x weight^T + bias. Shapes: x [..., K], weight [N, K], bias [N] -> [..., N]. Anything but plain float32 inference goes torch's way."""
    if x.dtype != torch.float32 or not x.is_cpu or torch.is_autocast_enabled("cpu") or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


class Linear(nn.Linear):
    """nn.Linear on oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


class SelfAttention(nn.MultiheadAttention):
    """nn.MultiheadAttention on oneDNN where query, key and value are one tensor and the weights are not asked for."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Shapes: [B, L, D], attn_mask [L, L] additive or None -> ([B, L, D], None)."""
        mask = kwargs.get("attn_mask")
        plain = not args and kwargs.get("need_weights") is False and set(kwargs) <= {"need_weights", "attn_mask"}
        if not plain or query is not key or key is not value or not self.batch_first or self.in_proj_weight is None or query.ndim != 3:
            return super().forward(query, key, value, *args, **kwargs)
        batch, length, width = query.shape
        heads = linear(query, self.in_proj_weight, self.in_proj_bias).view(batch, length, 3, self.num_heads, self.head_dim)
        q, k, v = heads.permute(2, 0, 3, 1, 4)
        joined = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(batch, length, width)
        return linear(joined, self.out_proj.weight, self.out_proj.bias), None


def quicken(model: Module) -> Module:
    """The model with its linear layers and self-attentions on oneDNN, in place; parameters and their names stay."""
    if available():
        for module in model.modules():
            if type(module) is nn.Linear:
                module.__class__ = Linear
            elif type(module) is nn.MultiheadAttention and module.bias_k is None and not module.add_zero_attn and not module.training:
                module.__class__ = SelfAttention
    return model
