"""EfficientNet-Lite (Google 2020, after Tan and Le 2019, EfficientNet, arXiv 1905.11946): small networks for photographs, without what
phones compute badly.

Names of weights are those of the PyTorch port, so that its files of ImageNet weights load as they are. Convolutions fill up as
TensorFlow's do, because the weights were learned so. No block is left out at random while it learns, and statistics of batches follow
in ten steps instead of a hundred, for trainings that are short.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from noria.train.dropout import Dropout

NAMES: dict[str, dict[str, Any]] = {
    "efficientnet-lite0": {},
    "efficientnet-lite1": {"depth": 1.1, "width": 1.0},
    "efficientnet-lite2": {"depth": 1.2, "width": 1.1, "dropout": 0.3},
    "efficientnet-lite3": {"depth": 1.4, "width": 1.2, "dropout": 0.3},
    "efficientnet-lite4": {"depth": 1.8, "width": 1.4, "dropout": 0.3},
}
# How many blocks, pixels along a kernel's side, stride of the first, times wider inside, maps.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Same(nn.Conv2d):
    """A convolution whose result has 1/stride of the pixels, rounded up; if an odd number is to be filled up, the end gets more of it."""

    def forward(self, input: Tensor) -> Tensor:
        beside = []
        for size, kernel, stride in zip(input.shape[:1:-1], self.kernel_size, self.stride, strict=True):  # All are squares.
            missing = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
            beside += [missing // 2, missing - missing // 2]
        return F.conv2d(F.pad(input, beside), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def _normal(maps: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(maps, eps=1e-3)


class Block(nn.Module):
    """Wider by a 1x1 convolution, each map by itself, and narrow again; the input is added where it has the same shape."""

    def __init__(self, below: int, above: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        inside = below * expand
        self.wider = expand > 1
        if self.wider:
            self._expand_conv = Same(below, inside, 1, bias=False)
            self._bn0 = _normal(inside)
        self._depthwise_conv = Same(inside, inside, kernel, stride, groups=inside, bias=False)
        self._bn1 = _normal(inside)
        self._project_conv = Same(inside, above, 1, bias=False)
        self._bn2 = _normal(above)
        self.adds = stride == 1 and below == above

    def forward(self, maps: Tensor) -> Tensor:
        new = F.relu6(self._bn0(self._expand_conv(maps))) if self.wider else maps
        new = F.relu6(self._bn1(self._depthwise_conv(new)))
        new = self._bn2(self._project_conv(new))
        out: Tensor = new + maps if self.adds else new
        return out


class EfficientNet(nn.Module):
    """float32 [batch, channels, height, width], 224x224 for lite0, to float32 [batch, num_classes], unnormalised log-probabilities.

    The published weights want values in -1 to 1, as (value * 255 - 127) / 128 gives them.
    """

    def __init__(self, depth: float, width: float, dropout: float, num_classes: int, channels: int) -> None:
        super().__init__()
        self._conv_stem = Same(channels, 32, 3, 2, bias=False)
        self._bn0 = _normal(32)
        self._blocks = nn.ModuleList()
        below = 32
        for number, (count, kernel, stride, expand, maps) in enumerate(STAGES):
            above = _eighths(maps * width)
            for again in range(count if number in (0, len(STAGES) - 1) else ceil(count * depth)):
                self._blocks.append(Block(below, above, kernel, 1 if again else stride, expand))
                below = above
        self._conv_head = Same(below, 1280, 1, bias=False)
        self._bn1 = _normal(1280)
        self._dropout = Dropout(dropout)
        self._fc = nn.Linear(1280, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu6(self._bn0(self._conv_stem(images)))
        for block in self._blocks:
            maps = block(maps)
        maps = F.relu6(self._bn1(self._conv_head(maps)))
        out: Tensor = self._fc(self._dropout(maps.mean((2, 3))))
        return out


def _eighths(maps: float) -> int:
    """The nearest multiple of 8, and not less than nine tenths."""
    near = max(8, int(maps + 4) // 8 * 8)
    return near + 8 if near < 0.9 * maps else near


def build(
    *, depth: float = 1.0, width: float = 1.0, dropout: float = 0.2, num_classes: int = 1000, channels: int = 3
) -> nn.Module:
    """depth, width: times as many blocks, and maps, as lite0 has. dropout: the chance that a feature is dropped before the last layer."""
    return EfficientNet(depth, width, dropout, num_classes, channels)
