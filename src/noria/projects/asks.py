"""From what people write after `noria submit` to a JobSpec."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from noria import config, units
from noria.errors import Invalid
from noria.jobs import clusters, launch, scripts
from noria.jobs.clusters import Cluster
from noria.jobs.dialect import SCHEDULERS
from noria.projects import code, environments, packs
from noria.types import Environment, JobSpec

_LONGEST = 1 << 20
"""Characters of a job script; more is no script that a person wrote."""
_BESIDES = {"name", "experiment", "max_restarts", "env", "raw", "after", "retry", "total", "warn", "hang", "check_nodes"}
"""What may be said of a script that asks for its resources itself."""

_OTHERWISE = {"freeze", "image", "pack", "stage"}
"""Options that are no fields of a JobSpec."""

_LISTS = {"env", "raw", "stage"}
"""Options that are repeated."""

_TASKS = {"image", "pack", "stage"}
"""What is done for the tasks that Noria starts, and no others."""


class Asked(Struct, frozen=True):
    """A job, or an array of jobs, to submit. `task` is the variable by which a member knows its number."""

    spec: JobSpec
    members: list[int] = []
    task: str = "NORIA_TASK_ID"


def asked(command: Sequence[str], on: str | None, flags: Mapping[str, Any], array: str = "", folder: Path | None = None) -> Asked:
    """flags: what was given, by the name of its flag, as it was written. folder: where the command is given, if not here. Raises Invalid,
    naming the flag or the directive, also for what the scheduler cannot express."""
    found = _asked(command, on, flags, array, (folder or Path.cwd()).absolute())
    SCHEDULERS.get(found.spec.scheduler).check(found.spec)
    return found


def _asked(command: Sequence[str], on: str | None, flags: Mapping[str, Any], array: str, here: Path) -> Asked:
    text = _script(here / command[0])
    owner = scripts.owner(text)
    if owner:
        return _of_script(command, text, owner, clusters.named(on) if on else clusters.of(owner), flags, array, here)
    where = clusters.chosen(on)
    fields = _fields({**_usual(where), **flags}, where, here)
    members, at_once = units.array(array) if array else ([], 0)
    return Asked(JobSpec(list(command), **{"cwd": str(here), "at_once": at_once, **fields}), members)


def resources(on: str | None, flags: Mapping[str, Any]) -> JobSpec:
    """Where a job goes and what it asks for, without anything that it runs. Raises Invalid as `asked` does."""
    where = clusters.chosen(on)
    fields = _fields({**_usual(where), **flags}, where, None)
    return JobSpec([], **fields)


def told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Asks by the names of their options, from Python or JSON, as if they were written behind `noria submit`. Raises Invalid for others."""
    found = {name.replace("-", "_"): value for name, value in settings.items()}
    known = sorted({*_ASKABLE, *_READ, "env", "image", "stage", "pack"})
    for name in found:
        if name not in known:
            raise Invalid(f"There is no option '{name}' of a job.", f"It may be one of: {', '.join(known)}.")
    return {name: str(value) if name == "gpus" or (name in _READ and name != "raw") else [value] if name in _LISTS and isinstance(value, str) else value
            for name, value in found.items()}  # fmt: skip


def _of_script(
    command: Sequence[str], text: str, owner: str, where: Cluster, flags: Mapping[str, Any], array: str, here: Path
) -> Asked:
    """A script goes to its own scheduler with its directives as they are, and to another one with what they mean."""
    fields, script, options = _fields(flags, where, here), scripts.SCRIPTS.get(owner), scripts.read(text, owner)
    for flag in _TASKS & {*flags}:
        raise Invalid(f"--{flag}: {command[0]} starts its programs itself.", "Write it there.")
    # The agent, who submits it, is elsewhere; and this folder is not there at all for a cluster that gets the code alone.
    fields["env"] = {script.SUBMITTED_FROM: "." if where.is_elsewhere else str(here), **fields["env"]}
    array = array or script.array(options)
    members, at_once = units.array(array) if array else ([], 0)
    base = {"cwd": scripts.said(options, script.CWD) or str(here), "at_once": at_once, "script": text,
            "name": scripts.said(options, script.NAME) or Path(command[0]).name}  # fmt: skip
    if where.scheduler == owner:
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


def _script(path: Path) -> str:
    """The text of a file that may be a job script; "" if there is none that a person can read."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_LONGEST + 1)
    except (OSError, UnicodeDecodeError):
        return ""
    return text if len(text) <= _LONGEST else ""


def _usual(where: Cluster) -> dict[str, Any]:
    """What a profile asks for, as if it were written behind `noria submit`."""
    asked = {name.replace("-", "_"): value for name, value in where.profile.ask.items()}
    for name, value in asked.items():
        if name not in _ASKABLE:
            raise Invalid(f"[profiles.{where.name}] in noria.toml asks for '{name}', which `noria submit` has no option for.",
                          f"It may be one of: {', '.join(_ASKABLE)}.")  # fmt: skip
        usual = getattr(JobSpec([]), name, False)
        if name not in _READ and name != "gpus" and type(value) is not type(usual):
            raise Invalid(
                f"[profiles.{where.name}] in noria.toml has {name} = {value!r}.", f"Write it as {type(usual).__name__}."
            )
    return {name: str(value) if name in _READ or name == "gpus" else value for name, value in asked.items()}


def _fields(flags: Mapping[str, Any], where: Cluster, here: Path | None) -> dict[str, Any]:
    """The flags, and where they lead, as fields of a JobSpec. here: the folder whose code is run; None if that is other code."""
    profile = where.profile
    fields = {name: _READ[name](value) if name in _READ else value for name, value in flags.items() if name not in _OTHERWISE}
    if "stage" in flags:
        fields["stage"] = _stage(flags["stage"], here=not where.is_elsewhere)
    if here is not None and (flags.get("freeze") or where.is_elsewhere):
        fields["code"] = code.freeze(here, config.load().folder / "code")
    if "gpus" in flags:
        fields["gpus"], fields["gpu_type"] = units.gpus(flags["gpus"], profile.gpus)
    launcher = {launch.KIND: fields.pop("launcher")} if "launcher" in fields else {}
    active = _active(flags, where)
    place = {"scheduler": where.scheduler, "cluster": where.name if where.is_named else "", "variables": profile.variables,
             "agent": where.name if where.is_elsewhere else "", "site": profile.site,
             "home": "" if where.is_elsewhere else profile.home}  # fmt: skip
    # What makes the same programs run is another thing on another machine: there it is what logging in sets.
    recorded = {} if where.is_elsewhere else environments.recorded(os.environ, active)
    return {**fields, **place, "env": {**recorded, **variables(flags.get("env", ())), **launcher}, "environment": active}


def _active(flags: Mapping[str, Any], where: Cluster) -> Environment:
    """What is to be active on the nodes."""
    if where.is_elsewhere:
        if flags.get("pack"):
            raise Invalid(
                f"--pack: what is active here is no environment for {where.name}.",
                "Leave it out; `--env` and the login shell there count.",
            )
        return Environment(image=flags.get("image", ""))
    active = environments.active(os.environ, flags.get("image", ""))
    return structs.replace(active, packed=packs.packed(active, config.load().folder / "packs")) if flags.get("pack") else active


def _raw(texts: Sequence[str]) -> list[str]:
    try:
        return [word for text in texts for word in shlex.split(text)]
    except ValueError as error:
        raise Invalid(f"--raw cannot be read: {error}.", "Quote it as in a shell, and once more for this shell.") from None


def variables(wanted: Sequence[str]) -> dict[str, str]:
    """The variables that were asked for by name."""
    env = {}
    for variable in wanted:
        name, given, value = variable.partition("=")
        if not given and name not in os.environ:
            raise Invalid(f"--env {name}: there is no such variable here.", f"Write --env {name}=VALUE.")
        env[name] = value if given else os.environ[name]
    return env


_ASKABLE = ("account", "check_nodes", "constraint", "cpus", "exclude", "exclusive", "experiment", "freeze", "gpus", "max_restarts", "mem", "nice", "nodes", "priority", "qos",
            "queue", "reservation", "retry", "tasks_per_node", "time", "total")  # fmt: skip


def _stage(texts: Sequence[str], here: bool) -> dict[str, str]:
    """PATH[:NAME] as paths by name; a name is what a variable may be called. here: whether this machine sees them too."""
    found: dict[str, str] = {}
    for text in texts:
        path, colon, name = text.rpartition(":")
        if not colon or os.path.exists(text):
            path, name = text, re.sub(r"\W+", "_", Path(text).name.partition(".")[0])
        if here and not os.path.exists(path):
            raise Invalid(f"--stage {text}: there is no {path} here.", "Give a file or a folder that the nodes see too.")
        if not re.fullmatch(r"\w+", name, re.ASCII) or name.upper() in found:
            raise Invalid(
                f"--stage {text}: {name!r} is no name, or that of another.", "Write PATH:NAME, with letters and digits."
            )
        found[name.upper()] = os.path.abspath(path) if here else path
    return found


_READ: dict[str, Callable[[Any], Any]] = {
    "exclude": units.nodes, "mem": units.size, "time": units.seconds, "total": units.seconds, "warn": units.seconds, "hang": units.seconds, "begin": units.moment, "raw": _raw,
    "after": lambda text: [name for name in text.split(",") if name],
}  # fmt: skip
