"""conda.yaml: packages of conda's, made by micromamba, mamba or conda. One that names only Python, pip and what pip installs needs none of
them, and is a virtual environment (conda: Creating an environment from an environment.yml file)."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.errors import Invalid, NoriaError
from noria.projects import virtual, yamls
from noria.projects.build import Need, Recipe, Work
from noria.projects.requirements import Wanted
from noria.projects.requirements import read as read_lines

FILES = ("conda.yaml", "conda.yml", "environment.yaml", "environment.yml")
_KEYS = ("name", "channels", "dependencies", "prefix", "variables", "platforms", "category")
_PIPS = ("pip", "setuptools", "wheel")


def read(need: Need) -> Recipe:
    file, folder = Path(need.file), Path(need.folder)
    found = yamls.read(file)
    yamls.known(file, found, _KEYS)
    packages, lines = _parted(file, found)
    wanted = read_lines(lines, folder if file.is_relative_to(folder) else file.parent, str(file))
    if found.get("variables") or (plain := _plain(packages)) is None:
        return _condas(found, packages, wanted)
    python, build = plain
    return virtual.recipe(python, [read_lines(build, folder, str(file)), wanted])


def _parted(file: Path, found: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """conda's packages, and pip's lines."""
    packages, lines = list[str](), list[str]()
    listed = found.get("dependencies") or []
    for each in listed if isinstance(listed, list) else [None]:
        if isinstance(each, str):
            packages.append(" ".join(each.split()))
        elif isinstance(each, dict) and [*each] == ["pip"]:
            lines += yamls.texts(file, each, "pip")
        else:
            raise Invalid(
                f"{file}: dependencies are no list of packages.", "Write '- NAME=VERSION' for each, and '- pip:' with a list."
            )
    return packages, lines


def _plain(packages: list[str]) -> tuple[str, list[str]] | None:
    """Python's specifiers and pip's lines, of packages that pip can install; None if conda must."""
    python, build = "", list[str]()
    for each in packages:
        found = re.fullmatch(r"(?:[\w./-]+::)?(python|pip|setuptools|wheel)\s*([<>=!~\d][\d.*,<>=!~\s]*)?", each)
        if not found:
            return None
        version = _specifiers(found[2] or "")
        if found[1] == "python":
            python = version
        else:
            build.append(found[1] + version)
    return python, build


def _specifiers(text: str) -> str:
    """conda's `=3.10` and `3.10` mean any 3.10 (conda: package match specifications); `==3.10` does too, for who writes it for Python."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    bare = [re.fullmatch(r"(={0,2})\s*([\d.]+?)(?:\.\*|\*)?", part) for part in parts]
    return ",".join(
        f"=={found[2].rstrip('.')}" + (".*" if found[1] != "==" or found[2].count(".") < 2 else "") if found else part
        for found, part in zip(bare, parts, strict=True)
    )


def _condas(found: Mapping[str, Any], packages: list[str], wanted: Wanted) -> Recipe:
    """The name and place that a file wants do not matter. The order of channels does."""
    recipe = virtual.recipe("", [wanted])
    said = {"channels": found.get("channels") or [], "dependencies": sorted(packages), "variables": found.get("variables") or {}}
    return Recipe(
        "", recipe.layers, recipe.constraints, recipe.options, {"conda": said, "indexes": recipe.content}, has_python=False
    )


def make(work: Work) -> None:
    content = work.recipe.content
    if not (isinstance(content, dict) and "conda" in content):
        _virtual(work)
        return
    program = _program()
    if program is None:
        others = [each for each in content["conda"]["dependencies"] if not re.match(r"(python|pip|setuptools|wheel)\b", each)]
        raise Invalid(f"{work.need.file} wants {', '.join(others[:3]) or 'variables'} of conda, and there is no micromamba, mamba or conda here.",
                      "Load its module or put it on the PATH; or write them below pip:, if PyPI has them.")  # fmt: skip
    _create(work, program, content["conda"])
    _pip(work)


def _virtual(work: Work) -> None:
    """With a Python that is here; if there is none of that version, conda can bring one."""
    try:
        work.python()
    except NoriaError:
        program = _program()
        if program is None:
            raise
        version = work.recipe.python.removeprefix("==").removesuffix(".*")
        _create(
            work,
            program,
            {"channels": ["conda-forge"], "dependencies": [f"python{'=' if version[:1].isdigit() else ''}{version}", "pip"]},
        )
        _pip(work)
    else:
        virtual.make(work)


def _create(work: Work, program: str, said: Mapping[str, Any]) -> None:
    work.report(f"making it with {os.path.basename(program)}, {len(said['dependencies'])} packages of conda's")
    file = work.scratch / "environment.yml"
    file.write_text(json.dumps({key: value for key, value in said.items() if value}))  # JSON is YAML.
    verb = ["create"] if os.path.basename(program) == "micromamba" else ["env", "create"]
    # Without a terminal they take what they would ask for as refused.
    env = {"CONDA_ALWAYS_YES": "true", "MAMBA_ALWAYS_YES": "true", "CONDA_PKGS_DIRS": os.environ.get("CONDA_PKGS_DIRS", "")}
    work.run([program, *verb, "--prefix", str(work.into), "--file", str(file)], {k: v for k, v in env.items() if v}, work.scratch)


def _pip(work: Work) -> None:
    for number, layer in enumerate(work.recipe.layers):
        if layer:
            virtual.install(work, virtual.uv(), virtual.written(work, number, layer))


def _program() -> str | None:
    home = os.environ.get("MLFLOW_CONDA_HOME")
    named = [f"{home}/bin/conda" if home else "", os.environ.get("MAMBA_EXE", ""), os.environ.get("CONDA_EXE", "")]
    found = [shutil.which(name) for name in ("micromamba", "mamba", "conda")]
    return next((each for each in (*found, *named) if each and os.access(each, os.X_OK)), None)


def interpreter(folder: Path) -> str:
    path = virtual.interpreter(folder)
    return path if os.path.exists(path) else ""


def manager(folder: Path) -> str:
    return "conda" if (folder / "conda-meta").is_dir() else "virtualenv"
