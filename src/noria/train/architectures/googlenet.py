"""GoogLeNet (Szegedy and others 2014, Going Deeper with Convolutions, arXiv 1409.4842), with batch normalisation.

Layers, names of weights and initial weights are torchvision's, so its weights load as they are (with aux_logits, since its file holds the
auxiliary heads). Unlike the paper it normalises, and its third branch is 3x3 where the paper has 5x5: 6,624,904 weights.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.train.dropout import Dropout


class Logits(NamedTuple):
    """What training with auxiliary heads gives: the answer, and those of the heads after inception4d and inception4a."""

    logits: Tensor
    aux_logits2: Tensor
    aux_logits1: Tensor


class Conv(nn.Sequential):
    """A convolution without bias, batch normalisation and ReLU."""

    def __init__(self, below: int, above: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(below, above, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(above, eps=0.001)
        self.relu = nn.ReLU()


class Inception(nn.Module):
    """Four branches side by side, each reduced by a 1x1 convolution; their channels are joined."""

    def __init__(self, below: int, one: int, reduce3: int, three: int, reduce5: int, five: int, pool: int) -> None:
        super().__init__()
        self.branch1 = Conv(below, one, 1)
        self.branch2 = nn.Sequential(Conv(below, reduce3, 1), Conv(reduce3, three, 3))
        self.branch3 = nn.Sequential(Conv(below, reduce5, 1), Conv(reduce5, five, 3))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), Conv(below, pool, 1))

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([self.branch1(maps), self.branch2(maps), self.branch3(maps), self.branch4(maps)], 1)


class Head(nn.Module):
    """A classifier half-way up, for the gradient's sake; used in training only."""

    def __init__(self, below: int, num_classes: int) -> None:
        super().__init__()
        self.conv = Conv(below, 128, 1)
        self.fc1 = nn.Linear(128 * 4 * 4, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = Dropout(0.7)

    def forward(self, maps: Tensor) -> Tensor:
        seen = self.conv(F.adaptive_avg_pool2d(maps, 4)).flatten(1)
        out: Tensor = self.fc2(self.dropout(F.relu(self.fc1(seen))))
        return out


class GoogLeNet(nn.Module):
    """float32 [batch, channels, height, width], usually 224x224, to float32 [batch, num_classes], unnormalised log-probabilities;
    to Logits in training with auxiliary heads."""

    def __init__(self, num_classes: int, aux_logits: bool, dropout: float, channels: int) -> None:
        super().__init__()
        self.conv1 = Conv(channels, 64, 7, stride=2)
        self.conv2 = Conv(64, 64, 1)
        self.conv3 = Conv(64, 192, 3)
        self.inception3a = Inception(192, 64, 96, 128, 16, 32, 32)
        self.inception3b = Inception(256, 128, 128, 192, 32, 96, 64)
        self.inception4a = Inception(480, 192, 96, 208, 16, 48, 64)
        self.inception4b = Inception(512, 160, 112, 224, 24, 64, 64)
        self.inception4c = Inception(512, 128, 128, 256, 24, 64, 64)
        self.inception4d = Inception(512, 112, 144, 288, 32, 64, 64)
        self.inception4e = Inception(528, 256, 160, 320, 32, 128, 128)
        self.inception5a = Inception(832, 256, 160, 320, 32, 128, 128)
        self.inception5b = Inception(832, 384, 192, 384, 48, 128, 128)
        self.aux1 = Head(512, num_classes) if aux_logits else None
        self.aux2 = Head(528, num_classes) if aux_logits else None
        self.dropout = Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-2, b=2)

    def forward(self, images: Tensor) -> Tensor | Logits:
        maps = self.conv3(self.conv2(_halved(self.conv1(images))))
        maps = self.inception3b(self.inception3a(_halved(maps)))
        early = self.inception4a(_halved(maps))
        late = self.inception4d(self.inception4c(self.inception4b(early)))
        maps = F.max_pool2d(self.inception4e(late), 2, 2, ceil_mode=True)
        maps = self.inception5b(self.inception5a(maps))
        logits: Tensor = self.fc(self.dropout(F.adaptive_avg_pool2d(maps, 1).flatten(1)))
        if self.aux1 is None or self.aux2 is None or not self.training:
            return logits
        return Logits(logits, self.aux2(late), self.aux1(early))


def _halved(maps: Tensor) -> Tensor:
    return F.max_pool2d(maps, 3, 2, ceil_mode=True)


def build(*, num_classes: int = 1000, aux_logits: bool = False, dropout: float = 0.2, channels: int = 3) -> nn.Module:
    """aux_logits: with the two auxiliary heads, 13,004,888 weights; in training it gives Logits then."""
    return GoogLeNet(num_classes, aux_logits, dropout, channels)
