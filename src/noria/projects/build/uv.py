"""uv.lock beside a pyproject.toml: exactly what is locked, by `uv sync --frozen` (uv: Locking and syncing)."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

from noria.errors import Invalid
from noria.projects import indexes, sources, virtual
from noria.projects.build import Need, Recipe, Work
from noria.projects.requirements import text_of

FILES = ("uv.lock",)


def read(need: Need) -> Recipe:
    lock = Path(need.file)
    text, pyproject = text_of(lock), lock.parent / "pyproject.toml"
    if not pyproject.is_file():
        raise Invalid(f"{lock} has no pyproject.toml beside it.", "Put it there, or name another file.")
    range_ = re.search(r'^requires-python = "([^"]*)"', text, re.MULTILINE)
    python = virtual.beside(lock.parent) or (range_[1].replace(" ", "") if range_ else "")
    said = _project(pyproject)
    return Recipe(python, content={"lock": text, "project": said, "indexes": indexes.asked()}, sources=_local(lock.parent, text))


def _project(path: Path) -> dict[str, Any]:
    """What of it counts: not what other tools are told there."""
    try:
        found = tomllib.loads(text_of(path))
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{path} is not valid TOML ({error}).", "Mend that line.") from None
    tool = found.get("tool", {})
    return {key: found.get(key) for key in ("project", "dependency-groups", "build-system")} | {"uv": tool.get("uv")}


def _local(folder: Path, text: str) -> list[str]:
    """Packages that are built from folders of the project's own, itself among them unless it is no package."""
    named = re.findall(r'\{ (?:editable|directory|path) = "([^"]*)"', text)
    return sorted({os.path.normpath(folder / each) for each in named})


def make(work: Work) -> None:
    program = virtual.uv()
    if program is None:
        raise Invalid(f"{work.need.file} is built by uv, which is not here.", "pip install uv, or: pip install 'noria[uv]'")
    python = work.python()
    work.report(f"making it with Python {python.version} and uv, as it is locked")
    folder = Path(work.need.file).parent
    # Building writes into a folder, and may not be allowed to. What lies outside of it is found only from where it is.
    inside = all(Path(each).is_relative_to(folder) for each in work.recipe.sources)
    base = Path(sources.copy(folder, work.scratch / "sources")) if inside and work.recipe.sources else folder
    # Not editable: it is for whoever has the same content, and would change under them.
    argv = [program, "sync", "--frozen", "--no-editable", "--python", python.path, "--compile-bytecode", "--project", str(base)]
    work.run(argv, {"UV_PROJECT_ENVIRONMENT": str(work.into), **indexes.for_uv()}, base)


interpreter, manager = virtual.interpreter, virtual.manager
