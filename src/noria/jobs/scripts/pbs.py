"""#PBS. Source: qsub(1B)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from noria.jobs.schedulers.pbs import seconds, size
from noria.jobs.scripts import Option, Table, divided, fields, getopt, moment, said, untold, whole

MARK = "#PBS"
_BARE = frozenset({"-h", "-V", "-I", "-f", "-z", "-X"})
KEPT_OUT = {
    "-o": "", "-e": "", "-j": "", "-k": "", "-R": "", "-f": "", "-z": "", "-r": "",
    "-I": "a job of Noria's is not interactive",
    "-X": "a job of Noria's is not interactive",
}  # fmt: skip
NAME, CWD, ARRAY = "-N", "", frozenset({"-J"})
TASK, SUBMITTED_FROM = "PBS_ARRAY_INDEX", "PBS_O_WORKDIR"


def options(words: Sequence[str]) -> list[Option]:
    found = getopt(words, {}, _BARE)
    for each in found:
        if each.name == "-W" and each.value.startswith("block"):
            raise each.refused(MARK, "it would keep qsub waiting", "Take it out, and use noria wait.")
    return found


def array(options: Sequence[Option]) -> str:
    return said(options, "-J")


def told(options: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
    known, left = fields(options, MARK, _FIELDS, given)
    for option in left:
        if option.name == "-l":
            known |= _resources(option)
        elif option.name == "-v":
            known["env"] = _variables(option)
        elif option.name == "-V":
            raise option.refused(MARK, "Noria passes variables by name", "Take it out, and say --env NAME.")
        elif not (option.name == "-S" and option.value.endswith("sh")):
            raise untold(option, MARK)
    return known


def _resources(option: Option) -> dict[str, Any]:
    """What one -l asks for; the whole job's of the old form is that of its one node."""
    known: dict[str, Any] = {}
    for part in option.value.split(","):
        name, _, value = part.partition("=")
        if name in ("select", "nodes"):
            known |= _chunks(option, value)
        elif name == "place" and {*value.split(":")} <= {"scatter", "pack", "free", "excl", "exclhost", "shared"}:
            known |= {"exclusive": True} if "excl" in value else {}
        else:
            known |= _resource(option, name, value)
    return known


def _chunks(option: Option, value: str) -> dict[str, Any]:
    """select=2:ncpus=8:mpiprocs=2:ngpus=1:mem=4gb, or nodes=2:ppn=8."""
    count, *parts = value.split(":")
    asked = dict(part.partition("=")[::2] for part in parts)
    nodes, cpus = whole(count), whole(asked.pop("ncpus", asked.get("ppn", "1")))
    tasks = whole(asked.pop("mpiprocs", asked.pop("ppn", "1")))
    asked.pop("ompthreads", None)
    if not nodes or not cpus or not tasks or "+" in value:  # chunks of several kinds
        raise untold(option, MARK)
    known = {"nodes": nodes, "tasks_per_node": tasks, "cpus": divided(option, MARK, cpus, tasks)}
    for name, amount in asked.items():
        known |= _resource(option, name, amount)
    return known


def _resource(option: Option, name: str, value: str) -> dict[str, Any]:
    makes = {
        "walltime": ("time", seconds),
        "mem": ("mem", size),
        "ngpus": ("gpus", whole),
        "gpus": ("gpus", whole),
        "ncpus": ("cpus", whole),
    }
    if name not in makes:
        raise untold(option, MARK)
    field, make = makes[name]
    made = make(value)
    if made is None:
        raise untold(option, MARK)
    return {field: made}


def _variables(option: Option) -> dict[str, str]:
    pairs = [part.partition("=") for part in option.value.split(",")]
    if not all(given for _, given, _ in pairs) or set("\"'") & set(option.value):
        raise option.refused(MARK, "Noria passes variables by name", "Say --env NAME or --env NAME=VALUE.")
    return {name: value for name, _, value in pairs}


_FIELDS: Table = {
    "-q": ("queue", str), "-A": ("account", str), "-P": ("account", str), "-p": ("priority", whole),
    "-a": ("begin", lambda text: moment(text, "%Y%m%d%H%M.%S", "%Y%m%d%H%M")),
}  # fmt: skip
