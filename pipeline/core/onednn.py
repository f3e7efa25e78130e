"""Whether this machine has oneDNN's linear operator, which on AMD processors multiplies at twice the speed of torch's default library."""

from __future__ import annotations

import functools

import torch


@functools.cache
def available(dtype: torch.dtype = torch.float32) -> bool:
    """Whether `torch.ops.mkldnn._linear_pointwise` can be called with this type on this processor.

    It is an internal operator (x86 builds since torch 2.0 have it), hence the question; in bfloat16 it raises on processors without the
    instructions for it, where torch's own product still works.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32
