"""python_env.yaml: mlflow's virtual environments, a version of Python and lines for pip (mlflow: MLproject, python_env)."""

from __future__ import annotations

from pathlib import Path

from noria.errors import Invalid
from noria.projects import virtual, yamls
from noria.projects.build import Need, Recipe, Work
from noria.projects.requirements import read as read_lines

FILES = ("python_env.yaml", "python_env.yml")
_KEYS = ("python", "build_dependencies", "dependencies")


def read(need: Need) -> Recipe:
    file, folder = Path(need.file), Path(need.folder)
    found = yamls.read(file)
    yamls.known(file, found, _KEYS)
    python = found.get("python") or ""
    if not isinstance(python, str):
        raise Invalid(f"{file}: python is no version.", "Write python: 3.11")
    # Relative paths start from the project's folder, wherever in it this file lies.
    base = folder if file.is_relative_to(folder) else file.parent
    layers = [read_lines(yamls.texts(file, found, key), base, str(file)) for key in _KEYS[1:]]
    return virtual.recipe(virtual.pinned(python, str(file)) if python else "", layers)


def make(work: Work) -> None:
    virtual.make(work)


interpreter, manager = virtual.interpreter, virtual.manager
