"""An entry point and what was given for it, as one command for a shell: checked, filled in and quoted as MLflow does it.

Values are quoted for the shell where they are filled in, and so they are logged, since MLflow logs them so.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from noria.errors import Invalid
from noria.projects.mlproject import Entry, Parameter

_NUMBERS = {"float", "double", "number"}
_WHOLE = {"int", "integer", "long"}
_LOCAL = ("", "file")
_SHELL = set("|&;<>()$`*?[]{}~#!\n\\")

Download = Callable[[str, int], str]
"""Fetches what a URI leads to, for the parameter at this place, and says where it is."""


class Filled(Struct, frozen=True):
    """A command, and the parameters as they are logged. values: what was given or stands by default, unquoted, by name. reads: files and
    folders of this machine that parameters of type path name."""

    command: str
    logged: dict[str, str]
    values: dict[str, str]
    reads: list[str] = []


def given(texts: Sequence[str]) -> dict[str, str]:
    """NAME=VALUE as people write it."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise Invalid(f"-P {text} has no value.", "Write -P NAME=VALUE.")
        if name in found:
            raise Invalid(f"-P {name} was given twice.", "Give it once.")
        found[name] = value
    return found


def passed_on(entry: Entry, values: Mapping[str, object]) -> list[str]:
    """What to say of names that the entry point does not have: the program gets them, as it does from MLflow, but may not know them."""
    strange = [name for name in values if name not in entry.parameters] if entry.parameters else []
    close = {name: get_close_matches(name, list(entry.parameters), 1) for name in strange}
    return [
        f"{name} is no parameter of {entry.name}, so the program is given --{name}"
        + "".join(f"; did you mean {each}?" for each in close[name])
        for name in strange
    ]


def filled(
    entry: Entry, values: Mapping[str, object], here: Path, project: Path, download: Download, *, moved: bool = False
) -> Filled:  # fmt: skip
    """here: what paths that were given are relative to. Defaults may also be relative to the project. moved: the command runs on another
    machine, in a copy of the project, and of this machine sees nothing else.

    Raises Invalid for what is missing, what is no number, path or URI where one is asked for, and for a command that cannot be filled in.
    """
    _complete(entry, values)
    plain, used, reads = {}, {}, []
    for place, parameter in enumerate(entry.parameters.values()):
        is_given = parameter.name in values
        value = str(values[parameter.name]) if is_given else parameter.default or ""
        plain[parameter.name] = value
        if is_given:
            _check(parameter, value)
        used[parameter.name] = value
        if parameter.type == "path":
            used[parameter.name] = _path(parameter.name, value, (here,) if is_given else (here, project), download, place)
            reads.append(used[parameter.name])
            if moved:
                used[parameter.name] = _there(parameter.name, used[parameter.name], project)
        elif parameter.type == "uri" and not urlsplit(value).scheme:
            raise Invalid(
                f"Parameter {parameter.name} is {value!r}, which is no URI.", "Write one with its scheme, such as file:///data."
            )
    more = {name: str(value) for name, value in values.items() if name not in entry.parameters}
    words = [_formatted(entry, used), *(f"--{shlex.quote(name)} {shlex.quote(value)}" for name, value in more.items())]
    logged = {name: shlex.quote(value) for name, value in plain.items()} | {
        shlex.quote(n): shlex.quote(v) for n, v in more.items()
    }
    return Filled(" ".join(words), logged, {**plain, **more}, reads)


def _complete(entry: Entry, values: Mapping[str, object]) -> None:
    """Raise Invalid for what must be given and is not; what was given under nearly that name is the likely cause."""
    missing = [each.name for each in entry.parameters.values() if each.default is None and each.name not in values]
    if not missing:
        return
    close = get_close_matches(missing[0], [name for name in values if name not in entry.parameters], 1)
    cure = f"Did you mean it by -P {close[0]}=…?" if close else f"Write {' '.join(f'-P {name}=…' for name in missing)}."
    what = f"parameter{'s' * (len(missing) > 1)} {', '.join(missing)}"
    raise Invalid(f"The entry point {entry.name} needs the {what}.", cure)


def _check(parameter: Parameter, value: str) -> None:
    """Raise Invalid if a text is no number where one is asked for. Other types, and defaults, are the project's own."""
    if parameter.type in _NUMBERS and _float(value) is None:
        raise Invalid(
            f"Parameter {parameter.name} is {value!r}, which is no number.", f"Write one, such as -P {parameter.name}=0.1."
        )
    number = _float(value) if parameter.type in _WHOLE else 0.0
    if number is None or not math.isfinite(number) or number != int(number):
        raise Invalid(
            f"Parameter {parameter.name} is {value!r}, which is no whole number.", f"Write one, such as -P {parameter.name}=3."
        )


def _float(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


def _path(name: str, value: str, relative_to: Sequence[Path], download: Download, place: int) -> str:
    """Where it is on this machine, whole; what is elsewhere is downloaded."""
    parts = urlsplit(value)
    if parts.scheme not in _LOCAL:
        return download(value, place)
    path = unquote(parts.path) if parts.scheme else value
    for folder in relative_to:
        if (folder / path).exists():
            return os.path.abspath(folder / path)
    raise Invalid(
        f"Parameter {name} is {value!r}, and there is no such file or folder.", "Give its path from here, or a URI to download."
    )


def _there(name: str, path: str, project: Path) -> str:
    """The same path in the copy."""
    if not Path(path).is_relative_to(project.absolute()):
        raise Invalid(f"Parameter {name} is {path}, which is not in the project, and so not where it is to run.",
                      "Keep it in the project, or declare the parameter as a string and give the path there.")  # fmt: skip
    return os.path.relpath(path, project)


def _formatted(entry: Entry, used: Mapping[str, str]) -> str:
    try:
        return entry.command.format(**{name: shlex.quote(value) for name, value in used.items()})
    except (KeyError, IndexError) as error:
        name = error.args[0] if isinstance(error, KeyError) else ""
        raise Invalid(f"The command of the entry point {entry.name} has {{{name}}}, which is no parameter of it.",
                      "Add it to the parameters in MLproject; braces of the command's own are written twice.") from None  # fmt: skip
    except (ValueError, AttributeError) as error:
        raise Invalid(
            f"The command of the entry point {entry.name} cannot be filled in: {error}.", "Braces of its own are written twice."
        ) from None


def plain_words(command: str) -> list[str]:
    """The words of a command that has nothing for a shell to do but to divide them; [] of any other."""
    try:
        words = [] if set(command) & _SHELL else shlex.split(command)
    except ValueError:
        return []
    return words if words and "=" not in words[0] else []
