"""From what people write after `noria submit` to a JobSpec."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from noria import config
from noria.cli import units
from noria.errors import Invalid
from noria.jobs import launch, scripts
from noria.projects import code
from noria.types import JobSpec

_RECORDED = ("PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL",
             "NORIA_SYSTEM_METRICS_INTERVAL")  # fmt: skip
_LONGEST = 1 << 20
"""Characters of a job script; more is no script that a person wrote."""
_BESIDES = {"name", "experiment", "max_restarts", "env", "raw", "after"}
"""What may be said of a script that asks for its resources itself."""


class Asked(Struct, frozen=True):
    """A job, or an array of jobs, to submit. `task` is the variable by which a member knows its number."""

    spec: JobSpec
    members: list[int] = []
    task: str = "NORIA_TASK_ID"


def asked(command: Sequence[str], scheduler: str | None, flags: Mapping[str, Any], array: str) -> Asked:
    """flags: what was given, by the name of its flag, as it was written. Raises Invalid, naming the flag or the directive."""
    text = _script(command[0])
    owner = scripts.owner(text)
    if not owner:
        fields = _fields(flags, scheduler or "local")
        members, at_once = units.array(array) if array else ([], 0)
        base = {"scheduler": scheduler or "local", "cwd": os.getcwd(), "at_once": at_once}
        return Asked(JobSpec(list(command), **{**base, **fields}), members)
    return _of_script(command, text, owner, scheduler or owner, flags, array)


def _of_script(command: Sequence[str], text: str, owner: str, scheduler: str, flags: Mapping[str, Any], array: str) -> Asked:
    """A script goes to its own scheduler with its directives as they are, and to another one with what they mean."""
    fields, script, options = _fields(flags, scheduler), scripts.SCRIPTS.get(owner), scripts.read(text, owner)
    fields["env"] = {script.SUBMITTED_FROM: os.getcwd(), **fields["env"]}  # The agent, who submits it, is elsewhere.
    array = array or script.array(options)
    members, at_once = units.array(array) if array else ([], 0)
    base = {"scheduler": scheduler, "cwd": scripts.said(options, script.CWD) or os.getcwd(), "at_once": at_once, "script": text,
            "name": scripts.said(options, script.NAME) or Path(command[0]).name}  # fmt: skip
    if scheduler == owner:
        said = sorted({*flags} - _BESIDES)
        if said:
            flag = f"--{said[0].replace('_', '-')}"
            raise Invalid(
                f"{flag}: {command[0]} asks for itself with {script.MARK}.", "Change it there, or write the option after --raw."
            )
        fields["raw"] = [*scripts.kept(options, owner), *fields.get("raw", [])]
        return Asked(JobSpec(list(command), **{**base, **fields, "as_is": True}), members, script.TASK)
    told = scripts.translated(options, owner, fields)
    told["env"] = {**told.get("env", {}), **fields["env"]}
    return Asked(JobSpec(list(command), **{**base, **told}), members, script.TASK)


def _script(path: str) -> str:
    """The text of a file that may be a job script; "" if there is none that a person can read."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
    except (OSError, UnicodeDecodeError):
        return ""
    return text if len(text) <= _LONGEST else ""


def _fields(flags: Mapping[str, Any], scheduler: str) -> dict[str, Any]:
    """The flags as fields of a JobSpec."""
    profile = config.profile(scheduler)
    fields = {name: _READ[name](value) if name in _READ else value for name, value in flags.items() if name != "freeze"}
    if flags.get("freeze"):
        fields["code"] = code.freeze(Path.cwd(), config.load().folder / "code")
    if "gpus" in flags:
        fields["gpus"], fields["gpu_type"] = units.gpus(flags["gpus"], profile.gpus)
    launcher = {launch.KIND: fields.pop("launcher")} if "launcher" in fields else {}
    return {**fields, "env": {**environment(flags.get("env", ())), **launcher}, "site": profile.site}


def _raw(texts: Sequence[str]) -> list[str]:
    try:
        return [word for text in texts for word in shlex.split(text)]
    except ValueError as error:
        raise Invalid(f"--raw cannot be read: {error}.", "Quote it as in a shell, and once more for this shell.") from None


def environment(variables: Sequence[str]) -> dict[str, str]:
    """The environment that a job is given: what makes the same programs run, and what was asked for by name."""
    env = {name: os.environ[name] for name in _RECORDED if name in os.environ}
    for variable in variables:
        name, given, value = variable.partition("=")
        if not given and name not in os.environ:
            raise Invalid(f"--env {name}: there is no such variable here.", f"Write --env {name}=VALUE.")
        env[name] = value if given else os.environ[name]
    return env


_READ: dict[str, Callable[[Any], Any]] = {
    "mem": units.size, "time": units.seconds, "begin": units.moment, "raw": _raw,
    "after": lambda text: [name for name in text.split(",") if name],
}  # fmt: skip
