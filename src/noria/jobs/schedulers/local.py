"""This machine, without a scheduler: the queue of `noria.jobs.localq`."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from shlex import quote

import msgspec

from noria.errors import Invalid, Unavailable
from noria.jobs.dialect import Node, Other, Placement, Queue, Seen, Wait
from noria.jobs.idioms import refuse
from noria.jobs.localq import COMMAND, GPU_VARIABLE, machine, needs
from noria.process import Answer
from noria.types import Job, JobSpec

PROBE = ["true"]
QUEUES = [*COMMAND, "queues"]
NODES = [*COMMAND, "nodes"]
CROWD = ["true"]
STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
GRACE = 10.0


_ELSEWHERE = "Leave it out, or say --on with the cluster that has it."
REFUSED = {
    "queue": ("this machine has one queue", _ELSEWHERE),
    "account": ("this machine keeps no accounts", _ELSEWHERE),
    "qos": ("this machine has no quality of service", _ELSEWHERE),
    "constraint": ("this machine is one node", _ELSEWHERE),
    "exclude": ("this machine is one node", _ELSEWHERE),
    "reservation": ("this machine has no reservations", _ELSEWHERE),
    "gpu_type": ("this machine's queue gives GPUs away by number, not by type", "Write --gpus COUNT."),
    "raw": ("the local queue has no submit command of its own", _ELSEWHERE),
}


def learn(run: Callable[[Sequence[str]], Answer]) -> dict[str, str]:
    return {}


def check(spec: JobSpec) -> None:
    """Invalid, with the flag, for what this machine does not have."""
    refuse(spec, REFUSED)
    whole = machine()
    cpus, mem, gpus = needs(spec)
    if spec.nodes > 1:
        raise Invalid("--nodes: this machine is one node.", "Use --tasks-per-node, or --on with a cluster's scheduler.")
    if cpus > whole.cpus:
        raise Invalid(
            f"--cpus: {spec.tasks_per_node} tasks with {spec.cpus} CPUs each are more than the {whole.cpus} of this machine.",
            "Ask for less.",
        )
    if mem > whole.mem:
        raise Invalid(f"--mem: this machine has {whole.mem / 2**30:.1f} GiB.", "Ask for less.")
    if gpus > len(whole.gpus):
        raise Invalid(f"--gpus: this machine has {len(whole.gpus)}.", "Ask for fewer; `noria doctor` shows what was found.")


def script(job: Job, folder: str, python: str) -> str:
    return f"#!/bin/sh\n# Job {job.id}: what the local queue runs, for people to read and repeat: the queue starts the same launcher.\nexec {quote(python)} -m noria.jobs.launch {quote(folder)} {job.tries + 1}\n"


def submit(script: str, job: Job) -> list[str]:
    return [*COMMAND, "submit", script.rpartition("/")[0]]


def submitted(answer: Answer) -> str:
    if answer.code:
        raise Unavailable(f"The local queue failed: {answer.err.strip()[-300:]}")
    return answer.out.strip()


def query(user: str) -> list[str]:
    return [*COMMAND, "query"]


def states(answer: Answer) -> dict[str, Seen]:
    if answer.code:
        raise Unavailable(f"The local queue did not answer: {answer.err.strip()[-300:]}")
    return msgspec.json.decode(answer.out, type=dict[str, Seen])


def final(ids: Sequence[str]) -> list[str] | None:
    return None  # Who is in neither list has ended, and the folder says how.


def finals(answer: Answer) -> dict[str, Seen]:
    return {}


def cancel(ids: Sequence[str]) -> list[str]:
    return [*COMMAND, "cancel", *ids]


def hold(ids: Sequence[str]) -> list[str]:
    return [*COMMAND, "hold", *ids]


def release(ids: Sequence[str]) -> list[str]:
    return [*COMMAND, "release", *ids]


def inquiry(id: str, user: str) -> list[list[str]]:
    return [[*COMMAND, "why", id]]


def wait(id: str, answers: Sequence[Answer]) -> Wait:
    return msgspec.json.decode(answers[0].out, type=Wait) if answers[0].code == 0 else Wait("The local queue does not answer.")


def queues(answer: Answer) -> list[Queue]:
    if answer.code:
        raise Unavailable(f"The local queue did not answer: {answer.err.strip()[-300:]}")
    return msgspec.json.decode(answer.out, type=list[Queue])


def nodes(answer: Answer) -> list[Node]:
    if answer.code:
        raise Unavailable(f"The local queue did not answer: {answer.err.strip()[-300:]}")
    return msgspec.json.decode(answer.out, type=list[Node])


def crowd(answer: Answer) -> list[Other]:
    return []  # Who else is here is known without limits, and the server knows its own jobs.


def placement(env: Mapping[str, str], read: Callable[[str], str], run: Callable[[Sequence[str]], Answer]) -> Placement:
    gpus = env.get(GPU_VARIABLE, "")
    return Placement([socket.gethostname()], 0, gpus.split(",") if gpus else [])
