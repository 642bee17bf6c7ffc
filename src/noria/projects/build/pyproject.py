"""pyproject.toml alone: what the project depends on, and the project itself if it is a package (PyPA: pyproject.toml specification)."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from noria.errors import Invalid
from noria.projects import virtual
from noria.projects.build import Line, Need, Recipe, Work
from noria.projects.requirements import Wanted, text_of
from noria.projects.requirements import read as read_lines

FILES = ("pyproject.toml",)


def describes(path: Path) -> bool:
    """Whether it is of a project: many hold settings of tools alone."""
    return re.search(r"^\[(project|tool\.poetry)\]", text_of(path), re.MULTILINE) is not None


def read(need: Need) -> Recipe:
    file = Path(need.file)
    try:
        found = tomllib.loads(text_of(file))
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{file} is not valid TOML ({error}).", "Mend that line.") from None
    project = found.get("project", {})
    if not describes(file):
        raise Invalid(f"{file} describes no project.", "Give it a [project] with dependencies, or name another file.")
    python = virtual.beside(file.parent) or str(project.get("requires-python", "")).replace(" ", "")
    if "build-system" in found:
        return virtual.recipe(python, [Wanted([Line("{}", str(file.parent))])])
    lines = project.get("dependencies", [])
    if not isinstance(lines, list) or not all(isinstance(each, str) for each in lines):
        raise Invalid(f"{file}: dependencies of [project] is no list of lines.", 'Write dependencies = ["numpy>=1.26"].')
    return virtual.recipe(python, [read_lines(lines, file.parent, str(file))])


def make(work: Work) -> None:
    virtual.make(work)


interpreter, manager = virtual.interpreter, virtual.manager
