"""A plugin is a file. The name that a user types is the file's name; nothing is registered anywhere.

Other packages add to a shelf by an entry point of the same group:

    [project.entry-points."noria.jobs.schedulers"]
    lsf = "my_package.lsf"
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from types import ModuleType
from typing import Generic, TypeVar, cast

from noria.errors import Invalid

Protocol = TypeVar("Protocol")


class Kind(Generic[Protocol]):
    """The plugins of one kind: the modules of one package, each of which has the members that `Protocol` names."""

    def __init__(self, package: str) -> None:
        self.package = package

    def own(self) -> list[str]:
        """The names of our own files, sorted. Imports the shelf, none of its plugins."""
        shelf = import_module(self.package)
        return sorted(module.name for module in iter_modules(shelf.__path__) if not module.name.startswith("_"))

    def names(self) -> list[str]:
        """All names of this kind, sorted, other packages' included."""
        from importlib.metadata import entry_points  # Reads every installed package: only when all names are asked for.

        return sorted({*self.own(), *(entry.name for entry in entry_points(group=self.package))})

    def get(self, name: str) -> Protocol:
        """The plugin of this name; Invalid, with the names there are, if there is none."""
        return cast(Protocol, self.module(name))

    def module(self, name: str) -> ModuleType:
        if name.isidentifier() and not name.startswith("_") and find_spec(f"{self.package}.{name}"):
            return import_module(f"{self.package}.{name}")
        from importlib.metadata import entry_points

        for entry in entry_points(group=self.package):
            if entry.name == name:
                return cast(ModuleType, entry.load())
        what = self.package.rpartition(".")[2]
        raise Invalid(f"There is no '{name}' among {what}.", f"Use one of: {', '.join(self.names())}.")
