"""BertAdam and its schedule (docs/method.md 7): Adam without bias correction, decoupled decay, each tensor's gradient clipped by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

_EPSILON = 1e-6


def schedule(step: int, total: int, warmup: float) -> float:
    """The learning rate's factor at a step: linear from 0 to 1 over the share `warmup` of all steps, then linear to 0 at `total`.

    The very first step has factor 0 when there is a warm-up; a negative `warmup` means none at a slope of 1/total (docs/method.md 7.2).
    """
    progress = step / total
    if progress < warmup:
        return progress / warmup
    if warmup >= 1:
        return 0.0
    # The released rule divides by 1 - warmup whatever its sign; golden `sched_w-1_*` has a factor of 1 at step 0, so -1 counts as 0 here.
    return max((1 - progress) / (1 - max(warmup, 0.0)), 0.0)


class BertAdam:
    """The published optimiser.

    Per tensor: g *= min(1, clip/(|g| + 1e-6)); m = .9 m + .1 g; v = .999 v + .001 g^2; w -= lr_t (m / (sqrt(v) + 1e-6) + decay w).
    `decays(name)` says which parameters decay; one without a gradient is left alone. Source: docs/method.md 7.1, golden h_bertadam.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        decays: Callable[[str], bool],
        *,
        learning_rate: float,
        total_steps: int,
        warmup: float = 0.01,
        weight_decay: float = 0.01,
        clip_norm: float = 1.0,
    ) -> None:
        self.parameters, self.decays = dict(parameters), decays
        self.learning_rate, self.total_steps, self.warmup = learning_rate, total_steps, warmup
        self.weight_decay, self.clip_norm, self.steps = weight_decay, clip_norm, 0
        self.first = {name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()}
        self.second = {name: torch.zeros_like(parameter) for name, parameter in self.parameters.items()}

    @property
    def rate(self) -> float:
        """The learning rate of the next step."""
        return self.learning_rate * schedule(self.steps, self.total_steps, self.warmup)

    @torch.no_grad()
    def step(self) -> Tensor:
        """Update every parameter that has a gradient; returns the norm of the whole gradient before clipping, a scalar on the device."""
        rate = self.rate
        named = [(name, parameter) for name, parameter in self.parameters.items() if parameter.grad is not None]
        norms = []
        # One launch for all tensors of a kind on a GPU; one tensor at a time on a CPU, where a tensor then stays in the cache.
        for decay in (True, False):
            chosen = [(name, parameter) for name, parameter in named if self.decays(name) == decay]
            size = max(1, len(chosen)) if named and named[0][1].device.type == "cuda" else 1
            for start in range(0, len(chosen), size):
                norms += self._update(chosen[start : start + size], rate, self.weight_decay if decay else 0.0)
        self.steps += 1
        return torch.stack(norms).norm() if norms else torch.zeros(())

    def _update(self, chosen: list[tuple[str, nn.Parameter]], rate: float, decay: float) -> list[Tensor]:
        weights = [parameter.data for _, parameter in chosen]
        gradients = [parameter.grad for _, parameter in chosen if parameter.grad is not None]
        first, second = [self.first[name] for name, _ in chosen], [self.second[name] for name, _ in chosen]
        norms = list(torch._foreach_norm(gradients))
        factors = torch._foreach_add(norms, _EPSILON)
        torch._foreach_reciprocal_(factors)
        torch._foreach_mul_(factors, self.clip_norm)
        torch._foreach_clamp_max_(factors, 1.0)
        torch._foreach_mul_(gradients, factors)
        torch._foreach_mul_(first, 0.9)
        torch._foreach_add_(first, gradients, alpha=0.1)
        torch._foreach_mul_(second, 0.999)
        torch._foreach_addcmul_(second, gradients, gradients, 0.001)
        change = torch._foreach_sqrt(second)
        torch._foreach_add_(change, _EPSILON)
        torch._foreach_reciprocal_(change)
        torch._foreach_mul_(change, first)
        if decay:
            torch._foreach_add_(change, weights, alpha=decay)
        torch._foreach_add_(weights, change, alpha=-rate)
        return norms

    def zero_grad(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def state(self) -> dict[str, Tensor]:
        """Both moments of every parameter, by name; `steps` is kept beside them."""
        return {
            f"{kind}/{name}": value for kind, values in (("first", self.first), ("second", self.second)) for name, value in values.items()
        }

    def load(self, state: Mapping[str, Tensor], steps: int) -> None:
        """Go on from a stored state. KeyError when a parameter is missing from it."""
        for kind, values in (("first", self.first), ("second", self.second)):
            for name, value in values.items():
                value.copy_(state[f"{kind}/{name}"])
        self.steps = steps
