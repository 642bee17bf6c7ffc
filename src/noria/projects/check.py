"""A look at a program before it waits for hours: does its Python find it, does it compile, and are its modules there?"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from noria import process
from noria.errors import Invalid
from noria.types import JobSpec

_PYTHON = re.compile(r"(python|pypy)[\d.]*t?$")
_VALUED = ("-W", "-X", "--check-hash-based-pycs")
_WAIT = 1.0
"""Seconds; a Python that needs longer to answer is not waited for."""
PASS = "--no-check submits it all the same."  # noqa: S105 (no password)


class Program(Struct, frozen=True):
    """What an interpreter is told to run: kind is script, module or code. options: those of the interpreter before it."""

    python: str
    options: list[str]
    kind: str
    what: str


def check(spec: JobSpec) -> None:
    """Raise Invalid where the program cannot run as it is here. What cannot be judged from here passes: other commands than Python's,
    images, job scripts, another machine, and a Python that does not answer at once."""
    asked = None if spec.script or spec.agent or spec.environment.image else program(spec.command)
    python = asked and shutil.which(asked.python, path=spec.env.get("PATH", os.defpath))
    if not asked or not python:
        return
    if asked.kind == "script" and not (Path(spec.cwd) / asked.what).is_file():
        raise Invalid(f"There is no file {asked.what} in {spec.cwd}.", f"Give its path from here. {PASS}")
    text = (Path(__file__).parent / "questions.py").read_text()
    env = _env(spec)
    said = process.run([python, *asked.options, "-c", text, asked.kind, asked.what], env=env, cwd=spec.cwd or None, timeout=_WAIT)
    if said.code == 0 and said.out.count("\t") == 3:
        raise _told(said.out.rstrip("\n").split("\t"), asked.python if os.sep in asked.python else python)


def _env(spec: JobSpec) -> Mapping[str, str]:
    """The job's own variables: nothing that is only set in this shell may help."""
    return {name: value for name in ("HOME", "TMPDIR") if (value := os.environ.get(name))} | spec.env


def _told(answer: Sequence[str], python: str) -> Invalid:
    file, line, what, kind = answer
    where = "" if file == "-m" else f"{file} line {line}: "
    if kind == "syntax":
        return Invalid(f"{where}{what.rstrip('.')}.", f"Mend it there. {PASS}")
    return Invalid(f"{where}there is no module {what} for {python}",
                   f"Install it there, or activate the environment that has it. {PASS}")  # fmt: skip


def program(command: Sequence[str]) -> Program | None:
    """What a command has Python run (Python: Command line and environment); None if that is not plain."""
    words = list(command)
    if not _PYTHON.match(os.path.basename(words[0])):
        words = [*_shebang(words[0]), *words]
        if not _PYTHON.match(os.path.basename(words[0])):
            return None
    at = 1
    while at < len(words) and words[at].startswith("-"):
        word = words[at]
        if word in ("-m", "-c") and at + 1 < len(words):
            return Program(words[0], words[1:at], "module" if word == "-m" else "code", words[at + 1])
        if not re.fullmatch(r"-[bBdEIOPqRsSuvx]+|-[WX].+|-[WX]|--check-hash-based-pycs(=.*)?", word):
            return None
        at += 1 + (word in _VALUED)
    return Program(words[0], words[1:at], "script", words[at]) if at < len(words) else None


def _shebang(path: str) -> list[str]:
    """The interpreter that a file names, `/usr/bin/env` left out."""
    try:
        with open(path, "rb") as file:
            first = file.readline(200) if os.sep in path and path.endswith(".py") else b""
    except OSError:
        return ["-"]
    words = shlex.split(first[2:].decode(errors="replace")) if first.startswith(b"#!") else []
    return (words[1:] if words and os.path.basename(words[0]) == "env" else words) or ["-"]
