"""VGG (Simonyan and Zisserman 2014, Very Deep Convolutional Networks, arXiv 1409.1556), configurations A, B, D and E.

Layers, names of weights and initial weights are torchvision's, so its weights load as they are (with batch_norm: its vgg11_bn ...).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from noria.train.dropout import Dropout

NAMES: dict[str, dict[str, Any]] = {
    "vgg11": {"convolutions": [1, 1, 2, 2, 2]},
    "vgg13": {"convolutions": [2, 2, 2, 2, 2]},
    "vgg16": {"convolutions": [2, 2, 3, 3, 3]},
    "vgg19": {"convolutions": [2, 2, 4, 4, 4]},
}


class VGG(nn.Module):
    """float32 [batch, channels, height, width], usually 224x224, to float32 [batch, num_classes], unnormalised log-probabilities."""

    def __init__(self, convolutions: Sequence[int], num_classes: int, batch_norm: bool, dropout: float, channels: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*_features(convolutions, channels, batch_norm))
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), Dropout(dropout),
            nn.Linear(4096, 4096), nn.ReLU(), Dropout(dropout), nn.Linear(4096, num_classes),
        )  # fmt: skip
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.classifier(self.avgpool(self.features(images)).flatten(1))
        return out


def _features(convolutions: Sequence[int], below: int, batch_norm: bool) -> Iterator[nn.Module]:
    for width, count in zip((64, 128, 256, 512, 512), convolutions, strict=True):
        for _ in range(count):
            yield nn.Conv2d(below, width, 3, padding=1)
            if batch_norm:
                yield nn.BatchNorm2d(width)
            yield nn.ReLU()
            below = width
        yield nn.MaxPool2d(2)


def build(
    *, convolutions: Sequence[int] = (2, 2, 3, 3, 3), num_classes: int = 1000, batch_norm: bool = False, dropout: float = 0.5,
    channels: int = 3,
) -> nn.Module:  # fmt: skip
    """convolutions: how many there are of 64, 128, 256, 512 and 512 channels, with a pooling after each group."""
    return VGG(convolutions, num_classes, batch_norm, dropout, channels)
