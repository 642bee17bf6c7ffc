"""ResNet (He, Zhang, Ren and Sun 2015, Deep Residual Learning for Image Recognition, arXiv 1512.03385).

Layers, names of weights and initial weights are torchvision's, so its weights load as they are. Unlike the paper, bottlenecks halve
the image in their 3x3 convolution and not in the 1x1 before it ("ResNet v1.5").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

NAMES: dict[str, dict[str, Any]] = {
    "resnet18": {"blocks": [2, 2, 2, 2], "bottleneck": False},
    "resnet34": {"blocks": [3, 4, 6, 3], "bottleneck": False},
    "resnet50": {"blocks": [3, 4, 6, 3], "bottleneck": True},
    "resnet101": {"blocks": [3, 4, 23, 3], "bottleneck": True},
    "resnet152": {"blocks": [3, 8, 36, 3], "bottleneck": True},
}


class Block(nn.Module):
    """Convolutions, to whose result the input is added: 3x3 and 3x3, or 1x1, 3x3 and 1x1 to four times the width."""

    def __init__(self, below: int, width: int, above: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(below, width, 1, bias=False) if bottleneck else _three(below, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _three(width, width, stride if bottleneck else 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, above, 1, bias=False) if bottleneck else None
        self.bn3 = nn.BatchNorm2d(above) if bottleneck else None
        changed = stride != 1 or below != above
        shortcut = nn.Sequential(nn.Conv2d(below, above, 1, stride, bias=False), nn.BatchNorm2d(above)) if changed else None
        self.downsample = shortcut

    def forward(self, maps: Tensor) -> Tensor:
        new = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(maps)))))
        if self.conv3 is not None and self.bn3 is not None:
            new = self.bn3(self.conv3(F.relu(new)))
        return F.relu(new + (maps if self.downsample is None else self.downsample(maps)))


class ResNet(nn.Module):
    """float32 [batch, channels, height, width], usually 224x224, to float32 [batch, num_classes], unnormalised log-probabilities."""

    def __init__(self, blocks: Sequence[int], bottleneck: bool, width: int, num_classes: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        one, two, three, four = blocks
        grown = 4 if bottleneck else 1
        self.layer1 = _stage(width, width, one, 1, bottleneck)
        self.layer2 = _stage(width * grown, width * 2, two, 2, bottleneck)
        self.layer3 = _stage(width * 2 * grown, width * 4, three, 2, bottleneck)
        self.layer4 = _stage(width * 4 * grown, width * 8, four, 2, bottleneck)
        self.fc = nn.Linear(width * 8 * grown, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        maps = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, 2, padding=1)
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        out: Tensor = self.fc(F.adaptive_avg_pool2d(maps, 1).flatten(1))
        return out


def _three(below: int, above: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(below, above, 3, stride, padding=1, bias=False)


def _stage(below: int, width: int, count: int, stride: int, bottleneck: bool) -> nn.Sequential:
    above = width * 4 if bottleneck else width
    first = Block(below, width, above, stride, bottleneck)
    return nn.Sequential(first, *(Block(above, width, above, 1, bottleneck) for _ in range(count - 1)))


def build(
    *, blocks: Sequence[int] = (3, 4, 6, 3), bottleneck: bool = True, width: int = 64, num_classes: int = 1000, channels: int = 3
) -> nn.Module:
    """blocks: how many there are in each of the four stages; all but the first halve the image and double the width."""
    return ResNet(blocks, bottleneck, width, num_classes, channels)
