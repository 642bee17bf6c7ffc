"""How a training is laid out over processes: `parallel="data=2,tensor=2"`, as a pure value."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import prod

from noria.errors import Invalid

STATE_BYTES = 16
"""Of one weight in training with Adam in fp32: itself, its gradient and two moments, 4 bytes each."""
_FOR_STATE = 0.6
"""The part of a device's memory that these may take; the rest is for activations and the allocator."""


@dataclass(frozen=True)
class Layout:
    """The number of ways along each axis of the mesh; the last axis changes fastest from rank to rank, so it stays within a node.

    pipeline: the layers are cut into so many stages. data: each of so many copies sees its share of the batch. context: of each example
    so many copies see a run of its tokens. shard: each sees its share of the batch, and keeps a part of the weights, the gradients and the
    optimizer's state. tensor: each layer's matrices are cut.
    """

    pipeline: int = 1
    data: int = 1
    context: int = 1
    shard: int = 1
    tensor: int = 1

    @property
    def size(self) -> int:
        return self.pipeline * self.replicas * self.tensor

    @property
    def batch(self) -> int:
        """Among how many the batch is shared."""
        return self.data * self.shard

    @property
    def replicas(self) -> int:
        """Over how many each gradient is averaged."""
        return self.batch * self.context

    def place(self, rank: int) -> Layout:
        """The coordinates of a rank, each from 0."""
        rest, tensor = divmod(rank, self.tensor)
        rest, shard = divmod(rest, self.shard)
        rest, context = divmod(rest, self.context)
        pipeline, data = divmod(rest, self.data)
        return Layout(pipeline, data, context, shard, tensor)

    def __str__(self) -> str:
        return ",".join(f"{name}={ways}" for name in AXES if (ways := getattr(self, name)) > 1) or "one process"


AXES = tuple(field.name for field in fields(Layout))


def layout(text: str, world: int) -> Layout:
    """Read `axis=ways,...` for so many processes; one axis without a number takes those that are left.

    Raises Invalid for an unknown axis and for ways that do not make up the number of processes.
    """
    ways: dict[str, int] = {}
    open_: list[str] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = part.partition("=")
        if name not in AXES or name in ways or name in open_:
            raise Invalid(f"parallel='{text}' has '{part}', which is not one more axis of the mesh.",
                          f"Write axis=ways with the axes {', '.join(AXES)}, as in 'data=2,tensor=2'; or 'auto'.")  # fmt: skip
        if not equals:
            open_.append(name)
        elif number.isascii() and number.isdigit() and int(number):
            ways[name] = int(number)
        else:
            raise Invalid(f"parallel='{text}' has '{part}'; '{number}' is not a number of processes.", f"Write {name}=2.")
    fixed = prod(ways.values())
    if len(open_) > 1 or (open_ and world % fixed):
        raise Invalid(f"parallel='{text}' cannot be laid out over {_processes(world)}.",
                      f"Give all of {', '.join(open_)} but one a number." if len(open_) > 1 else f"Start a multiple of {fixed}.")  # fmt: skip
    if open_:
        ways[open_[0]] = world // fixed
    elif fixed != world:
        raise Invalid(f"parallel='{text}' is for {_processes(fixed)}, and there {'are' if world > 1 else 'is'} {world}.",
                      f"Start {fixed} (noria submit --tasks-per-node {fixed}), or leave an axis without a number.")  # fmt: skip
    return Layout(**ways)


def _processes(number: int) -> str:
    return "one process" if number == 1 else f"{number} processes"


def automatic(weights: int, world: int, memory: int | None) -> Layout:
    """Copies if the state of training fits into a device beside its activations, else shards of it.

    weights: numbers in the model. memory: bytes of one device, None for host memory, which the processes of a node share anyway.
    """
    fits = memory is None or weights * STATE_BYTES <= memory * _FOR_STATE
    return Layout(data=world) if fits else Layout(shard=world)
