"""A shelf: one file is one architecture, and its name is what a user types.

A built model remembers what it was built from, `model.architecture == ("cnn", {"width": 32, ...})`, so that it can be
saved as its weights and rebuilt from its name: no pickled code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from noria.errors import Invalid
from noria.plugins import Kind

if TYPE_CHECKING:
    from torch import nn


class Architecture(Protocol):
    """`build` takes plain values (they are written as JSON), all by keyword and each with a default; it sets
    `model.architecture` to the file's name and every argument. Weights are drawn from torch's global generator."""

    def build(self, **arguments: Any) -> nn.Module: ...


ARCHITECTURES: Kind[Architecture] = Kind("noria.train.architectures")


def build(name: str, **arguments: Any) -> nn.Module:
    """The model of this name; Invalid if there is none, or if it does not take these arguments."""
    try:
        return ARCHITECTURES.get(name).build(**arguments)
    except TypeError as error:
        raise Invalid(f"The architecture '{name}' cannot be built: {error}.", "Leave that argument out or correct it.") from None
