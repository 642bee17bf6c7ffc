"""A shelf: one file is one family of architectures. What a user types is the file's name, or one of its `NAMES` where it has these.

A built model remembers what it was built from, `model.architecture == ("cnn", {"width": 32, ...})`, so that it can be
saved as its weights and rebuilt from its name: no pickled code.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import signature
from typing import TYPE_CHECKING, Any, Protocol

from noria.errors import Invalid
from noria.plugins import Kind

if TYPE_CHECKING:
    from torch import nn


class Architecture(Protocol):
    """`build` takes plain values (they are written as JSON), all by keyword and each with a default.
    Weights are drawn from torch's global generator.

    A file may say `NAMES`, each name with the arguments that it stands for: {"resnet50": {"blocks": [3, 4, 6, 3], ...}, ...}.
    """

    def build(self, **arguments: Any) -> nn.Module: ...


ARCHITECTURES: Kind[Architecture] = Kind("noria.train.architectures")


def names() -> list[str]:
    """All that can be built, sorted. Imports every file of the shelf."""
    return sorted(name for file in ARCHITECTURES.names() for name in _named(file))


def build(name: str, /, **arguments: Any) -> nn.Module:
    """The model of this name; Invalid if there is none, or if it does not take these arguments."""
    file = _file(name)
    given = {**_named(file)[name], **arguments}
    if "classes" in given:  # The word in models that were saved before the shelf had more than two files.
        given["num_classes"] = given.pop("classes")
    make = ARCHITECTURES.get(file).build
    try:
        bound = signature(make).bind(**given)
        bound.apply_defaults()
        model = make(**bound.arguments)
    except (TypeError, ValueError, ArithmeticError, AssertionError, RuntimeError) as error:
        raise Invalid(f"The architecture '{name}' cannot be built: {error}.", "Leave that argument out or correct it.") from None
    vars(model)["architecture"] = (name, bound.arguments)
    return model


def _named(file: str) -> Mapping[str, Mapping[str, Any]]:
    named: Mapping[str, Mapping[str, Any]] = getattr(ARCHITECTURES.module(file), "NAMES", {file: {}})
    return named


def _file(name: str) -> str:
    """The file that has this name. Other packages are asked only if none of ours has it."""
    for files in (ARCHITECTURES.own, ARCHITECTURES.names):
        for file in files():
            if name in _named(file):
                return file
    raise Invalid(f"There is no '{name}' among architectures.", f"Use one of: {', '.join(names())}.")
