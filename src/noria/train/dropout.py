"""Dropout that neither a restart nor the number of processes changes: what is dropped is a function of (seed, step, place in the batch).

torch's own draws from one stream of numbers for each process, so other examples lose other features as soon as a batch is cut otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from noria.train.context import here


class Now:
    """What is computed at this moment: a number made of (seed, step), and the place in the whole batch of the first example at hand."""

    def __init__(self) -> None:
        self.place: Tensor | None = None

    def begin(self, key: int, device: torch.device) -> None:
        """A step; its first example is the batch's until `first` says otherwise."""
        self.place = torch.tensor([key & 0x7FFFFFFF, 0], dtype=torch.int32, device=device)

    def first(self, example: int) -> None:
        if self.place is not None:
            self.place = torch.stack([self.place[0], torch.full_like(self.place[0], example)])

    @contextmanager
    def again(self, place: Tensor | None) -> Iterator[None]:
        """As it was, for what is computed a second time."""
        self.place, before = place, self.place
        try:
            yield
        finally:
            self.place = before


now = Now()


class Dropout(nn.Module):
    """Takes the place of nn.Dropout for inputs [batch, ...]. In a loop that is not a Trainer's it draws from torch's stream.

    salt: made of the layer's name, so that two layers drop other features. among: (this process, all of them) where each has a run of the
    last axis, as between matrices that are cut. Where processes have runs of the tokens, inputs are [batch, time, ...].
    """

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p, self.salt, self.among = p, 0, (0, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        if not self.training or not self.p or inputs.is_meta:
            return inputs
        if now.place is None:
            return F.dropout(inputs, self.p)
        kept = self._bits(inputs, now.place) >= int(self.p * 2**24)
        return inputs * (kept / (1 - self.p)).to(inputs.dtype)

    def _bits(self, inputs: Tensor, place: Tensor) -> Tensor:
        """24 random bits for each number, int32 of the shape of inputs."""
        own, ways = self.among
        count = inputs[0].numel()
        before = here.span.own * count if here.span is not None else 0
        features = torch.arange(before, before + count, dtype=torch.int32, device=inputs.device)
        if ways > 1:
            width = inputs.shape[-1]
            features = features // width * (width * ways) + own * width + features % width
        examples = torch.arange(inputs.shape[0], dtype=torch.int32, device=inputs.device) + place[1]
        rows = mixed(mixed(examples + self.salt) + place[0])
        return (mixed(rows[:, None] + mixed(features)) & 0xFFFFFF).view(inputs.shape)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def mixed(numbers: Tensor) -> Tensor:
    """int32 to int32, one to one: each bit of the answer depends on all bits. C. Wellons 2018, Prospecting for Hash Functions (lowbias32)."""
    numbers = (numbers ^ _right(numbers, 16)) * 0x7FEB352D
    numbers = (numbers ^ _right(numbers, 15)) * _signed(0x846CA68B)
    return numbers ^ _right(numbers, 16)


def _right(numbers: Tensor, bits: int) -> Tensor:
    """A shift that brings in zeros."""
    return (numbers >> bits) & ((1 << (32 - bits)) - 1)


def _signed(number: int) -> int:
    return number - (1 << 32) if number >> 31 else number


def name_layers(model: nn.Module) -> bool:
    """Give each layer its salt; whether there are any. To be called before the model is cut into stages."""
    found = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, Dropout)]
    for name, layer in found:
        layer.salt = _signed(crc32(name.encode()))
    return bool(found)
