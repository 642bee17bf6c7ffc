"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, Gradient-Based Learning Applied to Document Recognition).

As it is taught today: 61,706 weights. The paper's third layer sees only some of the six maps below it, its poolings have weights,
and its outputs are distances to drawn digits: 60,000 weights.
"""

from __future__ import annotations

from torch import Tensor, nn


class LeNet(nn.Module):
    """float32 [batch, channels, 28, 28] to float32 [batch, num_classes], unnormalised log-probabilities."""

    def __init__(self, num_classes: int, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2),
            nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(16 * 5 * 5, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, num_classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.features(images))
        return out


def build(*, num_classes: int = 10, channels: int = 1) -> nn.Module:
    return LeNet(num_classes, channels)
