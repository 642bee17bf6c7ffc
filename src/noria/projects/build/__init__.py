"""Kinds of environments, one file each: what a file says (`read`), and how that is made (`make`).

`read` opens files and starts no process: it is done each time an environment is asked for. `make` is called once for each recipe, by
one process at a time, with a folder that is not there yet and is nobody else's. If it raises, the folder is removed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from msgspec import Struct

from noria.plugins import Kind


class Need(Struct, frozen=True):
    """What describes an environment. kind: the name of a file on this shelf. file: its path; empty for an image that has a name and no
    file. folder: the project's. image: as docker_env names it."""

    kind: str
    file: str
    folder: str
    image: str = ""


class Line(Struct, frozen=True):
    """One line of pip's, which refers to no other file. {} in its text is what lies at `path`, a file or a folder, if that is set."""

    text: str
    path: str = ""


class Recipe(Struct, frozen=True):
    """What is to be in an environment.

    python: as specifiers of PEP 440; empty: whichever runs this. layers: what pip installs, one after another.
    constraints: and what it may not go beyond. options: pip's, of the files. content: what there is besides, of JSON's types;
    recipes with the same python, layers, constraints, options and content make the same environment.
    sources: files and folders whose content counts too. ready: the path of what is an environment already, as an image's file is.
    has_python: whether it needs an interpreter of this machine.
    """

    python: str = ""
    layers: list[list[Line]] = []
    constraints: list[Line] = []
    options: list[Line] = []
    content: Any = None
    sources: list[str] = []
    ready: str = ""
    has_python: bool = True


class Python(Struct, frozen=True):
    """An interpreter. has_pip: whether its `venv` can bring pip along, which Debian's cannot without a package of its own."""

    path: str
    version: str
    has_pip: bool = True


class Work(Struct, frozen=True):
    """What `make` is given. need and recipe: of what. into: the folder to make. scratch: a folder that is gone afterwards. cache: where
    it will be kept. python: finds the interpreter; raises Invalid if there is none.
    run: a command, its variables besides ours, and its folder; what it prints goes to the log, and Invalid is raised if it fails.
    report: is told in a line what is being done."""

    need: Need
    recipe: Recipe
    into: Path
    scratch: Path
    cache: Path
    python: Callable[[], Python]
    run: Callable[[Sequence[str], Mapping[str, str], Path], None]
    report: Callable[[str], None]


class Builder(Protocol):
    """The members of a file on this shelf. FILES: the names by which its files are known where nobody names one, the first that is there
    counts. interpreter: of a folder that was made; empty for an image. manager: how that folder is made active: virtualenv, conda or image."""

    FILES: tuple[str, ...]

    def read(self, need: Need) -> Recipe: ...

    def make(self, work: Work) -> None: ...

    def interpreter(self, folder: Path) -> str: ...

    def manager(self, folder: Path) -> str: ...


IMAGE = "image.sif"
"""In the folder of an image that was fetched."""
KINDS: Kind[Builder] = Kind(__name__)
ORDER = ("python_env", "conda", "uv", "requirements", "pyproject", "image")
"""In which they are looked for in a folder: as mlflow does first, and then what says more before what says less."""
