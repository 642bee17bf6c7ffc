"""Augmentation, batched and on the device: pure functions of the inputs and of the random numbers that data.batches hands in.

Pictures are float32 [b, channels, height, width], from 0 to 1 where colours are meant. Film clips are [b, frames, channels, height,
width], and all frames of a clip are changed alike. kornia does the geometry and the colours by its functions, not by its random
modules: what is drawn is a function of (seed, epoch, example) here. It is imported at the first use.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from math import pi
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from noria.errors import Invalid, Unsupported
from noria.train.data import Augment, Joint, Pair, changed
from noria.train.steps import UNASKED


@dataclass(frozen=True)
class Jitter:
    """Turns each image by up to `degrees` either way, scales it by up to `scale`, and shifts it by up to `pixels` along each axis.

    Images are float32 [b, channels, height, width]; what comes in from outside is 0.
    Measured on one CPU core: 0.26 ms for 32 images of 28x28, 2 % of a training step of the small CNN.
    """

    degrees: float = 10.0
    pixels: float = 2.0
    scale: float = 0.1
    draws = 4

    def __call__(self, images: Tensor, draws: Tensor, /) -> Tensor:
        turn, zoom, right, down = (2 * draws - 1).unbind(1)
        angle, factor = turn * (self.degrees * pi / 180), 1 + zoom * self.scale
        cos, sin = angle.cos() * factor, angle.sin() * factor
        height, width = images.shape[-2:]
        # A row of the matrix maps output coordinates, -1 to 1 over the image, to input coordinates (F.affine_grid).
        rows = (torch.stack([cos, -sin, right * (2 * self.pixels / width)], 1),
                torch.stack([sin, cos, down * (2 * self.pixels / height)], 1))  # fmt: skip
        grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, align_corners=False)


@dataclass(frozen=True)
class _Pictures(ABC):
    """What is done to pictures, and alike to all frames of a clip."""

    draws = 0

    def __call__(self, images: Tensor, draws: Tensor, /) -> Tensor:
        if images.ndim == 4:
            return self.changed(images, draws)
        if images.ndim != 5:
            raise Invalid(f"{type(self).__name__} changes pictures or clips, not inputs of shape {list(images.shape)}.",
                          "Give it [b, channels, height, width] or [b, frames, channels, height, width].")  # fmt: skip
        frames = images.shape[1]
        alike = self.changed(images.flatten(0, 1), draws.repeat_interleave(frames, 0))
        return alike.view(-1, frames, *alike.shape[1:])

    @abstractmethod
    def changed(self, images: Tensor, draws: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Flip(_Pictures):
    """Left becomes right, or top becomes bottom with `axis="vertical"`, for the part `chance` of the pictures."""

    chance: float = 0.5
    axis: Literal["horizontal", "vertical"] = "horizontal"
    draws = 1

    def changed(self, images: Tensor, draws: Tensor) -> Tensor:
        turned = images.flip(-1 if self.axis == "horizontal" else -2)
        return torch.where((draws < self.chance)[:, :, None, None], turned, images)


@dataclass(frozen=True)
class Crop(_Pictures):
    """A square of `side` pixels from anywhere; `pad` pixels of 0 are put around the picture before."""

    side: int
    pad: int = 0
    draws = 2

    def changed(self, images: Tensor, draws: Tensor) -> Tensor:
        padded = F.pad(images, [self.pad] * 4)
        high, wide = (size - self.side for size in padded.shape[-2:])
        if min(high, wide) < 0:
            raise Invalid(f"A picture of {' x '.join(map(str, images.shape[-2:]))} pixels has no part of {self.side} x {self.side}.",
                          "Cut out less, or resize it before.")  # fmt: skip
        top, left = (draws[:, 0] * (high + 1)).long().clamp(max=high), (draws[:, 1] * (wide + 1)).long().clamp(max=wide)
        rows, columns = (at[:, None] + torch.arange(self.side, device=at.device) for at in (top, left))
        channels, _, width = padded.shape[1:]
        cut = padded.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
        return cut.gather(3, columns[:, None, None, :].expand(-1, channels, self.side, -1))


@dataclass(frozen=True)
class Rotate(_Pictures):
    """By up to `degrees` either way about the middle. mode: "nearest" keeps the values of masks."""

    degrees: float = 15.0
    mode: Literal["bilinear", "nearest"] = "bilinear"
    draws = 1

    def changed(self, images: Tensor, draws: Tensor) -> Tensor:
        angles = (2 * draws[:, 0] - 1) * self.degrees
        turned: Tensor = _kornia().geometry.transform.rotate(images, angles, mode=self.mode)
        return turned


@dataclass(frozen=True)
class Scale(_Pictures):
    """Larger or smaller by up to `part` of it about the middle; the picture keeps its size."""

    part: float = 0.1
    mode: Literal["bilinear", "nearest"] = "bilinear"
    draws = 1

    def changed(self, images: Tensor, draws: Tensor) -> Tensor:
        factors = 1 + (2 * draws - 1) * self.part
        scaled: Tensor = _kornia().geometry.transform.scale(images, factors.expand(-1, 2), mode=self.mode)
        return scaled


@dataclass(frozen=True)
class Resize(_Pictures):
    """To `height` x `width` pixels; smaller ones are smoothed before, so that no pattern comes up."""

    height: int
    width: int
    mode: Literal["bilinear", "nearest"] = "bilinear"

    def changed(self, images: Tensor, draws: Tensor) -> Tensor:
        if self.mode == "nearest":
            return F.interpolate(images, (self.height, self.width), mode="nearest-exact")
        return F.interpolate(images, (self.height, self.width), mode="bilinear", align_corners=False, antialias=True)


@dataclass(frozen=True)
class Normalise(_Pictures):
    """(value - mean) / std of each channel; by default those of ImageNet, which pretrained networks of pictures expect."""

    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)

    def changed(self, images: Tensor, draws: Tensor) -> Tensor:
        if images.shape[1] != len(self.mean):
            raise Invalid(f"Pictures of {images.shape[1]} channels cannot be normalised by {len(self.mean)} means.",
                          "Give one mean and one deviation for each channel.")  # fmt: skip
        mean, std = (_constant(values, images.device, images.dtype) for values in (self.mean, self.std))
        normal: Tensor = _kornia().enhance.normalize(images, mean, std)
        return normal


SPACES = ("grayscale", "hls", "hsv", "xyz", "ycbcr", "yuv")
"""kornia's "lab" and "luv" are left out: the last digit of their powers depends on a pixel's place in the batch."""


@dataclass(frozen=True)
class Colours(_Pictures):
    """From red, green and blue to another space: "grayscale" (one channel), "hsv", "ycbcr" and others."""

    space: str

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise Invalid(f"There is no colour space '{self.space}'.", f"Use one of: {', '.join(SPACES)}.")

    def changed(self, images: Tensor, draws: Tensor) -> Tensor:
        if images.shape[1] != 3:
            raise Invalid(f"Pictures of {images.shape[1]} channels have no red, green and blue.", "Use pictures in colour.")
        converted: Tensor = getattr(_kornia().color, f"rgb_to_{self.space}")(images)
        return converted


@dataclass(frozen=True)
class Light(_Pictures):
    """Brightness, contrast and saturation each times 1 - part to 1 + part; values stay within 0 and 1."""

    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    draws = 3

    def changed(self, images: Tensor, draws: Tensor) -> Tensor:
        enhance, (bright, hard, deep) = _kornia().enhance, (2 * draws - 1).unbind(1)
        images = (images * (1 + bright * self.brightness)[:, None, None, None]).clamp(0, 1)
        images = enhance.adjust_contrast_with_mean_subtraction(images, 1 + hard * self.contrast)
        if images.shape[1] == 3:
            images = enhance.adjust_saturation_with_gray_subtraction(images, 1 + deep * self.saturation)
        return images


@dataclass(frozen=True)
class Both:
    """The targets are pictures or masks, and what happens to the inputs happens to them: for segmentation.

    Targets that are whole numbers ([b, height, width] or [b, channels, height, width]) stay so: theirs is the nearest pixel.
    """

    change: Flip | Crop | Rotate | Scale | Resize
    beyond = 0

    @property
    def draws(self) -> int:
        return self.change.draws

    def joint(self, inputs: Tensor, targets: Tensor, draws: Tensor, /) -> Pair:
        whole = not targets.is_floating_point()
        change = replace(self.change, mode="nearest") if whole and not isinstance(self.change, (Flip, Crop)) else self.change
        pictures = targets[:, None] if targets.ndim == 3 else targets
        turned = change(pictures.float() if whole else pictures, draws).to(targets.dtype)
        return self.change(inputs, draws), turned[:, 0] if targets.ndim == 3 else turned


@dataclass(frozen=True)
class Mixup:
    """Each example is mixed with the next one of the global batch, by a part drawn from Beta(alpha, alpha); the last stays as it is.

    Targets become float32 [b, classes] that sum up to 1; cross-entropy takes them as they are. Without `classes` they are numbers,
    and mixed as such. H. Zhang and others, mixup: Beyond Empirical Risk Minimization, 2018.
    """

    classes: int | None = None
    alpha: float = 0.2
    draws = 1
    beyond = 1

    def joint(self, inputs: Tensor, targets: Tensor, draws: Tensor, /) -> Pair:
        if self.classes is None and not targets.is_floating_point():
            raise Invalid("Classes can be mixed only if their number is known.", "Say Mixup(classes=10), with their number.")
        kinds = targets if self.classes is None else F.one_hot(targets, self.classes).float()
        part = self.parts(draws[:-1, 0])
        return _mixed(inputs, part), _mixed(kinds, part)

    def parts(self, draws: Tensor) -> Tensor:
        """The inverse of the distribution function of Beta(alpha, alpha), which is symmetric: only its lower half is tabulated."""
        below, values = _beta(self.alpha, draws.device)
        low = torch.minimum(draws, 1 - draws).double()
        right = torch.searchsorted(below, low).clamp(1, len(below) - 1)
        share = (low - below[right - 1]) / (below[right] - below[right - 1])
        found = torch.lerp(values[right - 1], values[right], share).to(draws.dtype)
        return torch.where(draws < 0.5, found, 1 - found)


@lru_cache
def _beta(alpha: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Of 4,096 values from 0 to 1/2, the share of Beta(alpha, alpha) that lies below each, and the values.

    With x = u ** (1 / alpha) the density has no pole, so the trapezoid rule is exact to 1e-5.
    """
    u = np.linspace(0, 0.5**alpha, 4096)
    values = u ** (1 / alpha)
    density = (1 - values) ** (alpha - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return torch.from_numpy(below / below[-1] / 2).to(device), torch.from_numpy(values).to(device)


@lru_cache
def _constant(values: tuple[float, ...], device: torch.device, kind: torch.dtype) -> Tensor:
    """Once on a device, for a copy to a GPU makes each step wait."""
    return torch.tensor(values, device=device, dtype=kind)


def _mixed(values: Tensor, part: Tensor) -> Tensor:
    """part * this + (1 - part) * next."""
    return torch.lerp(values[1:], values[:-1], part.view(-1, *[1] * (values.ndim - 1)))


@dataclass(frozen=True)
class Hide:
    """Texts int64 [b, length] are to be filled in: a part `chance` of the tokens is asked for, and the others are `UNASKED`.

    Of those that are asked for, eight of ten are replaced by `mask`, which is no token of the texts, one by any token below it, and one is left
    as it is. J. Devlin and others, BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding, 2019.
    """

    length: int
    mask: int
    chance: float = 0.15
    least: int = 1
    beyond = 0

    @property
    def draws(self) -> int:
        return self.length

    def joint(self, inputs: Tensor, _targets: Tensor, draws: Tensor, /) -> Pair:
        place = draws / self.chance  # Below 1 it is asked for; what is left of the draw says how.
        other = self.least + ((place - 0.8) * 10 * (self.mask - self.least)).long().clamp(0, self.mask - self.least - 1)
        hidden = torch.where(place < 0.8, self.mask, torch.where(place < 0.9, other, inputs))
        return hidden, torch.where(place < 1, inputs, UNASKED)


class Chain:
    """One change after the other: `Chain(Flip(), Crop(32, pad=4), Normalise())`."""

    def __init__(self, *changes: Augment | Joint) -> None:
        self.changes = changes
        self.draws = sum(change.draws for change in changes)
        self.beyond = sum(change.beyond for change in changes if isinstance(change, Joint))

    def joint(self, inputs: Tensor, targets: Tensor, draws: Tensor, /) -> Pair:
        first = 0
        for change in self.changes:
            own = draws[: len(inputs), first : first + change.draws]
            inputs, targets = changed(change, inputs, targets, own)
            first += change.draws
        return inputs, targets


def _kornia() -> Any:
    try:
        import kornia
    except ImportError:
        raise Unsupported("This is done by kornia, which is not installed.", "pip install 'noria[augment]'") from None
    return kornia
