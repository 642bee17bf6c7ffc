"""A model on a mesh of processes. What is done to it is done in place, and no name of a weight changes: so what four processes save, two
can load, and so can one.

`Whole` is every layout in which a process sees all layers, in full or in part: copies (DDP), shards (FSDP2), cut matrices (DTensor), and
their products. `Pipelined` sees a run of layers. Both have the same two methods, `accumulate` and `evaluate`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import accumulate as running
from shutil import which
from typing import Any, Literal, Protocol, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.pipelining import PipelineStage, Schedule1F1B
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from torch.utils.checkpoint import checkpoint as recomputed

from noria.errors import Invalid, Unsupported
from noria.train import context, dropout
from noria.train.data import Arrays, Batch, Source, batches
from noria.train.distributed import World
from noria.train.precision import Precision
from noria.train.steps import Step, Sums
from noria.train.stream import ahead

Styles = Mapping[str, ParallelStyle | Literal["columns", "rows"]]
"""By name of a layer (`*` stands for any): how its matrix is cut. "columns" is by its outputs, "rows" by its inputs."""
_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Identity, nn.Dropout, dropout.Dropout)


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
        self.called = _on_mesh(model, world, styles, spread)

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
        called = _on_mesh(self.model, world, styles, spread)
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


def _on_mesh(model: nn.Module, world: World, styles: Styles | None, spread: Callable[[nn.Module], None]) -> nn.Module:
    """Cut matrices, then hand over to `spread`, then shard or copy. Returns what is to be called."""
    layout, mesh = world.layout, world.mesh
    if layout.tensor > 1:
        assert mesh is not None
        parallelize_module(model, mesh["tensor"], _styles(styles or pairs(model)))
        for layer in _between(model):
            layer.among = (world.place.tensor, layout.tensor)
    spread(model)
    if layout.shard > 1 or (layout.replicas > 1 and layout.tensor > 1):
        # DDP does not mix with cut matrices; FSDP2 over one shard does what DDP would.
        assert mesh is not None
        for unit in units(model):
            fully_shard(unit, mesh=mesh["data", "shard"], reshard_after_forward=True)
        return cast(nn.Module, fully_shard(model, mesh=mesh["data", "shard"], reshard_after_forward=True))
    if layout.replicas > 1:
        group = mesh["data"].get_group() if mesh is not None else None
        return nn.parallel.DistributedDataParallel(model, process_group=group)
    return model


def units(model: nn.Module) -> list[nn.Module]:
    """The layers that are sharded, compiled and recomputed one by one: the children of the longest list of layers in the model that
    have weights."""
    lists = [model, *model.modules()] if isinstance(model, nn.Sequential) else list(model.modules())
    found = max((each for each in lists if isinstance(each, nn.ModuleList | nn.Sequential)), key=_weighty, default=None)
    return [child for child in found.children() if any(True for _ in child.parameters())] if found is not None else []


def _weighty(layers: nn.Module) -> int:
    return sum(any(True for _ in child.parameters()) for child in layers.children())


def pairs(model: nn.Module) -> Styles:
    """Each two linear layers with nothing but elementwise functions between them: the first is cut by its outputs, the second by its
    inputs, so that one sum follows (Shoeybi et al. 2019, Megatron-LM). A model may say it itself: `model.styles`, by name of the layer.

    Raises Invalid if there are none.
    """
    said: Styles | None = getattr(model, "styles", None)
    if said:
        return said
    styles: dict[str, Literal["columns", "rows"]] = {}
    for path, layers in model.named_modules():
        if isinstance(layers, nn.Sequential):
            styles |= {f"{path}.{name}".lstrip("."): style for name, style in _pairs(list(layers.named_children()))}
    if not styles:
        raise Invalid("Tensor parallelism finds no two linear layers in a row in this model.",
                      "Give styles={'first': 'columns', 'second': 'rows'} with names of layers, or use parallel='shard'.")  # fmt: skip
    return styles


def _pairs(layers: Sequence[tuple[str, nn.Module]]) -> Iterator[tuple[str, Literal["columns", "rows"]]]:
    first = ""
    for name, layer in layers:
        if isinstance(layer, nn.Linear):
            if first:
                yield from ((first, "columns"), (name, "rows"))
            first = "" if first else name
        elif not isinstance(layer, _ELEMENTWISE):
            first = ""


def _between(model: nn.Module) -> Iterator[dropout.Dropout]:
    """What drops features between two matrices that are cut: each process has a run of these."""
    for layers in model.modules():
        if isinstance(layers, nn.Sequential):
            cut_so_far = False
            for layer in layers.children():
                if isinstance(layer, nn.Linear):
                    cut_so_far = isinstance(layer.weight, DTensor) and layer.weight.placements == (Shard(0),)
                elif isinstance(layer, dropout.Dropout) and cut_so_far:
                    yield layer


def _styles(said: Styles) -> dict[str, ParallelStyle]:
    named: dict[str, type[ParallelStyle]] = {"columns": ColwiseParallel, "rows": RowwiseParallel}
    return {name: named[style]() if isinstance(style, str) else style for name, style in said.items()}


def stage_of(model: nn.Module, stage: int, stages: int) -> nn.Module:
    """The model without the layers of other stages; called, it applies those that are left, one after the other.

    A Sequential is cut between its layers; another model says the names of its layers in order, `model.parts`. The cuts leave about the
    same number of weights on each side. Raises Invalid if the model cannot be cut, has fewer layers than stages, or shares a weight
    between layers.
    """
    names = getattr(model, "parts", None) or (list(model._modules) if isinstance(model, nn.Sequential) else [])
    layers = {name: model.get_submodule(name) for name in names}
    if len(layers) < stages:
        what = (
            f"The model has {len(layers)} layers to cut"
            if layers
            else "This model does not say in what order its layers are applied"
        )
        raise Invalid(f"{what}; a pipeline of {stages} stages needs as many.",
                      "Use nn.Sequential, set model.parts = [names of layers in order], or use parallel='shard'.")  # fmt: skip
    inside = sum(len(list(layer.parameters())) for layer in layers.values())
    if inside != len({id(weight) for layer in layers.values() for weight in layer.parameters()}):
        raise Invalid(
            "Two layers of this model share a weight, and would be in two processes.", "Untie them, or use parallel='shard'."
        )
    if inside != len(list(model.parameters())):
        raise Invalid("This model has weights outside of the layers that it names.", "Name all of them in model.parts.")
    for name, part in zip(names, stages_by_weight([_size(layer) for layer in layers.values()], stages), strict=True):
        if part != stage:
            holder, _, last = name.rpartition(".")
            delattr(model.get_submodule(holder), last)
    here = [
        layers[name]
        for name, part in zip(names, stages_by_weight([_size(layer) for layer in layers.values()], stages), strict=True)
        if part == stage
    ]
    model.forward = partial(_one_after_the_other, here)  # What it did is what `parts` says.
    return model


def _one_after_the_other(layers: Sequence[nn.Module], inputs: Tensor) -> Tensor:
    for layer in layers:
        inputs = layer(inputs)
    return inputs


def _size(layer: nn.Module) -> int:
    return sum(weight.numel() for weight in layer.parameters())


def stages_by_weight(sizes: Sequence[int], stages: int) -> list[int]:
    """The stage of each layer: rising, none left out, each with about the same sum of sizes."""
    total, found = sum(sizes) or 1, list[int]()
    for number, before in enumerate(running(sizes, initial=0)):
        if number == len(sizes):
            break
        middle = int((before + sizes[number] / 2) * stages / total)
        lowest = max(found[-1] if found else 0, stages - (len(sizes) - number))
        highest = min((found[-1] if found else -1) + 1, stages - 1)
        found.append(max(min(middle, highest), min(lowest, highest)))
    return found


def norm_of(weights: Iterable[nn.Parameter], world: World) -> Tensor:
    """The norm of all gradients, wherever they are: a number on this device, the same on every process."""
    by_mesh: dict[DeviceMesh | None, list[Tensor]] = {}
    for weight in weights:
        if weight.grad is not None:
            mesh = weight.grad.device_mesh if isinstance(weight.grad, DTensor) else None
            by_mesh.setdefault(mesh, []).append(weight.grad)
    square = torch.zeros((), device=world.device)
    for gradients in by_mesh.values():
        part = nn.utils.get_total_norm(gradients)
        square = square + (part.full_tensor() if isinstance(part, DTensor) else part) ** 2
    if world.layout.pipeline > 1:
        assert world.mesh is not None
        dist.all_reduce(square, group=world.mesh["pipeline"].get_group())
    return square.sqrt()


def scale(weights: Iterable[nn.Parameter], factor: Tensor) -> None:
    """Multiply all gradients."""
    gradients = [
        weight.grad.to_local() if isinstance(weight.grad, DTensor) else weight.grad
        for weight in weights
        if weight.grad is not None
    ]
    torch._foreach_mul_(gradients, factor)


def recompute(model: nn.Module) -> None:
    """Keep only what goes into each layer of the longest list, and compute the rest again on the way back (Chen et al. 2016)."""
    for layer in units(model) or [model]:
        # As torch's own wrapper, without a change of names.
        layer.forward = partial(recomputed, layer.forward, use_reentrant=False, context_fn=_as_it_was)


def _as_it_was() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Around the first pass, and around the one that computes it again: of the same examples, wherever the training is by then."""
    return nullcontext(), dropout.now.again(dropout.now.place)


def gathered(model: nn.Module, empty: nn.Module, world: World) -> nn.Module:
    """All weights of the model in `empty`, which is what it was before it was laid out, on the meta device: filled on rank 0, on the CPU.
    To be called by all processes."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=world.layout.pipeline == 1)
    state = {name: cast(Tensor, tensor).cpu() for name, tensor in get_model_state_dict(model, options=options).items()}
    if world.layout.pipeline > 1 and world.rank % (world.size // world.layout.pipeline) == 0:
        assert world.mesh is not None
        group = world.mesh["pipeline"].get_group()
        parts: list[dict[str, Tensor]] = [{} for _ in range(world.layout.pipeline)]
        dist.gather_object(state, parts if world.rank == 0 else None, dst=0, group=group)
        state = {name: tensor for part in parts for name, tensor in part.items()}
    if world.rank == 0:
        empty = empty.to_empty(device="cpu")
        empty.load_state_dict(state)
    return empty
