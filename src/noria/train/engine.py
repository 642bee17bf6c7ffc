"""What makes a gradient of a batch. `Whole` is every layout in which a process sees all layers, in full or in part: copies (DDP), shards (FSDP2),
cut matrices (DTensor), and their products. `Pipelined` sees a run of layers. Both have the same two methods, `accumulate` and `evaluate`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from shutil import which
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import PipelineStage, Schedule1F1B

from noria.errors import Invalid, Unsupported
from noria.train import context, dropout
from noria.train.data import Arrays, Batch, Source, batches
from noria.train.distributed import World
from noria.train.parallel import Styles, on_mesh, stage_of, units
from noria.train.precision import Precision
from noria.train.steps import Step, Sums
from noria.train.stream import ahead


class Engine(Protocol):
    """model: what this process holds of it."""

    model: nn.Module
    micro: int | None

    def accumulate(self, batch: Batch) -> Tensor:
        """Add the gradient of the summed loss of this share to `.grad`, averaged over shares. Returns [loss sum, weight], float64, of
        this process alone; zeros on one that does not count."""

    def evaluate(self, data: Source, batch: int) -> dict[str, float]:
        """The weighted means of the loss and of the step's metrics over all of `data`, on every process."""


def engine(
    model: nn.Module, step: Step, world: World, precision: Precision, *, micro: int | None = None, share: int = 0,
    styles: Styles | None = None, compiled: bool = False, spread: Callable[[nn.Module], None] = lambda model: None,
) -> Engine:  # fmt: skip
    """Put the model on the mesh of this world.

    micro: examples that go through the model at a time. share: examples of a batch that one process sees. styles: how tensor
    parallelism cuts which layers; without them, pairs of linear layers are found. compiled: by torch.compile, the loss with the model
    where a process has all of its layers whole, else layer by layer. spread: called once layers are cut and before they are
    sharded, for what is to be done to each.
    """
    layout = world.layout
    if compiled and world.device.type == "cpu" and not any(map(which, (os.environ.get("CXX", "g++"), "clang++"))):
        raise Unsupported("torch.compile needs a C++ compiler on a CPU, and there is none.", "Install g++, or leave compile out.")
    if compiled and layout.pipeline * layout.shard * layout.tensor == 1:
        step = torch.compile(step, dynamic=False)
    elif compiled:
        spread = partial(_compiled, spread)
    if layout.pipeline > 1:
        return Pipelined(model, step, world, precision, micro, share, styles, spread)
    return Whole(model, step, world, precision, micro, styles, spread)


def _compiled(spread: Callable[[nn.Module], None], model: nn.Module) -> None:
    spread(model)
    for layer in units(model) or [model]:
        layer.compile()


class Whole:
    def __init__(
        self, model: nn.Module, step: Step, world: World, precision: Precision, micro: int | None = None,
        styles: Styles | None = None, spread: Callable[[nn.Module], None] = lambda model: None,
    ) -> None:  # fmt: skip
        self.model, self.step, self.world, self.precision, self.micro = model, step, world, precision, micro
        self.called = on_mesh(model, world, styles, spread)

    def accumulate(self, batch: Batch) -> Tensor:
        parts = cut(batch, self.micro)
        total: Tensor | None = None
        first = self.world.share * len(batch.weights)
        for number, part in enumerate(parts, 1):
            dropout.now.first(first)
            first += len(part.weights)
            with self._synchronised(number == len(parts)):
                with self.precision.computing():
                    loss, weight, *_ = self.step(self.called, part)
                sums = torch.stack([loss.detach(), weight.to(loss.dtype)]).double()
                total = sums if total is None else total + sums
                (loss * self.precision.scale.value if self.precision.scale else loss).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        assert total is not None
        return total if self.world.counts else torch.zeros_like(total)

    def _synchronised(self, last: bool) -> AbstractContextManager[object]:
        """Gradients are exchanged with the last part of a batch only."""
        if isinstance(self.called, FSDPModule):
            self.called.set_requires_gradient_sync(last)
        elif not last and isinstance(self.called, nn.parallel.DistributedDataParallel):
            return self.called.no_sync()
        return nullcontext()

    def evaluate(self, data: Source, batch: int) -> dict[str, float]:
        total = _Total()
        with _judging(self.model):
            for part in fed(data, batch, self.world):
                with self.precision.computing():
                    total.add(self.step(self.model, part))
        return total.means(self.world)


class Pipelined:
    """The layers in `pipeline` stages, one of them here; the parts of a batch follow each other through them (1F1B: Narayanan et al.
    2019, PipeDream). All parts have one shape, so a batch that does not fill them is padded with examples of weight 0."""

    def __init__(
        self, model: nn.Module, step: Step, world: World, precision: Precision, micro: int | None, share: int,
        styles: Styles | None, spread: Callable[[nn.Module], None],
    ) -> None:  # fmt: skip
        stages, stage = world.layout.pipeline, world.place.pipeline
        self.step, self.world, self.precision = step, world, precision
        self.micro: int | None = micro or max(1, share // (2 * stages))
        self.size = -(-share // self.micro) * self.micro
        self.first, self.last = stage == 0, stage == stages - 1
        self.model = stage_of(model, stage, stages)
        called = on_mesh(self.model, world, styles, spread)
        assert world.mesh is not None
        group = world.mesh["pipeline"].get_group()
        self.schedule = Schedule1F1B(
            _Stage(called, stage, stages, world.device, group=group, first=self._first),
            self.size // self.micro,
            loss_fn=self._loss,
            scale_grads=False,
        )
        self.parts: Sequence[Batch] = ()
        self.given = 0
        self.found: dict[int, Sums] = {}

    def _first(self, part: int) -> int:
        """The place in the whole batch of a part's first example."""
        return self.world.share * self.given + part * (self.micro or 0)

    def _loss(self, out: Tensor, number: Tensor) -> Tensor:
        given = _Given(out)
        found = self.step(given, self.parts[int(number)])
        if given.calls != 1:
            raise Invalid(f"The step calls the model {given.calls} times; in a pipeline it is called once, with batch.inputs.",
                          "Use another layout for this step: parallel='data'.")  # fmt: skip
        self.found[int(number)] = (
            found  # Of a part that was passed through twice, the second: the first is for the shapes, and of no values.
        )
        return found[0] * self.precision.scale.value if self.precision.scale else found[0]

    def _pass(self, batch: Batch, run: Callable[..., object], total: _Total) -> None:
        self.given, whole = len(batch.weights), padded(batch, self.size)
        self.parts = cut(whole, self.micro)
        inputs = (whole.inputs,) if self.first else ()
        target = {"target": torch.arange(len(self.parts)), "losses": []} if self.last else {}
        with self.precision.computing():
            run(*inputs, **target)
        for _, found in sorted(self.found.items()):
            total.add(found)

    def accumulate(self, batch: Batch) -> Tensor:
        total = _Total()
        self._pass(batch, partial(self.schedule.step, return_outputs=False), total)
        sums = total.sums
        return sums[:2].flip(0) if sums is not None and self.world.counts else torch.zeros(2, dtype=torch.float64)

    def evaluate(self, data: Source, batch: int) -> dict[str, float]:
        total = _Total()
        size = self.size * self.world.layout.batch
        with _judging(self.model):
            for part in fed(data, size, self.world):
                self._pass(part, self.schedule.eval, total)
        return total.means(self.world)


class _Stage(PipelineStage):
    """Says which examples go through it."""

    def __init__(self, *args: Any, first: Callable[[int], int], **options: Any) -> None:
        super().__init__(*args, **options)
        self._first = first

    def forward_one_chunk(self, fwd_chunk_id: int, *args: Any, **options: Any) -> Any:
        dropout.now.first(self._first(fwd_chunk_id))
        return super().forward_one_chunk(fwd_chunk_id, *args, **options)


class _Given(nn.Module):
    """Stands for a model whose answer is known already."""

    def __init__(self, out: Tensor) -> None:
        super().__init__()
        self.out, self.calls = out, 0

    def forward(self, inputs: object) -> Tensor:
        self.calls += 1
        return self.out


class _Total:
    """Sums of weights, losses and metrics."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None

    def add(self, found: Sums) -> None:
        loss, weight, *more = found
        metrics = more[0] if more else {}
        self.names = list(metrics)
        sums = torch.stack([value.detach().double() for value in (weight, loss, *metrics.values())])
        self.sums = sums if self.sums is None else self.sums + sums

    def means(self, world: World) -> dict[str, float]:
        names = ["loss", *(world.agreed(self.names, source=world.knows) if world.layout.pipeline > 1 else self.names)]
        if self.sums is None or not world.counts:
            self.sums = torch.zeros(1 + len(names), dtype=torch.float64, device=world.device)
        weight, *others = world.sum(self.sums).tolist()
        if not weight:
            raise Invalid("There are no examples to evaluate on.", "Hand in at least one.")
        return {name: value / weight for name, value in zip(names, others, strict=True)}


@contextmanager
def _judging(model: nn.Module) -> Iterator[None]:
    """Without gradients and in eval mode; afterwards as it was."""
    training = model.training
    model.eval()
    with torch.no_grad():
        yield
    model.train(training)


def fed(data: Source, batch: int, world: World, **order: Any) -> Generator[Batch, None, None]:
    """This process's share of each batch, on its device; what is not in memory is fetched ahead. order: as `batches` takes it."""
    items = batches(data, batch, rank=world.share, world=world.layout.batch, device=world.device, **order)
    yield from map(context.cut, items if isinstance(data, Arrays) else ahead(items))


def cut(batch: Batch, micro: int | None) -> list[Batch]:
    """Parts of so many examples, the last one of what is left; without a number the batch itself."""
    size = len(batch.weights)
    if micro is None or micro >= size:
        return [batch]
    return [Batch(*(tensor[low : low + micro] for tensor in batch)) for low in range(0, size, micro)]


def padded(batch: Batch, size: int) -> Batch:
    """With the last example repeated up to so many, at weight 0."""
    short = size - len(batch.weights)
    if short <= 0:
        return batch
    inputs, targets, weights = (torch.cat([tensor, tensor[-1:].expand(short, *tensor.shape[1:])]) for tensor in batch)
    weights[-short:] = 0
    return Batch(inputs, targets, weights)
