"""ESPCN (Shi and others 2016, Real-Time Single Image and Video Super-Resolution, arXiv 1609.05158): all work is done on the small image,
and the last layer's channels become the pixels of the large one."""

from __future__ import annotations

from torch import Tensor, nn


class SuperResolution(nn.Module):
    """float32 [batch, channels, height, width] to float32 [batch, channels, factor * height, factor * width]."""

    def __init__(self, factor: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh(),
            nn.Conv2d(32, channels * factor**2, 3, padding=1), nn.PixelShuffle(factor),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        out: Tensor = self.layers(images)
        return out


def build(*, factor: int = 3, channels: int = 1) -> nn.Module:
    return SuperResolution(factor, channels)
