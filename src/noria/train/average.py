"""An average of the weights over the steps, which is often better than the last ones (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


def local(tensor: Tensor) -> Tensor:
    """What this process holds of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


class Average:
    """average = decay * average + (1 - decay) * weights after each step; buffers are the model's own. Each process averages its part."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.kept = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self._weights = [weight.detach() for weight in model.parameters()]

    @torch.no_grad()
    def follow(self, steps: int) -> None:
        """After so many steps; the first ones count for more, so that the start is soon forgotten."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        torch._foreach_lerp_([*map(local, self.kept.values())], [*map(local, self._weights)], 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averaged weights meanwhile."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        for kept, weight in zip(self.kept.values(), self._weights, strict=True):
            ours, theirs = local(kept), local(weight)
            before = theirs.clone()
            theirs.copy_(ours)
            ours.copy_(before)
