"""Which layers learn from which epoch on: what was learned first is let loose last, so that a new head does not spoil it.

On several processes the gradient of what is still frozen is computed and dropped: how weights are laid out stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from noria.errors import Invalid
from noria.train.transfer import freeze

Thaw = Mapping[int, Sequence[str]]
"""By epoch, from 0: the names of all layers that learn from it on; [""] is the whole model. Before the first of them the model learns as
it was given."""


def gradually(model: nn.Module, every: int = 1) -> dict[int, list[str]]:
    """The last of the model's children alone, and each `every` epochs one more before it (Howard and Ruder 2018, ULMFiT)."""
    names = [name for name, child in model.named_children() if any(True for _ in child.parameters())]
    return {every * number: names[-1 - number :] for number in range(len(names))}


def check(model: nn.Module, thaw: Thaw) -> None:
    """Raise Invalid for a layer that there is not."""
    known = {name for name, _ in model.named_modules()}
    for epoch, names in thaw.items():
        for name in names:
            if name not in known:
                raise Invalid(f"thaw of epoch {epoch}: this model has no layer '{name}'.",
                              f"Its layers are {', '.join(name for name, _ in model.named_children())}, and what is in them.")  # fmt: skip


def phase(thaw: Thaw, epoch: int) -> int:
    """The epoch whose word counts in this one; -1 before the first."""
    return max((each for each in thaw if each <= epoch), default=-1)


def ever(model: nn.Module, thaw: Thaw) -> None:
    """Have all weights learn that will at some time: to be called before the model is laid out over several processes."""
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    for names in thaw.values():
        freeze(model, *names)
        learning += [weight for weight in model.parameters() if weight.requires_grad]
    for weight in learning:
        weight.requires_grad_(True)


def thawed(model: nn.Module, thaw: Thaw, epoch: int, *, laid_out: bool) -> list[nn.Parameter]:
    """Freeze what does not learn in this epoch. Returns the weights whose gradient is to be dropped: none, unless it is `laid_out`."""
    now = phase(thaw, epoch)
    if now < 0:
        return []
    before = [weight for weight in model.parameters() if weight.requires_grad]
    freeze(model, *thaw[now])
    if not laid_out:
        return []
    held = [weight for weight in before if not weight.requires_grad]
    for weight in held:
        weight.requires_grad_(True)
    return held
