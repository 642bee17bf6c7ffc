"""One hidden layer on flattened inputs: the smallest network that is worth training, and the shortest neighbour to copy."""

from __future__ import annotations

from torch import Tensor, nn


class MLP(nn.Module):
    """float32 [batch, ...] of `inputs` values each to float32 [batch, classes], unnormalised log-probabilities."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.architecture = ("mlp", {"inputs": inputs, "width": width, "classes": classes})
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, classes))

    def forward(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.layers(inputs)
        return out


def build(*, inputs: int = 784, width: int = 32, classes: int = 10) -> nn.Module:
    return MLP(inputs, width, classes)
