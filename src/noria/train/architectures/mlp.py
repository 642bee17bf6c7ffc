"""Dense layers on flattened inputs: the smallest network that is worth training.

The perceptron (Rosenblatt 1958) is the one without hidden layers. It draws one straight border, so it cannot learn XOR; one hidden
layer can (Rumelhart, Hinton and Williams 1986).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn

NAMES: dict[str, dict[str, Any]] = {"mlp": {}, "perceptron": {"width": []}}


class MLP(nn.Module):
    """float32 [batch, ...] of `inputs` values each to float32 [batch, num_classes], unnormalised log-probabilities."""

    def __init__(self, inputs: int, hidden: Sequence[int], num_classes: int) -> None:
        super().__init__()
        widths = [inputs, *hidden]
        layers = [layer for below, above in pairwise(widths) for layer in (nn.Linear(below, above), nn.ReLU())]
        self.layers = nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], num_classes))

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layers(inputs)
        return out


def build(*, inputs: int = 784, width: int | Sequence[int] = 32, num_classes: int = 10) -> nn.Module:
    """width: units of the hidden layer, or a list of them, one for each hidden layer."""
    return MLP(inputs, [width] if isinstance(width, int) else width, num_classes)
