"""On a node: make active again what was active where the job was submitted, and put tasks into an image."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from noria.errors import Unavailable
from noria.process import Answer
from noria.types import Environment, JobSpec

_MARK = "\0noria\0"
_SHELL = r"""
if [ -n "$NORIA_MODULES" ]; then
  for home in "$MODULESHOME" /usr/share/modules /usr/share/lmod/lmod; do
    if [ -r "$home/init/bash" ]; then . "$home/init/bash"; break; fi
  done
  command -v module >/dev/null || { echo "there is no module command; looked in $MODULESHOME" >&2; exit 1; }
  module purge >/dev/null 2>&1
  module load $NORIA_MODULES || exit 1
  for each in $NORIA_MODULES; do
    case ":$LOADEDMODULES:" in *":$each:"*) ;; *) echo "$each was not loaded" >&2; exit 1;; esac
  done
fi
for each in "$NORIA_CONDA"/etc/conda/activate.d/*.sh; do
  if [ -n "$NORIA_CONDA" ] && [ -r "$each" ]; then . "$each"; fi
done
printf '\0noria\0'
exec env -0
"""
"""Old releases of the module command answer 0 whatever happened, so that the list of what is loaded is looked at as well. A conda
environment is its folder, and scripts of its packages that set what they need (conda: `conda activate`)."""
_OWN = ("NORIA_MODULES", "NORIA_CONDA", "_", "SHLVL", "PWD", "OLDPWD")
_WAIT = 120.0

Run = Callable[[Sequence[str], Mapping[str, str]], Answer]


def activated(spec: JobSpec, env: Mapping[str, str], given: Mapping[str, str], run: Run) -> dict[str, str]:
    """What activation sets, for a task whose environment would be `env`; `given` of it is the job's own, and stands, but for paths.

    Raises Unavailable, with the site's own words, where this cannot be had on this node.
    """
    wanted = spec.environment
    _there(spec)
    named = {name: value for name, value in (("VIRTUAL_ENV", wanted.virtualenv), ("CONDA_PREFIX", wanted.conda)) if value}
    if wanted.conda:
        named["CONDA_DEFAULT_ENV"] = os.path.basename(wanted.conda)
    changed = _sourced(wanted, {**env, **named}, run) if wanted.modules or _scripts(wanted.conda) else {}
    if "PATH" in changed:
        changed["PATH"] = _in_front(wanted, given.get("PATH", ""), changed["PATH"])
    return {name: value for name, value in {**named, **changed}.items() if name not in given or name.endswith("PATH")}


def _there(spec: JobSpec) -> None:
    """A program that is named without a folder must not be another one, just because the right one's folder is not on this node."""
    for what, folder in (("virtual environment", spec.environment.virtualenv), ("conda environment", spec.environment.conda)):
        first = spec.env.get("PATH", "").split(os.pathsep)[0]
        if folder and first == f"{folder}/bin" and os.sep not in spec.command[0] and not os.path.isdir(folder):
            raise Unavailable(f"{socket.gethostname()} has no {folder}, the {what} of this job.",
                              "Keep it in a folder that the nodes see.")  # fmt: skip


def _scripts(conda: str) -> bool:
    return bool(conda) and any(Path(conda).glob("etc/conda/activate.d/*.sh"))


def _sourced(wanted: Environment, env: Mapping[str, str], run: Run) -> dict[str, str]:
    """What a shell's variables are, that were not, after it has loaded the modules and read conda's scripts."""
    ours = {"NORIA_MODULES": " ".join(wanted.modules), "NORIA_CONDA": wanted.conda}
    answer = run(["bash", "--norc", "--noprofile", "-c", _SHELL], {**env, **ours})
    _, done, said = answer.out.rpartition(_MARK)
    if answer.code or not done:
        what = f"modules {ours['NORIA_MODULES']}" if wanted.modules else wanted.conda
        words = " ".join(answer.err.split())[:200] or f"the shell ended with {answer.code}"
        raise Unavailable(
            f"{what} cannot be loaded on {socket.gethostname()}: {words}", "`module avail` there lists what it has."
        )
    after = dict(pair.split("=", 1) for pair in said.split("\0") if "=" in pair)
    return {name: value for name, value in after.items() if env.get(name) != value and name not in _OWN}


def _in_front(wanted: Environment, before: str, after: str) -> str:
    """PATH with the environments' programs before the modules', in the order in which they were."""
    bins = {f"{folder}/bin" for folder in (wanted.virtualenv, wanted.conda) if folder}
    first = [each for each in before.split(os.pathsep) if each in bins]
    return os.pathsep.join(dict.fromkeys([*first, *after.split(os.pathsep)]))


def contained(spec: JobSpec, env: Mapping[str, str], seen: Sequence[str]) -> list[str]:
    """The command of a task, in its image where it has one. seen: what it is to see there, besides its home and /tmp.

    Apptainer keeps the environment but for PATH and LD_LIBRARY_PATH, which are the image's, and the process group, so that signals
    arrive (apptainer exec). Raises Unavailable if that is not installed on this node.
    """
    image = spec.environment.image
    if not image:
        return list(spec.command)
    program = next((found for name in ("apptainer", "singularity") if (found := shutil.which(name, path=env.get("PATH")))), None)
    if program is None:
        raise Unavailable(
            f"{socket.gethostname()} has no apptainer, which --image needs.", "Load its module before you submit, if it is one."
        )
    if not os.path.exists(image):
        raise Unavailable(f"{socket.gethostname()} has no {image}.", "Keep the image in a folder that the nodes see.")
    gpus = ["--rocm" if os.path.exists("/dev/kfd") else "--nv"] if spec.gpus else []
    binds = [word for path in dict.fromkeys(seen) if path and os.path.exists(path) for word in ("--bind", path)]
    return [program, "exec", *gpus, *binds, "--pwd", spec.cwd or "/", image, *spec.command]
