"""Environments that a file describes: built once for what it says, kept, and used by every node and user that sees the folder."""

from __future__ import annotations

import hashlib
import os
import sysconfig
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import msgspec
from msgspec import Struct

from noria.errors import Invalid, Unavailable
from noria.projects import caches, claims, pythons, sources
from noria.projects.build import IMAGE, KINDS, ORDER, Builder, Line, Need, Python, Recipe, Work
from noria.projects.caches import Record
from noria.projects.tools import Tools
from noria.types import Environment

__all__ = ["Built", "Need", "build", "environment", "needed"]
_FORMAT = 1
"""Of what a digest is made of, and of how environments are built: another number builds them all anew."""


class Built(Struct, frozen=True):
    """An environment that can be used. folder: where it is, or an image's file. python: its interpreter; empty for an image.
    seconds: that this call took. cached: whether it was there. manager: virtualenv, conda or image: how it is made active.
    version: of Python. note: what is otherwise than the file says."""

    folder: str
    python: str
    kind: str
    digest: str
    seconds: float
    cached: bool
    manager: str = "virtualenv"
    version: str = ""
    note: str = ""


def environment(built: Built) -> Environment:
    """As jobs know it."""
    if built.manager == "image":
        return Environment(image=built.folder)
    return Environment(conda=built.folder) if built.manager == "conda" else Environment(virtualenv=built.folder)


def needed(folder: Path, file: str = "") -> Need | None:
    """What describes the environment of a project: the file that is named, else what its MLproject names, else the one that lies there.

    None if there is none. Raises Invalid for a file that is named and not there, or whose name says nothing, and for a broken MLproject.
    """
    folder = folder.absolute()
    if not os.access(folder, os.R_OK | os.X_OK) or not folder.is_dir():
        raise Invalid(f"There is no folder {folder} that you may read.", "Give the folder of a project.")
    if file:
        return _of_file(folder, file, "")
    named = _of_project(folder)
    if named is not None:
        return named
    there = ((kind, folder / name) for kind in _kinds() for name in KINDS.get(kind).FILES)
    return next((Need(kind, str(path), str(folder)) for kind, path in there if _describes(kind, path)), None)


def _describes(kind: str, path: Path) -> bool:
    if kind == "pyproject" and path.is_file():
        from noria.projects.build import pyproject

        return pyproject.describes(path)
    return path.is_file()


def _kinds() -> Iterable[str]:
    return (*ORDER, *(kind for kind in KINDS.own() if kind not in ORDER))


def _of_file(folder: Path, file: str, kind: str) -> Need:
    path = folder / file
    if not path.is_file():
        raise Invalid(f"There is no file {file} in {folder}.", "Give its path from there.")
    return Need(kind or _kind(path), str(path), str(folder))


def _kind(path: Path) -> str:
    """By its name, or by what files of that ending are."""
    for kind in _kinds():
        if path.name in KINDS.get(kind).FILES:
            return kind
    if path.suffix in (".yaml", ".yml"):
        from noria.projects import yamls

        return "conda" if {"channels", "name"} & {*yamls.read(path)} else "python_env"
    by_ending = {".txt": "requirements", ".in": "requirements", ".sif": "image", ".lock": "uv", ".toml": "pyproject"}
    if path.suffix not in by_ending:
        raise Invalid(
            f"{path} is no file that describes an environment.",
            "Use requirements.txt, python_env.yaml, conda.yaml, uv.lock or a .sif.",
        )
    return by_ending[path.suffix]


def _of_project(folder: Path) -> Need | None:
    """What an MLproject file names (mlflow: MLproject File)."""
    from noria.projects import yamls

    path = next((folder / name for name in sorted(os.listdir(folder)) if name.lower() == "mlproject"), None)
    project = yamls.read(path) if path is not None and path.is_file() else {}
    named = [key for key in ("python_env", "conda_env", "docker_env") if project.get(key)]
    if len(named) > 1:
        raise Invalid(f"{path} names {' and '.join(named)}, and a project has one environment.", "Take the others out.")
    if not named:
        return None
    value, key = project[named[0]], named[0]
    if key == "docker_env":
        image = value.get("image") if isinstance(value, dict) else None
        if not isinstance(image, str) or not image:
            raise Invalid(f"{path}: docker_env names no image.", "Write image: NAME below it.")
        return Need("image", str(folder / image) if image.endswith(".sif") else "", str(folder), image)
    if not isinstance(value, str):
        raise Invalid(
            f"{path}: {key} is no name of a file.", f"Write {key}: {'python_env' if key == 'python_env' else 'conda'}.yaml"
        )
    return _of_file(folder, value, {"python_env": "python_env", "conda_env": "conda"}[key])


def build(
    need: Need, cache: Path, report: Callable[[str], None], *, again: bool = False, watch: Callable[[str], None] = lambda line: None
) -> Built:  # fmt: skip
    """The environment, from the cache or built now. Two that ask for the same at once build it once.

    report: is told in a line what is being done. again: build it although it is there, for newer versions of what is not pinned.
    watch: is told what the tools print. Raises Invalid, or Unavailable if trying later may help, with the last words of the tool.
    """
    began = time.monotonic()
    builder = KINDS.get(need.kind)
    recipe = builder.read(need)
    if recipe.ready:
        return _image(need, recipe, began)
    minor = _minor(need, recipe) if recipe.has_python else ""
    digest, place = _digest(recipe, minor), caches.own(cache)
    before = caches.find(place, digest)
    if before is not None and not again:
        return _found(place, before, need, began)

    def another() -> Record | None:
        found = caches.find(place, digest)
        return found if found is not None and found.folder != (before.folder if before else "") else None

    try:
        with claims.claimed(place, digest, lambda: another() is not None, report) as claim:
            if claim is not None:
                caches.clear(place, digest, report)
                report(f"building the environment of {need.file or need.image}")
                made = _make(builder, need, recipe, minor, place, claim, Tools(place, claim.path.stem, need, watch), report)
                return _built(place, made, need, began, cached=False)
    except OSError as error:
        raise Unavailable(f"The environment of {need.file or need.image} cannot be kept in {place} ({error.strerror}).",
                          "Name another folder in NORIA_ENVIRONMENTS, or ask whose it is.") from None  # fmt: skip
    found = another()
    assert found is not None  # Or the claim would have been given.
    return _found(place, found, need, began)


def _minor(need: Need, recipe: Recipe) -> str:
    minor = pythons.minor(recipe.python)
    if not minor:
        raise Invalid(f"{need.file} wants Python {_worded(recipe.python)}, and here {_there()}.",
                      "Install it, as in `uv python install` or `pyenv install`, or load its module; or change the file.")  # fmt: skip
    return minor


def _worded(python: str) -> str:
    return python.removeprefix("==").removesuffix(".*")


def _there() -> str:
    found = pythons.here()
    return f"is {found[0]}" if len(found) == 1 else f"are {', '.join(found[:-1])} and {found[-1]}"


def _digest(recipe: Recipe, minor: str) -> str:
    """Of all that makes an environment what it is; where it was described and by whom is not in it."""

    def told(lines: Iterable[Line], content: Callable[[Path], str] = sources.digest) -> list[tuple[str, str]]:
        return [(line.text, content(Path(line.path)) if line.path else "") for line in lines]

    parts = (_FORMAT, recipe.python, minor, sysconfig.get_platform(), [told(each) for each in recipe.layers if each],
             told(recipe.constraints), told(recipe.options, sources.listing), recipe.content, [sources.digest(Path(each)) for each in recipe.sources])  # fmt: skip
    return hashlib.blake2b(msgspec.json.encode(parts, order="sorted"), digest_size=10).hexdigest()


def _make(
    builder: Builder, need: Need, recipe: Recipe, minor: str, place: Path, claim: claims.Claim, tools: Tools, report: Callable[[str], None]
) -> Record:  # fmt: skip
    """Build it in a folder of its claim's number, and let it be found."""
    began, digest = time.monotonic(), claim.path.name.split(".")[0]
    into, notes, chosen = place / claim.path.stem, list[str](), list[Python]()
    find = partial(_python, need, recipe, minor, place, chosen, notes)
    caches.remove(place, into)  # What somebody left who had this number before numbers were forgotten.
    try:
        with tools.scratch() as scratch:
            builder.make(Work(need, recipe, into, scratch, place, find, tools.run, report))
        interpreter, manager = builder.interpreter(into), builder.manager(into)
        record = Record(digest, need.kind, manager, into.name, interpreter, tools.version(interpreter), need.file or need.image,
                        caches.whose(), int(time.time() * 1000), time.monotonic() - began, caches.open_up(place, into),
                        caches.count(into), "; ".join(notes))  # fmt: skip
        if not claim.stands():  # This process was stopped for so long that another has followed it.
            raise Unavailable(
                f"The environment of {need.file or need.image} is being built by another process.", "Ask for it again."
            )
        caches.publish(place, record)
    except BaseException:
        caches.remove(place, into)
        raise
    for note in notes:
        report(note)
    tools.done()
    return record


def _python(need: Need, recipe: Recipe, minor: str, place: Path, chosen: list[Python], notes: list[str]) -> Python:
    """The interpreter, found once. What is not as the file says goes to the notes."""
    from packaging.specifiers import SpecifierSet

    if not chosen:
        found = pythons.find(recipe.python, minor, place, caches.is_a_groups(place))
        if found is None:
            raise Invalid(f"{need.file} wants Python {_worded(recipe.python) or minor}, and here {_there()}.",
                          f"Install it: uv python install {minor}, pyenv install {minor}, or load its module.")  # fmt: skip
        chosen.append(found)
        if not SpecifierSet(recipe.python).contains(found.version):
            notes.append(f"Python {found.version} is taken for {_worded(recipe.python)}, which is not here")
        if caches.is_a_groups(place) and not pythons.reachable(found.path):
            notes.append(f"only you can start {found.path}, so other users cannot use this environment")
    return chosen[0]


def _image(need: Need, recipe: Recipe, began: float) -> Built:
    digest = hashlib.blake2b(msgspec.json.encode(recipe.content), digest_size=10).hexdigest()
    return Built(recipe.ready, "", need.kind, digest, time.monotonic() - began, True, "image")


def _found(place: Path, record: Record, need: Need, began: float) -> Built:
    caches.use(place, record)
    return _built(place, record, need, began, cached=True)


def _built(place: Path, record: Record, need: Need, began: float, *, cached: bool) -> Built:
    folder = place / record.folder
    where = str(folder / IMAGE if record.manager == "image" else folder)
    return Built(where, record.python, need.kind, record.digest, time.monotonic() - began, cached, record.manager,
                 record.version, record.note)  # fmt: skip
