"""U-Net (Ronneberger, Fischer and Brox 2015, arXiv 1505.04597): a class for each pixel of an image.

With width=64 it has the paper's 31,030,658 weights (two classes, grey images). Unlike the paper it pads, so that the classes are as many as
the pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.errors import Invalid


class UNet(nn.Module):
    """float32 [batch, channels, height, width], sides multiples of 2**depth, to float32 [batch, num_classes, height, width],
    unnormalised log-probabilities."""

    def __init__(self, num_classes: int, channels: int, width: int, depth: int) -> None:
        super().__init__()
        widths = [width << level for level in range(depth + 1)]
        self.down = nn.ModuleList(_twice(below, above) for below, above in zip([channels, *widths], widths, strict=False))
        self.up = nn.ModuleList(nn.ConvTranspose2d(2 * above, above, 2, 2) for above in reversed(widths[:-1]))
        self.join = nn.ModuleList(_twice(2 * above, above) for above in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        step = 1 << len(self.up)
        if images.shape[2] % step or images.shape[3] % step:
            raise Invalid(f"Images of {images.shape[2]}x{images.shape[3]} cannot be halved {len(self.up)} times.",
                          f"Crop or fill them up to multiples of {step}, or build with a smaller depth.")  # fmt: skip
        levels = [self.down[0](images)]
        for down in list(self.down)[1:]:
            levels.append(down(F.max_pool2d(levels[-1], 2)))
        maps = levels.pop()
        for up, join in zip(self.up, self.join, strict=True):
            maps = join(torch.cat([levels.pop(), up(maps)], 1))
        out: Tensor = self.head(maps)
        return out


def _twice(below: int, above: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(below, above, 3, padding=1), nn.ReLU(), nn.Conv2d(above, above, 3, padding=1), nn.ReLU()
    )  # fmt: skip


def build(*, num_classes: int = 2, channels: int = 1, width: int = 16, depth: int = 4) -> nn.Module:
    """width: maps at full size; they double each of the `depth` times that the image is halved."""
    return UNet(num_classes, channels, width, depth)
