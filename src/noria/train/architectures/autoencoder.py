"""Networks that copy their input through a narrow code: the autoencoder (Hinton and Salakhutdinov 2006, Reducing the Dimensionality
of Data with Neural Networks) and the variational one (Kingma and Welling 2013, arXiv 1312.6114).

The code is the data in few dimensions; what is copied badly is unlike the data. Widths are the papers'. Unlike the papers there is ReLU,
PyTorch's first weights, and no pretraining layer by layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

NAMES: dict[str, dict[str, Any]] = {"autoencoder": {}, "vae": {"hidden": [500], "code": 20, "variational": True}}


class Copy(NamedTuple):
    """copies: like the inputs. mean and log_variance, [batch, code]: of the normal distribution that the code was drawn from."""

    copies: Tensor
    mean: Tensor
    log_variance: Tensor


class Autoencoder(nn.Module):
    """float32 [batch, *shape] in 0 to 1 to its copy of the same shape; `encode` gives the code [batch, code], `decode` makes copies of it."""

    def __init__(self, shape: Sequence[int], hidden: Sequence[int], code: int, outputs: int) -> None:
        super().__init__()
        widths = [prod(shape), *hidden]
        self.encoder = nn.Sequential(nn.Flatten(), *_dense(widths), nn.Linear(widths[-1], outputs))
        self.decoder = nn.Sequential(
            *_dense([code, *reversed(hidden)]), nn.Linear(widths[1] if hidden else code, widths[0]), nn.Sigmoid(),
            nn.Unflatten(1, tuple(shape)),
        )  # fmt: skip

    def encode(self, inputs: Tensor) -> Tensor:
        out: Tensor = self.encoder(inputs)
        return out

    def decode(self, code: Tensor) -> Tensor:
        out: Tensor = self.decoder(code)
        return out

    def forward(self, inputs: Tensor) -> Tensor | Copy:
        return self.decode(self.encode(inputs))


class VAE(Autoencoder):
    """The same to a Copy: of a code that is drawn in training, and of its mean otherwise."""

    def encode(self, inputs: Tensor) -> Tensor:
        mean: Tensor = self.encoder(inputs).chunk(2, 1)[0]
        return mean

    def forward(self, inputs: Tensor) -> Copy:
        return self.draw(inputs) if self.training else self._copy(inputs, 0.0)

    def draw(self, inputs: Tensor) -> Copy:
        """Of a code that is drawn."""
        return self._copy(inputs, 1.0)

    def _copy(self, inputs: Tensor, spread: float) -> Copy:
        mean, log_variance = self.encoder(inputs).chunk(2, 1)
        code = mean + torch.randn_like(mean) * (log_variance / 2).exp() * spread if spread else mean
        return Copy(self.decode(code), mean, log_variance)


def _dense(widths: Sequence[int]) -> list[nn.Module]:
    return [layer for below, above in pairwise(widths) for layer in (nn.Linear(below, above), nn.ReLU())]


def build(
    *, shape: Sequence[int] = (1, 28, 28), hidden: Sequence[int] = (1000, 500, 250), code: int = 30, variational: bool = False
) -> nn.Module:
    """shape: of one example. hidden: units of the encoder's hidden layers; the decoder has them in the other order."""
    if variational:
        return VAE(shape, hidden, code, 2 * code)
    return Autoencoder(shape, hidden, code, code)
