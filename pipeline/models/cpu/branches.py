"""Reading from, and adding up, the branches of a Gaussian mixture block, a few videos at a time and with hand-written backward passes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from pipeline.models.cpu.chunked import videos_per_chunk
from pipeline.models.cpu.kernels import Masks


def _parts(branch: Tensor) -> list[slice]:
    step = videos_per_chunk(branch.shape[1], 4 * branch.shape[2])
    return [slice(start, start + step) for start in range(0, len(branch), step)]


def _of(folded: Tensor, part: slice) -> Tensor:
    """The query of a part's videos. Shapes: [1 or B, heads, H] -> [heads, H], or [videos, heads, H]."""
    return folded[0] if len(folded) == 1 else folded[part]


class _Read(torch.autograd.Function):
    """Returns the branches as well: what comes back for them from `_Mix` is then summed here, without another pass over memory."""

    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(  # type: ignore[override]
        ctx: Any, folded: Tensor, bias: Tensor | None, rate: float, training: bool, *branches: Tensor
    ) -> tuple[Tensor, ...]:
        videos, length, _ = branches[0].shape
        masks = Masks(rate, training)
        weights = branches[0].new_empty(videos, len(branches), folded.shape[1], length)
        for part in _parts(branches[0]):
            for k, branch in enumerate(branches):
                logits = torch.matmul(branch[part], _of(folded, part).mT).transpose(1, 2)
                weights[part, k] = (logits if bias is None else logits + bias[part, None]).softmax(-1)
        mask = masks.draw(*weights.shape)
        dropped = weights if mask is None else (weights * mask).mul_(masks.scale)
        mean = torch.stack([torch.bmm(dropped[:, k], branch) for k, branch in enumerate(branches)], 1)
        ctx.save_for_backward(folded, weights, mask, *branches)
        ctx.scale = masks.scale
        return mean, dropped.sum(-1), *branches

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, d_mean: Tensor, d_share: Tensor, *d_branches: Tensor) -> tuple:  # type: ignore[override]
        folded, weights, mask, *branches = ctx.saved_tensors
        d_folded = torch.zeros_like(folded)
        heads, shared = folded.shape[1], len(folded) == 1
        for part in _parts(branches[0]):
            for k, branch in enumerate(branches):
                kept, weight = None if mask is None else mask[part, k], weights[part, k]
                dropped = weight if kept is None else (weight * kept).mul_(ctx.scale)
                d_weight = torch.bmm(d_mean[part, k], branch[part].transpose(1, 2)).add_(d_share[part, k, :, None])
                if kept is not None:
                    d_weight.mul_(kept).mul_(ctx.scale)
                d_logits = torch._softmax_backward_data(d_weight, weight, -1, weight.dtype)
                left = torch.cat([d_logits, dropped], 1)
                right = torch.cat([_of(folded, part).expand(len(left), heads, -1), d_mean[part, k]], 1)
                d_branches[k][part].baddbmm_(left.transpose(1, 2), right)
                if shared:
                    d_folded[0].add_(d_logits.transpose(0, 1).reshape(heads, -1) @ branch[part].reshape(-1, branch.shape[-1]))
                else:
                    d_folded[part].baddbmm_(d_logits, branch[part])
        return d_folded, None, None, None, *d_branches


class _Mix(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx: Any, weights: Tensor, *branches: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(weights, *branches)
        total = torch.empty_like(branches[0])
        for part in _parts(total):
            torch.mul(branches[0][part], weights[part, 0, :, None], out=total[part])
            for k in range(1, len(branches)):
                total[part].addcmul_(branches[k][part], weights[part, k, :, None])
        return total

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: Tensor) -> tuple:  # type: ignore[override]
        weights, *branches = ctx.saved_tensors
        d_weights = torch.empty_like(weights)
        d_branches = [torch.empty_like(branch) for branch in branches]
        for part in _parts(gradient):
            for k, branch in enumerate(branches):
                torch.sum(gradient[part] * branch[part], -1, out=d_weights[part, k])
                torch.mul(gradient[part], weights[part, k, :, None], out=d_branches[k][part])
        return d_weights, *d_branches


def read(
    folded: Tensor, branches: list[Tensor], bias: Tensor | None, dropout: float, training: bool
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """What each head of a query reads from each branch: the attention-weighted mean of the branch's tokens.

    Shapes: `folded` [1 or B, heads, H], one query for all videos or each its own, through the key projection and scaled; `branches` K
    tensors [B, L, H], `bias` [B, L] or None, added to the logits (no gradient flows to it); returns means [B, K, heads, H], the sums of
    the attention weights [B, K, heads] (1 without dropout), and the branches, for use from here on. Source: docs/method.md 5.5.
    """
    with torch.autocast(folded.device.type, enabled=False):  # the products are small; in bfloat16 they would save nothing
        mean, share, *rest = _Read.apply(folded, bias, dropout, training, *branches)
    return mean, share, rest


def mix(branches: list[Tensor], weights: Tensor) -> Tensor:
    """sum_k weights[:, k, :, None] * branches[k]. Shapes: K tensors [B, L, H], weights [B, K, L] -> [B, L, H] (docs/method.md 5.5)."""
    with torch.autocast(weights.device.type, enabled=False):
        return _Mix.apply(weights, *branches)
