"""Virtual environments that pip's lines describe. uv makes them where it is found, and Python's own venv and pip where it is not, or
where a file uses what only pip knows."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from noria.projects import indexes, sources
from noria.projects.build import Line, Python, Recipe, Work
from noria.projects.pythons import RUNNING, pinned
from noria.projects.requirements import Wanted

__all__ = ["beside", "interpreter", "make", "manager", "pinned", "recipe", "uv", "written"]
_PIPS = ("--pre", "--prefer-binary", "--trusted-host", "--use-feature", "--pypi-url")
"""Options that uv has no equal for in a file."""


def recipe(python: str, layers: Sequence[Wanted]) -> Recipe:
    """Of what requirement files say, those of later layers being installed later. The order of lines says nothing."""
    return Recipe(
        python,
        [_ordered(layer.lines) for layer in layers],
        _ordered(line for layer in layers for line in layer.constraints),
        [line for layer in layers for line in layer.options],
        indexes.asked(),
    )


def _ordered(lines: Iterable[Line]) -> list[Line]:
    return sorted({*lines}, key=lambda line: (line.text, line.path))


def beside(folder: Path) -> str:
    """What `.python-version` says, which pyenv and uv read as well, as specifiers; empty without one."""
    path = folder / ".python-version"
    words = path.read_text(errors="replace").split() if path.is_file() else []
    return pinned(words[0], str(path)) if words and words[0][0].isdigit() else ""


def manager(folder: Path) -> str:
    return "virtualenv"


def interpreter(folder: Path) -> str:
    return str(folder / "bin" / "python")


def uv() -> str | None:
    """The program: on the PATH, or beside the Python that runs this."""
    return shutil.which("uv") or shutil.which("uv", path=os.path.dirname(sys.executable))


def make(work: Work) -> None:
    """Raises Invalid, with the tool's words, if it cannot be made."""
    recipe, program = work.recipe, uv()
    if any(re.match(rf"({'|'.join(_PIPS)})\b", line.text) for line in recipe.options):
        program = None
    python = work.python()
    packages = sum(len(layer) for layer in recipe.layers)
    work.report(
        f"making it with Python {python.version} and {'uv' if program else 'pip'}, {packages} requirement{'s'[: packages != 1]}"
    )
    _create(work, python, program)
    for number, layer in enumerate(recipe.layers):
        if layer:
            install(work, program, written(work, number, layer))


def _create(work: Work, python: Python, program: str | None) -> None:
    into = str(work.into)
    if program:
        argv = [program, "venv", "--no-config", "--no-project", "--python", python.path, into]
    else:
        # Bringing pip along takes longer than all the rest; ours serves those of its own version.
        bare = not python.has_pip or (_has_pip() and python.version.startswith(f"{RUNNING}."))
        argv = [python.path, "-m", "venv", *(("--without-pip",) if bare else ()), into]
    work.run(argv, {}, work.scratch)


def _has_pip() -> bool:
    """Whether the Python that runs this has one that can install elsewhere, as it can from 22.3 on."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return [int(part) for part in version("pip").split(".")[:2]] >= [22, 3]
    except (PackageNotFoundError, ValueError):
        return False


def install(work: Work, program: str | None, words: Sequence[str]) -> None:
    """Let pip, or uv as pip, install what the words say."""
    python = interpreter(work.into)
    if program:
        # pip's files were written for pip, which takes the best version of all indexes.
        env: Mapping[str, str] = {"UV_INDEX_STRATEGY": "unsafe-best-match", **indexes.for_uv()}
        argv = [program, "pip", "install", "--python", python, "--no-config", "--compile-bytecode", *words]
    else:
        # Ours can install into an environment that has none.
        has_own = (work.into / "bin" / "pip").exists()
        pip = [python, "-m", "pip"] if has_own else [sys.executable, "-m", "pip", "--python", python]
        env, argv = {"PIP_NO_INPUT": "1"}, [*pip, "install", "--disable-pip-version-check", *words]
    work.run(argv, env, work.scratch)


def written(work: Work, number: int, layer: Sequence[Line]) -> list[str]:
    """The words for `install`, with the files that they name."""
    words, recipe = [], work.recipe
    lines = {"-r": [*recipe.options, *layer], "-c": recipe.constraints}
    for option, each in lines.items():
        if each:
            file = work.scratch / f"layer-{number}{option}.txt"
            file.write_text("".join(f"{line.text.format(_copied(work, line))}\n" for line in each), "utf-8")
            words += [option, str(file)]
    return words


def _copied(work: Work, line: Line) -> str:
    """A folder's copy without what is no source: building writes into it, and may not be allowed to where it is."""
    if "{}" in line.text and not line.text.startswith("-") and os.path.isdir(line.path):
        return sources.copy(Path(line.path), work.scratch / "sources")
    return line.path
