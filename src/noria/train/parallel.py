"""A model on a mesh of processes: what is sharded, cut, or handed to a stage, and what is summed over them. What is done to a model is done in
place, and no name of a weight changes: so what four processes save, two can load, and so can one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import accumulate as running
from typing import Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, ParallelStyle, RowwiseParallel, parallelize_module
from torch.utils.checkpoint import checkpoint as recomputed

from noria.errors import Invalid
from noria.train import dropout
from noria.train.distributed import World

Styles = Mapping[str, ParallelStyle | Literal["columns", "rows"]]
"""By name of a layer (`*` stands for any): how its matrix is cut. "columns" is by its outputs, "rows" by its inputs."""
_ELEMENTWISE = (nn.ReLU, nn.GELU, nn.SiLU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Identity, nn.Dropout, dropout.Dropout)


def on_mesh(model: nn.Module, world: World, styles: Styles | None, spread: Callable[[nn.Module], None]) -> nn.Module:
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
