"""Examples, and the order in which they are seen.

Order is a pure function of (seed, epoch, position) and does not depend on the number of processes: each global batch is
cut into one slice per rank. So a run goes on from any step, on any number of ranks, with nothing but the step's number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from noria.errors import Invalid, NotFound

Pair = tuple[Tensor, Tensor]
"""Inputs and targets of b examples, [b, ...] each."""


class Source(Protocol):
    """A number of examples, to be had in any order. One class with these two methods brings data of any kind."""

    def __len__(self) -> int: ...

    def gather(self, chosen: Tensor, /) -> Pair:
        """The inputs and targets of the examples of these numbers (int64 [b]). The same number always gives the same."""
        ...


@runtime_checkable
class Walked(Protocol):
    """A source that gains by knowing what it will be asked for: the rows of a whole epoch, or of what is left of one.

    ordered: whether it has an order of its own, which is then kept in all epochs.
    """

    @property
    def ordered(self) -> bool: ...

    def walk(self, rows: Sequence[Tensor], epoch: int, /) -> Iterator[Pair]:
        """As if `gather` was called with one row after the other."""
        ...


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


@runtime_checkable
class Joint(Protocol):
    """An augmentation that changes the targets too.

    beyond: so many examples are handed in behind the b that are wanted, those that come next in the global batch (at its
    end, its last one again): so examples can be mixed, and it does not matter how many ranks share the batch.
    """

    @property
    def draws(self) -> int: ...

    @property
    def beyond(self) -> int: ...

    def joint(self, inputs: Tensor, targets: Tensor, draws: Tensor, /) -> Pair:
        """b inputs and b targets, from b + beyond of each."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Arrays:
    """n examples in memory: inputs [n, ...] and targets [n, ...], on one device."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return self.inputs.shape[0]

    def gather(self, chosen: Tensor, /) -> Pair:
        there = chosen.to(self.inputs.device)
        return self.inputs.index_select(0, there), self.targets.index_select(0, there)

    def to(self, device: torch.device) -> Arrays:
        return Arrays(self.inputs.to(device), self.targets.to(device))

    def part(self, low: int, high: int) -> Arrays:
        """The examples `low` to `high`, without the last."""
        return Arrays(self.inputs[low:high], self.targets[low:high])


@dataclass(frozen=True, eq=False)
class Windows:
    """Pieces of one long sequence, values [n, ...]: example i has the inputs from i * stride on, and what comes after them.

    length: values of an input. horizon: values of a target. offset: from an input's first value to its target's.
    Nothing is copied before it is gathered, so windows may overlap at no cost.
    """

    values: Tensor
    length: int
    horizon: int
    offset: int
    stride: int = 1

    def __post_init__(self) -> None:
        if min(self.length, self.horizon, self.stride) < 1 or not len(self):
            raise Invalid(
                f"{len(self.values)} values have no window of {self.length} and a target of {self.horizon}.",
                "Use shorter windows, or a longer sequence.",
            )

    def __len__(self) -> int:
        spare = len(self.values) - max(self.length, self.offset + self.horizon)
        return spare // self.stride + 1 if spare >= 0 else 0

    def gather(self, chosen: Tensor, /) -> Pair:
        begins = chosen.to(self.values.device)[:, None] * self.stride
        steps = torch.arange(max(self.length, self.horizon), device=self.values.device)
        return self.values[begins + steps[: self.length]], self.values[begins + self.offset + steps[: self.horizon]]


@dataclass(frozen=True, eq=False)
class Part:
    """Some examples of another source, by their numbers there (int64 [n])."""

    source: Source
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def gather(self, chosen: Tensor, /) -> Pair:
        return self.source.gather(self.numbers[chosen])

    @property
    def ordered(self) -> bool:
        return isinstance(self.source, Walked) and self.source.ordered

    def walk(self, rows: Sequence[Tensor], epoch: int, /) -> Iterator[Pair]:
        return walked(self.source, [self.numbers[row] for row in rows], epoch)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Another source, changed in the same way each time (resized, normalised): what training and validation need alike.

    change: an augmentation that draws nothing. device: where it is done.
    """

    source: Source
    change: Augment | Joint
    device: torch.device | None = None

    def __post_init__(self) -> None:
        if self.change.draws:
            raise Invalid("A preparation must not depend on chance.", "Hand it to the trainer as `augment`.")

    def __len__(self) -> int:
        return len(self.source)

    def gather(self, chosen: Tensor, /) -> Pair:
        return self._changed(self.source.gather(chosen))

    @property
    def ordered(self) -> bool:
        return isinstance(self.source, Walked) and self.source.ordered

    def walk(self, rows: Sequence[Tensor], epoch: int, /) -> Iterator[Pair]:
        return map(self._changed, walked(self.source, rows, epoch))

    def _changed(self, pair: Pair) -> Pair:
        inputs, targets = (moved(each, self.device) if self.device else each for each in pair)
        return changed(self.change, inputs, targets, torch.empty(len(inputs), 0, device=inputs.device))


def parts(source: Source, *shares: float, seed: int = 0) -> list[Part]:
    """A source divided at random, by shares that sum up to 1: `train, validation = parts(images, 0.9, 0.1)`."""
    if any(share <= 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise Invalid(f"The shares {', '.join(map(str, shares))} do not sum up to 1.", "Give one positive share for each part.")
    bounds = [round(sum(shares[:place]) * len(source)) for place in range(len(shares) + 1)]
    order = torch.randperm(len(source), generator=seeded(seed, "parts"))
    return [Part(source, order[low:high]) for low, high in pairwise(bounds)]


@dataclass(frozen=True, eq=False)
class Mapped:
    """A map-style torch Dataset whose examples are (input, target).

    collate: makes one pair of tensors of a list of examples; torch's default stacks them. workers: processes that load;
    0 loads where it is asked. Chance inside of the dataset is its own affair: what is to be repeatable belongs in `augment`.
    """

    dataset: torch.utils.data.Dataset[Any]
    collate: Callable[[list[Any]], Any] | None = None
    workers: int = 0
    ordered = False

    def __len__(self) -> int:
        size: int = len(self.dataset)  # type: ignore[arg-type]  # torch leaves the length out of its Dataset
        return size

    def gather(self, chosen: Tensor, /) -> Pair:
        collate = self.collate or torch.utils.data.default_collate
        return _pair(collate([self.dataset[number] for number in chosen.tolist()]))

    def walk(self, rows: Sequence[Tensor], _epoch: int, /) -> Iterator[Pair]:
        if not self.workers:
            return map(self.gather, rows)
        sampler: Any = [row.tolist() for row in rows]
        loader = torch.utils.data.DataLoader(
            self.dataset, batch_sampler=sampler, collate_fn=self.collate, num_workers=self.workers
        )
        return map(_pair, loader)


def _pair(found: Any) -> Pair:
    if isinstance(found, (tuple, list)) and len(found) == 2 and all(isinstance(each, Tensor) for each in found):
        return found[0], found[1]
    raise Invalid("The dataset's examples do not become one tensor of inputs and one of targets.",
                  "Let it give (input, target), or hand in a `collate` that makes (inputs, targets) of a list of examples.")  # fmt: skip


def seeded(*parts: int | str) -> torch.Generator:
    """A generator on the CPU whose numbers depend on all parts and on nothing else."""
    return torch.Generator().manual_seed(derived(*parts))


def derived(*parts: int | str) -> int:
    """A seed of 63 bits from several numbers or words; neighbouring parts give unrelated seeds."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def digest(pieces: Iterable[bytes]) -> str:
    """What lineage calls the content of a data set by: 32 hexadecimal digits of the SHA-256 over all pieces."""
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()[:32]


def content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"There is no file {file}.", "Check its path.") from None
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}.", "Give a file that you may read.") from None


def steps_per_epoch(size: int, batch: int) -> int:
    return -(-size // batch)


def batches(
    data: Source,
    batch: int,
    *,
    rank: int = 0,
    world: int = 1,
    seed: int | None = None,
    epoch: int = 0,
    start: int = 0,
    augment: Augment | Joint | None = None,
    device: torch.device | None = None,
) -> Iterator[Batch]:
    """This rank's share of each global batch of one epoch, from the batch number `start` on.

    batch: examples per global batch, over all ranks; the last one of an epoch may be smaller. Every rank gets the same
    number of batches of the same size: where a batch does not divide evenly, an example of weight 0 fills up.
    seed: without one, the examples come in their stored order. device: where batches go, and are augmented; by default they stay.
    """
    size, home = len(data), data.inputs.device if isinstance(data, Arrays) else torch.device("cpu")
    device = device or where(data)
    stored = seed is None or (isinstance(data, Walked) and data.ordered)
    order = torch.arange(size) if stored else torch.randperm(size, generator=seeded(seed or 0, epoch, "order"))
    beyond = augment.beyond if isinstance(augment, Joint) else 0
    draws = torch.rand(size, augment.draws, generator=seeded(seed or 0, epoch, "augment")).to(home) if augment else None
    rows = list(_rows(order.to(home), batch, rank, world, start, beyond, device))
    chosen = [row for row, _ in rows]
    for (row, weights), (inputs, targets) in zip(rows, walked(data, chosen, epoch), strict=True):
        if device != inputs.device:
            inputs, targets = moved(inputs, device), moved(targets, device)
        if augment and draws is not None:
            inputs, targets = changed(augment, inputs, targets, draws[row].to(device))
        yield Batch(inputs, targets, weights)


def _rows(
    order: Tensor, batch: int, rank: int, world: int, start: int, beyond: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """The numbers of this rank's examples, batch for batch, and their weights: cut once an epoch, not once a step."""
    full = len(order) // batch
    for table, first in ((order[: full * batch].view(full, batch), 0), (order[full * batch :][None], full)):
        count = table.shape[1]
        share = -(-count // world)
        places = torch.arange(rank * share, (rank + 1) * share + beyond)
        if count and len(table):
            weights = (places[:share] < count).to(device, torch.float32)
            own = table[max(0, start - first) :, places.clamp(max=count - 1).to(order.device)]
            yield from ((row, weights) for row in own)


def where(source: Source) -> torch.device:
    """The device that a source's examples are on."""
    if isinstance(source, Arrays):
        return source.inputs.device
    if isinstance(source, Prepared) and source.device:
        return source.device
    return where(source.source) if isinstance(source, (Part, Prepared)) else torch.device("cpu")


def walked(source: Source, rows: Sequence[Tensor], epoch: int) -> Iterator[Pair]:
    return source.walk(rows, epoch) if isinstance(source, Walked) else map(source.gather, rows)


def changed(augment: Augment | Joint, inputs: Tensor, targets: Tensor, draws: Tensor) -> Pair:
    if isinstance(augment, Joint):
        return augment.joint(inputs, targets, draws)
    return augment(inputs, draws), targets


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """To a GPU from pinned memory, so that nobody waits for the copy."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)
