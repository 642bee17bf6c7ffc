"""Generative adversarial networks: the plain one of dense layers (Goodfellow and others 2014, arXiv 1406.2661) and DCGAN
(Radford, Metz and Chintala 2015, arXiv 1511.06434).

A model has two parts, `generator` and `discriminator`. The plain one has the tutorials' 256 hidden units and no maxout; DCGAN has the
layers and names of weights of PyTorch's tutorial, which starts from 512 maps where the paper has 1024.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from noria.errors import Invalid

NAMES: dict[str, dict[str, Any]] = {"gan": {"convolutions": False, "side": 28, "channels": 1, "width": 256}, "dcgan": {}}


class Verdicts(NamedTuple):
    """The discriminator's logits, float32 [batch], that an image is real. Only its own weights get a gradient from `real` and
    `fake`, only the generator's from `fooled`; so one loss, of real and fooled towards 1 and of fake towards 0, trains both parts."""

    real: Tensor
    fake: Tensor
    fooled: Tensor


class GAN(nn.Module):
    """Noise float32 [batch, latent] to images float32 [batch, channels, side, side] in -1 to 1; with real images beside it to Verdicts."""

    def __init__(self, generator: nn.Module, discriminator: nn.Module, latent: int) -> None:
        super().__init__()
        self.generator, self.discriminator, self.latent = generator, discriminator, latent

    def forward(self, noise: Tensor, images: Tensor | None = None) -> Tensor | Verdicts:
        fakes: Tensor = self.generator(noise)
        if images is None:
            return fakes
        frozen = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
        real, fake = self.discriminator(images), self.discriminator(fakes.detach())
        fooled = functional_call(self.discriminator, frozen, (fakes,))
        return Verdicts(real.flatten(), fake.flatten(), fooled.flatten())


def _dense(latent: int, width: int, channels: int, side: int) -> GAN:
    size = channels * side * side
    generator = nn.Sequential(
        nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, size), nn.Tanh(), nn.Unflatten(1, (channels, side, side))
    )
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))
    return GAN(generator, discriminator, latent)


def _convolutional(latent: int, width: int, channels: int, side: int) -> GAN:
    """Each layer doubles (halves) the image, from 4x4 to `side`; maps are halved (doubled) meanwhile."""
    widths = [width << number for number in range(side.bit_length() - 3)]
    if side < 8 or side & (side - 1):
        raise Invalid(f"DCGAN makes no images of {side}x{side}.", "Use a side of 8, 16, 32, 64, 128, ..., or the name 'gan'.")
    generator = nn.Sequential(nn.Unflatten(1, (latent, 1, 1)))
    generator.add_module("main", nn.Sequential(*_up(latent, widths[::-1], channels)))
    discriminator = nn.Sequential()
    discriminator.add_module("main", nn.Sequential(*_down(channels, widths)))
    made = GAN(generator, discriminator, latent)
    made.apply(_draw)
    return made


def _up(below: int, widths: list[int], channels: int) -> Iterator[nn.Module]:
    for number, width in enumerate(widths):
        yield nn.ConvTranspose2d(below, width, 4, 2 if number else 1, 1 if number else 0, bias=False)
        yield nn.BatchNorm2d(width)
        yield nn.ReLU()
        below = width
    yield nn.ConvTranspose2d(below, channels, 4, 2, 1, bias=False)
    yield nn.Tanh()


def _down(below: int, widths: list[int]) -> Iterator[nn.Module]:
    for number, width in enumerate(widths):
        yield nn.Conv2d(below, width, 4, 2, 1, bias=False)
        if number:
            yield nn.BatchNorm2d(width)
        yield nn.LeakyReLU(0.2)
        below = width
    yield nn.Conv2d(below, 1, 4, bias=False)


@torch.no_grad()
def _draw(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def build(*, convolutions: bool = True, latent: int = 100, width: int = 64, channels: int = 3, side: int = 64) -> nn.Module:
    """width: maps of the largest layer, or hidden units without convolutions. side: height and width of the images in pixels."""
    return (_convolutional if convolutions else _dense)(latent, width, channels, side)
