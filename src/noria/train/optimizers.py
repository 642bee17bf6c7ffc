"""How weights are moved by their gradients. A training is handed one of these, or any factory of a torch optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

Optimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""A factory, because an optimizer must be built after the model was moved and wrapped."""


def adamw(lr: float, weight_decay: float = 0.01) -> Optimizer:
    """Loshchilov and Hutter 2019, Decoupled Weight Decay Regularization; one call of torch's for all weights on a mesh."""

    def make(weights: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        by_mesh: dict[object, list[nn.Parameter]] = {}
        for weight in weights:
            by_mesh.setdefault(getattr(weight, "device_mesh", None), []).append(weight)
        groups = [{"params": together} for together in by_mesh.values()]
        return torch.optim.AdamW(groups, lr=lr, weight_decay=weight_decay, fused=True)

    return make
