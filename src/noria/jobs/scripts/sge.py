"""#$, of Grid Engine. Source: qsub(1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from noria.jobs.schedulers.pbs import seconds
from noria.jobs.schedulers.sge import COMPLEXES, size
from noria.jobs.scripts import Option, Table, fields, moment, said, untold, whole

MARK = "#$"
_NO_VALUE = {"-cwd", "-V", "-notify", "-h", "-soft", "-hard", "-terse", "-verify"}
KEPT_OUT = {
    "-o": "", "-e": "", "-j": "", "-cwd": "", "-terse": "", "-S": "", "-r": "",
    "-sync": "it would keep qsub waiting; use noria wait",
    "-verify": "nothing would be submitted; use --dry-run",
}  # fmt: skip
NAME, CWD, ARRAY = "-N", "-wd", frozenset({"-t", "-tc"})
TASK, SUBMITTED_FROM = "SGE_TASK_ID", "SGE_O_WORKDIR"


def options(words: Sequence[str]) -> list[Option]:
    """Its options are words with one dash, and -pe takes two values."""
    left, found = list(words), []
    while left:
        name = left.pop(0)
        count = 0 if name in _NO_VALUE else 2 if name == "-pe" else 1
        values, left = left[:count], left[count:]
        found.append(Option([name, *values], name, " ".join(values)))
    return found


def array(options: Sequence[Option]) -> str:
    at_once = said(options, "-tc")
    return said(options, "-t") + (f"%{at_once}" if at_once else "")


def told(options: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    known, left = fields(options, MARK, _FIELDS, given)
    shape = {"nodes", "tasks_per_node", "cpus"} & {*given}
    slots = given.get("tasks_per_node", 1) * given.get("cpus", 1)
    for option in left:
        if option.name == "-pe" and not shape:
            raise option.refused(
                MARK, "what it gives is known at its own cluster alone", "Say --nodes, --tasks-per-node and --cpus."
            )
        if option.name == "-l":
            for part in option.value.split(","):
                known |= _resource(option, part, slots)
        elif option.name == "-V":
            raise option.refused(MARK, "Noria passes variables by name", "Take it out, and say --env NAME.")
        elif option.name not in ("-pe", "-notify"):
            raise untold(option, MARK)
    return known


def _resource(option: Option, part: str, slots: int) -> dict[str, Any]:
    """One of -l, which is asked for each slot."""
    name, _, value = part.partition("=")
    if name == "h_rt" and seconds(value):
        return {"time": seconds(value)}
    if name in COMPLEXES["gpu"] and re.fullmatch(r"\d+(\.\d+)?", value):
        return {"gpus": round(float(value) * slots)}
    if name in COMPLEXES["mem"] and size(value.upper()):
        return {"mem": size(value.upper()) * slots}
    if name in COMPLEXES["gpu_type"] and value:
        return {"gpu_type": value}
    raise untold(option, MARK)


_FIELDS: Table = {
    "-q": ("queue", str), "-P": ("account", str), "-ar": ("reservation", str), "-p": ("priority", whole),
    "-a": ("begin", lambda text: moment(text, "%Y%m%d%H%M.%S", "%Y%m%d%H%M")),
}  # fmt: skip
