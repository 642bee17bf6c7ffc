"""Which Python an environment gets: of those that are here, the one that its file wants, or one of the same minor version."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from noria import process
from noria.errors import Invalid
from noria.projects.build import Python

RUNNING = f"{sys.version_info[0]}.{sys.version_info[1]}"
_NEWEST = 30
"""Minor versions that are tried for a range."""
_ASKED = "import importlib.util as u, sys; print(getattr(sys, '_base_executable', '') or sys.executable, '.'.join(map(str, sys.version_info[:3])), u.find_spec('ensurepip') is not None, sep='\\t')"


def pinned(version: str, where: str) -> str:
    """`3`, `3.11`, `3.11.*` or `3.11.7` as specifiers. Raises Invalid for anything else."""
    found = re.fullmatch(r"(?:cpython-|=+|v)?\s*(\d+(?:\.\d+)*)(\.\*)?", version.strip())
    if not found or not found[1].startswith("3"):
        raise Invalid(f"{where}: '{version}' is no version of Python 3.", "Write it as in 3.11 or 3.11.7.")
    return f"=={found[1]}" if found[1].count(".") >= 2 else f"=={found[1]}.*"


def minor(wanted: str, env: Mapping[str, str] = os.environ) -> str:
    """The minor version for these specifiers: the running one if they allow it, else the newest that is here, else the newest that
    they allow; "" if they allow none. No process is started."""
    if not wanted or _allows(wanted, RUNNING):
        return RUNNING
    allowed = [each for each in (f"3.{number}" for number in range(_NEWEST, 5, -1)) if _allows(wanted, each)]
    return next((each for each in allowed if any(_places(each, env))), allowed[0] if len(allowed) == 1 else "")


def _allows(wanted: str, of_minor: str) -> bool:
    """Whether any release of a minor version is meant: which patch it is hardly ever matters, and is said where another is taken."""
    from packaging.specifiers import SpecifierSet

    specifiers = SpecifierSet(wanted)
    patches = {found for each in specifiers if (found := re.match(rf"{re.escape(of_minor)}\.(\d+)", each.version))}
    return any(specifiers.contains(f"{of_minor}.{patch}") for patch in {*range(25), *(int(each[1]) for each in patches)})


def find(wanted: str, of_minor: str, cache: Path, shared: bool, env: Mapping[str, str] = os.environ) -> Python | None:
    """The interpreter: one of the very patch version if it is here, and before that one that every user
    may start, if the environment is others' too."""
    from packaging.specifiers import SpecifierSet

    found, best = None, (-1, -1)
    for path in _places(of_minor, env, cache):
        python = _asked(path, of_minor)
        if python is None:
            continue
        score = (int(not shared or reachable(python.path)), int(SpecifierSet(wanted).contains(python.version)))
        if score > best:
            found, best = python, score
        if best == (1, 1):
            break
    return found


def here(env: Mapping[str, str] = os.environ) -> list[str]:
    """The minor versions that are on this machine, for a person."""
    return [each for each in (f"3.{number}" for number in range(6, _NEWEST)) if each == RUNNING or any(_places(each, env))]


def _asked(path: str, of_minor: str) -> Python | None:
    """What it says of itself; None for what is no Python of that version, such as pyenv's shims of those that are not active."""
    said = process.run([path, "-I", "-c", _ASKED], timeout=20)
    words = said.out.strip().split("\t")
    if said.code or len(words) != 3 or not words[1].startswith(f"{of_minor}."):
        return None
    base = words[0] if os.access(words[0], os.X_OK) else path
    return Python(base, words[1], words[2] == "True")


def _places(of_minor: str, env: Mapping[str, str], cache: Path | None = None) -> Iterator[str]:
    """Where it may be, without asking it."""
    if of_minor == RUNNING:
        yield sys.executable
    seen = {sys.executable}
    for folder in _folders(of_minor, env, cache):
        path = os.path.join(folder, f"python{of_minor}")
        if path not in seen and os.access(path, os.X_OK):
            seen.add(path)
            yield path


def _folders(of_minor: str, env: Mapping[str, str], cache: Path | None) -> Iterator[str]:
    home = env.get("HOME") or os.path.expanduser("~")
    yield from (each for each in env.get("PATH", os.defpath).split(os.pathsep) if each and not each.endswith("/shims"))
    yield from ("/usr/local/bin", "/usr/bin", "/opt/homebrew/bin")
    yield from _inside(Path(env.get("PYENV_ROOT") or f"{home}/.pyenv") / "versions", f"{of_minor}.*")
    managed = [env.get("UV_PYTHON_INSTALL_DIR"), f"{env.get('XDG_DATA_HOME') or home + '/.local/share'}/uv/python"]
    for folder in (cache / "pythons" if cache else None, *managed):
        yield from _inside(Path(folder), f"cpython-{of_minor}.*") if folder else ()
    conda = env.get("CONDA_EXE") or shutil.which("conda", path=env.get("PATH")) or ""
    for root in (env.get("MAMBA_ROOT_PREFIX"), str(Path(conda).resolve().parent.parent) if conda else None):
        if root:
            yield f"{root}/bin"
            yield from _inside(Path(root) / "envs", "*")


def _inside(folder: Path, pattern: str) -> list[str]:
    """Newest first."""
    try:
        found = [str(each / "bin") for each in folder.glob(pattern)]
    except OSError:  # Another user's home.
        return []
    return sorted(found, key=lambda path: [int(number) for number in re.findall(r"\d+", path)], reverse=True)


def reachable(path: str) -> bool:
    """Whether every user may start this program."""
    try:
        real = Path(path).resolve()
        return all(each.stat().st_mode & 0o001 for each in (real, *real.parents))
    except OSError:
        return False
