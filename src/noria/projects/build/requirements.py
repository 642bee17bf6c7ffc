"""requirements.txt: a virtual environment of the Python that runs this, or of the one that `.python-version` beside it names."""

from __future__ import annotations

from pathlib import Path

from noria.projects import virtual
from noria.projects.build import Need, Recipe, Work
from noria.projects.requirements import read as read_lines
from noria.projects.requirements import text_of

FILES = ("requirements.txt",)


def read(need: Need) -> Recipe:
    file = Path(need.file)
    wanted = read_lines(text_of(file).splitlines(), file.parent, str(file))
    return virtual.recipe(virtual.beside(file.parent), [wanted])


def make(work: Work) -> None:
    virtual.make(work)


interpreter, manager = virtual.interpreter, virtual.manager
