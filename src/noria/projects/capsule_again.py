"""From a capsule to the job that does its run again. Pure but for looks at files that must be there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

from msgspec import structs

from noria.errors import Invalid, NotFound
from noria.projects.capsule import Capsule, Software
from noria.projects.capsule_diff import Set
from noria.projects.capsule_secrets import MASK
from noria.types import Code, JobSpec

_PATHS = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")
_ELSEWHERE = (
    "queue",
    "account",
    "qos",
    "constraint",
    "reservation",
    "exclude",
    "raw",
    "site",
    "gpu_type",
    "variables",
    "priority",
    "nice",
)
"""What one scheduler calls things, and another does not know."""


def spec(found: Capsule, name: str, experiment: str, env: Mapping[str, str], frozen: Code | None) -> JobSpec:
    """env: of this shell, for a script, whose own was not kept. frozen: None to run the code as it is now. Raises Invalid for what nobody can do again."""
    command = _command(found)
    if found.spec is not None:
        told = structs.replace(found.spec, command=command, after=[], begin=0, at_once=0, site={}, code=None, name=name)
        if told.script:
            return structs.replace(told, cwd=found.cwd, code=frozen)
    else:
        threads = str(found.threads or found.hardware.cpus)
        kept = {"OMP_NUM_THREADS": threads, **{key: value for key, value in found.variables.items() if key != "VIRTUAL_ENV"}}
        told = JobSpec(command, name, cpus=max(found.hardware.cpus, 1), cwd=found.cwd, env={**env, **kept}, experiment=experiment)
    if frozen is None:
        return structs.replace(told, cwd=found.cwd)
    root, place = found.code.root, os.path.join(found.code.root, found.code.inside)
    moved = {key: _relative_list(value, root, place) if key in _PATHS else value for key, value in told.env.items()}
    return structs.replace(
        told, command=[_relative(word, root, place) for word in command], env=moved, cwd=found.cwd, code=frozen
    )


def _command(found: Capsule) -> list[str]:
    words, which = found.command, f"Run {found.run_id[:8]}"
    if found.masked or any(MASK in word for word in words):
        raise Invalid(f"{which} was given what may be a secret on its command line, and that was not kept.", "Submit it anew.")
    rest = words[1:]
    if found.kind == "script" and (not rest or rest[0] in ("-", "-i") or any("ipykernel" in word for word in rest[:3])):
        raise Invalid(
            f"{which} was typed into a notebook or a prompt: there is no command to give again.",
            "Put it into a file, and run that.",
        )
    return list(words)


def _relative(word: str, root: str, place: str) -> str:
    """A path in the code as it is in a copy of it, seen from where the command is given."""
    name, equals, value = word.partition("=")
    path = value if equals else word
    if not root or not path.startswith(f"{root}/"):
        return word
    return f"{name}{equals}{os.path.relpath(path, place)}" if equals else os.path.relpath(path, place)


def _relative_list(text: str, root: str, place: str) -> str:
    return ":".join(
        os.path.relpath(each, place) if each == root or each.startswith(f"{root}/") else each for each in text.split(":")
    )


def outside(found: Capsule) -> bool:
    """Whether the command was given outside of the code, so that a copy of it cannot be where the command is given."""
    return bool(found.code.root) and not Path(found.cwd).is_relative_to(found.code.root)


def pointed(told: JobSpec, found: Capsule, copy: str) -> JobSpec:
    """A job whose command is given where it was, and means a copy of the code."""

    def meant(word: str) -> str:
        path = os.path.normpath(os.path.join(found.cwd, word))
        return copy + path[len(found.code.root) :] if path.startswith(f"{found.code.root}/") else word

    lists = {key: ":".join(map(meant, value.split(":"))) if key in _PATHS else value for key, value in told.env.items()}
    return structs.replace(told, command=[told.command[0], *map(meant, told.command[1:])], env=lists, cwd=found.cwd, code=None)


def placed(told: JobSpec, scheduler: str, cluster: str, variables: Mapping[str, str], agent: str, home: str) -> JobSpec:
    """The same job somewhere else: what only its own scheduler understood is left out."""
    usual = JobSpec([])
    if scheduler != told.scheduler:
        told = structs.replace(told, **{name: getattr(usual, name) for name in _ELSEWHERE})
    return structs.replace(told, scheduler=scheduler, cluster=cluster, variables=dict(variables), agent=agent, home=home)


def put(command: Sequence[str], name: str, value: str) -> list[str] | None:
    """The command with another value for what it calls `name`: --name value, --name=value, or name=value. None if it does not."""
    words, found = list(command), False
    options = {f"{dash}{each}" for each in (name, name.replace("_", "-"), name.replace("-", "_")) for dash in ("--", "-")}
    for at, word in enumerate(command):
        before, equals, _ = word.partition("=")
        if equals and before.lstrip("-+") in {each.lstrip("-") for each in options}:
            words[at], found = f"{before}={value}", True
        elif word in options and at + 1 < len(command):
            words[at + 1], found = value, True
    return words if found else None


def with_parameters(told: JobSpec, wanted: Mapping[str, str], logged: Mapping[str, str]) -> JobSpec:
    """A job with other values for parameters; logged: those that the run has. Raises Invalid for one that the command has no place for."""
    command, env = list(told.command), dict(told.env)
    for name, value in wanted.items():
        changed = put(command, name, value)
        known = next((key for key in (name, name.upper()) if key in env), "")
        if changed is not None:
            command = changed
        elif known:
            env[known] = value
        elif _is_recipe(command):
            command += ["--set", f"{name}={value}"]
        elif name in logged:
            command.append(f"--{name.replace('_', '-')}={value}")
        else:
            raise Invalid(
                f"The command of this run has no '{name}' to change: {' '.join(command)[:200]}",
                "Parameters are changed on the command line, as --name value or name=value, in variables, and where the run logged one of this name.",
            )
    return structs.replace(told, command=command, env=env)


def _is_recipe(command: Sequence[str]) -> bool:
    """Whether it is `noria train …`, in any of its spellings."""
    return any(Path(one).name in ("noria", "noria.cli.main") and two == "train" for one, two in pairwise(command))


def must_have_data(found: Capsule, sets: Sequence[Set]) -> None:
    """Raises NotFound for data that the run named and that are gone."""
    # What the code names in its own folder may as well be what it writes.
    own = f"{found.code.root}/"
    named = [
        each.path
        for each in found.data
        if each.why in ("command", "variable") or (each.why == "code" and not each.path.startswith(own))
    ]
    named += [each.source for each in sets if each.source.startswith("/")]
    for path in dict.fromkeys(named):
        if not os.path.exists(path):
            raise NotFound(
                f"{path}, which run {found.run_id[:8]} read, is gone.", "Put it back; or go on without, by --no-check."
            )


def apart(locked: Software, present: Software) -> list[str]:
    """What is installed otherwise than it was, in words."""
    names = sorted({*locked.packages, *present.packages})
    pairs = ((name, locked.packages.get(name), present.packages.get(name)) for name in names)
    found = [
        f"{name} {a.version if a else '-'} -> {b.version if b else '-'}"
        for name, a, b in pairs
        if (a and a.version) != (b and b.version)
    ]
    return [*([f"Python {locked.version} -> {present.version}"] if locked.version != present.version else []), *found]


def requirements(locked: Software) -> tuple[str, list[str]]:
    """The packages as pip reads them, without labels of builds (torch 2.13.0+cpu): most indexes have none, and those that have put them first.
    And those that were installed from a folder, which nobody can install again as it was."""
    lines, folders = [], []
    for name, package in locked.packages.items():
        commit = package.source.removeprefix("editable ")
        if commit.startswith("git+") or _is_archive(package.source):
            lines.append(f"{name} @ {commit}")
        elif _is_folder(package.source):
            folders.append(name)
        else:
            lines.append(f"{name}=={package.version.partition('+')[0]}")
    return "".join(f"{line}\n" for line in lines), folders


def _is_archive(source: str) -> bool:
    """Whether it is a file that is still there, as far as can be told from here."""
    file = source.removeprefix("file://")
    return not _is_folder(source) and bool(source) and (file == source or os.path.exists(unquote(file)))


def _is_folder(source: str) -> bool:
    return source.startswith(("editable ", "file://")) and not source.endswith((".whl", ".zip", ".gz", ".bz2", ".xz", ".tar"))
