"""#SBATCH. Source: sbatch(1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from noria.jobs.schedulers.slurm import seconds
from noria.jobs.scripts import Option, Table, divided, fields, getopt, moment, said, untold, whole

MARK = "#SBATCH"
_LONG = {
    "-A": "--account", "-a": "--array", "-b": "--begin", "-C": "--constraint", "-c": "--cpus-per-task", "-D": "--chdir", "-d": "--dependency",
    "-e": "--error", "-G": "--gpus", "-J": "--job-name", "-N": "--nodes", "-n": "--ntasks", "-o": "--output", "-p": "--partition",
    "-q": "--qos", "-t": "--time", "-W": "--wait", "-w": "--nodelist", "-x": "--exclude", "-H": "--hold", "-s": "--oversubscribe",
    "-O": "--overcommit", "-Q": "--quiet", "--workdir": "--chdir",
}  # fmt: skip
_BARE = frozenset({"--exclusive", "--nice", "--requeue", "--no-requeue", "--wait", "--parsable", "--hold", "--oversubscribe",
                   "--overcommit", "--quiet", "--contiguous", "--spread-job", "--test-only", "--verbose", "-v"})  # fmt: skip
KEPT_OUT = {
    "--output": "", "--error": "", "--open-mode": "", "--parsable": "", "--requeue": "", "--no-requeue": "",
    "--wait": "it would keep sbatch waiting; use noria wait",
    "--test-only": "nothing would be submitted; use --dry-run",
    "--comment": "by the comment Noria finds its jobs again",
    "--wrap": "it is for sbatch's command line",
}  # fmt: skip
NAME, CWD, ARRAY = "--job-name", "--chdir", frozenset({"--array"})
TASK, SUBMITTED_FROM = "SLURM_ARRAY_TASK_ID", "SLURM_SUBMIT_DIR"


def options(words: Sequence[str]) -> list[Option]:
    found = getopt(words, _LONG, _BARE)
    return [Option(each.words, _LONG.get(each.name, each.name), each.value) for each in found]


def array(options: Sequence[Option]) -> str:
    return said(options, "--array")


def told(options: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    known, left = fields(options, MARK, _FIELDS, given)
    nodes = {**known, **given}.get("nodes", 1)
    for option in left:  # How many tasks there are, before what is asked for each of them.
        if option.name == "--ntasks" and not {"tasks_per_node"} & {*known, *given}:
            known["tasks_per_node"] = divided(option, MARK, _whole(option), nodes)
    sizes = {"tasks_per_node": 1, "cpus": 1, **known, **given}
    for option in left:
        if option.name in _GPUS and "gpus" not in given:
            known |= _gpus(option, nodes, sizes["tasks_per_node"])
        elif option.name == "--mem-per-cpu" and "mem" not in given:
            known["mem"] = (size(option.value) or _no(option)) * sizes["tasks_per_node"] * sizes["cpus"]
        elif option.name == "--export" and option.value not in ("ALL", "NONE"):
            raise option.refused(MARK, "Noria passes variables by name", "Say --env NAME or --env NAME=VALUE.")
        elif option.name not in (*_GPUS, "--ntasks", "--mem-per-cpu", "--export"):
            raise untold(option, MARK)
    return known


def _gpus(option: Option, nodes: int, tasks: int) -> dict[str, Any]:
    """--gres=gpu:a100:4 and its kin, as GPUs of one node."""
    found = re.fullmatch(r"(?:gpu:)?(?:([A-Za-z][^:,()]*):)?(\d+)" if option.name != "--gres" else r"gpu(?::([A-Za-z][^:,()]*))?(?::(\d+))?",
                         option.value)  # fmt: skip
    if not found:
        raise untold(option, MARK)
    count = int(found[2] or 1)
    each = {"--gpus": lambda: divided(option, MARK, count, nodes), "--gpus-per-task": lambda: count * tasks}
    return {"gpus": each.get(option.name, lambda: count)(), "gpu_type": found[1] or ""}


def size(text: str) -> int | None:
    """Slurm's memory, in MiB unless it says otherwise, in bytes. 0, which is all of a node's memory, has no other name."""
    found = re.fullmatch(r"(\d+)([KMGT]?)B?", text.upper())
    return int(found[1]) * 1024 ** (1 + "KMGT".index(found[2] or "M")) or None if found else None


def _whole(option: Option) -> int:
    value = whole(option.value)
    return _no(option) if value is None else value


def _no(option: Option) -> int:
    raise untold(option, MARK)


_GPUS = ("--gres", "--gpus", "--gpus-per-node", "--gpus-per-task")
_FIELDS: Table = {
    "--nodes": ("nodes", whole), "--ntasks-per-node": ("tasks_per_node", whole), "--cpus-per-task": ("cpus", whole),
    "--time": ("time", seconds), "--mem": ("mem", size), "--partition": ("queue", str), "--account": ("account", str),
    "--qos": ("qos", str), "--constraint": ("constraint", str), "--reservation": ("reservation", str),
    "--nice": ("nice", lambda text: whole(text or "100")), "--priority": ("priority", whole),
    "--exclusive": ("exclusive", lambda text: None if text else True),
    "--begin": ("begin", lambda text: moment(text, "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d")),
}  # fmt: skip
