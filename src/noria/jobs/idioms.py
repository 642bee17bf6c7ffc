"""What several dialects say alike: refusals, the numbers of a job, names that scripts can hold, and how answers are read. Pure."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence

from noria.errors import Invalid, NoriaError, Unavailable
from noria.jobs.dialect import Placement, Seen
from noria.process import Answer
from noria.types import Job, JobSpec

HELD = "Held by its owner; `noria release` lets it go."
REQUEUES = "Leave it out: Noria submits a job again itself, and --retry never keeps it from that."
"""Of an option by which a scheduler would do the same: two who requeue run a training twice."""


def tag(job: Job) -> str:
    """The mark by which a lost submission is found in the queue."""
    return f"noria-{job.id}" + (f"-{job.tries + 1}" if job.tries else "")  # What is left of an earlier try is not this one.


def sane(spec: JobSpec) -> None:
    """Raise Invalid for numbers that no scheduler understands, and for names that a script's directive cannot hold."""
    for flag, value, least in (
        ("--nodes", spec.nodes, 1),
        ("--tasks-per-node", spec.tasks_per_node, 1),
        ("--cpus", spec.cpus, 1),
        ("--gpus", spec.gpus, 0),
        ("--mem", spec.mem, 0),
        ("--time", spec.time, 0),
        ("--begin", spec.begin, 0),
    ):
        if value < least:
            raise Invalid(f"{flag} is {value}.", f"Give {least} or more.")
    for field in ("queue", "account", "qos", "constraint", "reservation", "gpu_type"):
        value = getattr(spec, field)
        if value and not re.fullmatch(r"""[^\s"'`\\$#;-][^\s"'`\\$;]*""", value):
            raise Invalid(
                f"{FLAGS[field]} {value!r} is no name that a scheduler can have.", "Write it without spaces and quotes."
            )
    for name in spec.exclude:
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            raise Invalid(f"--exclude {name!r} is no name of a node.", "Write n1,n2 or n[1-3]; `noria nodes` lists them.")


FLAGS = {
    "gpu_type": "--gpus", "queue": "--queue", "account": "--account", "qos": "--qos", "constraint": "--constraint",
    "reservation": "--reservation", "exclusive": "--exclusive", "exclude": "--exclude", "nice": "--nice", "priority": "--priority", "begin": "--begin",
    "raw": "--raw",
}  # fmt: skip


def refuse(spec: JobSpec, why: Mapping[str, tuple[str, str]]) -> None:
    """Raise Invalid, with the flag, for what is asked and cannot be expressed: why[field] is the reason and the cure."""
    for field, (reason, cure) in why.items():
        if getattr(spec, field):
            value = getattr(spec, field)
            said = shlex.join(value) if isinstance(value, list) else "" if value is True else str(value)
            raise Invalid(f"{FLAGS[field]} {said}".rstrip() + f": {reason}.", cure)


def untaken(spec: JobSpec, taken: Mapping[str, str]) -> None:
    """Raise Invalid if --raw holds an option that Noria needs for itself; taken[option] is the cure."""
    for word in spec.raw:
        cure = taken.get(word.partition("=")[0])
        if cure:
            raise Invalid(f"--raw {word}: Noria says that itself.", cure)


def in_range(spec: JobSpec, scheduler: str, least: int, most: int) -> None:
    """Raise Invalid unless the one number that stands for --priority and --nice is in range."""
    if spec.nice and spec.priority:
        raise Invalid(f"--nice and --priority are one number in {scheduler}.", "Give one of them.")
    if not least <= spec.priority - spec.nice <= most:
        flag = "--nice" if spec.nice else "--priority"
        raise Invalid(f"{flag} {spec.nice or spec.priority}: {scheduler} has priorities from {least} to {most}.", "Give another.")


def alone(spec: JobSpec) -> bool:
    """Whether the first node's launcher is the only one: a script with directives of its own reaches the other nodes itself."""
    return spec.nodes == 1 or bool(spec.script)


def slots(spec: JobSpec) -> int:
    """CPUs of one node: Slurm and PBS are asked for resources per node, Grid Engine per slot, and a slot is one CPU."""
    return spec.tasks_per_node * spec.cpus


def per_slot(spec: JobSpec) -> str:
    """GPUs of one slot as a decimal, which must be exact: three times 0.333 GPUs are not one."""
    millionths, rest = divmod(spec.gpus * 10**6, slots(spec))
    if rest:
        raise Invalid(
            f"--gpus {spec.gpus} does not divide among {slots(spec)} slots, and Grid Engine counts GPUs per slot.",
            "Choose --cpus so that --tasks-per-node times --cpus is a multiple of --gpus, or 1, 2, 4, 5, 8, 10 or 16.",
        )
    return f"{millionths // 10**6}.{millionths % 10**6:06}".rstrip("0").removesuffix(".")


def requirements(spec: JobSpec) -> list[tuple[str, str]]:
    """--constraint as (name, value), where a scheduler has resources with values and no features: NAME=VALUE[,NAME=VALUE]."""
    pairs = [part.partition("=") for part in spec.constraint.split(",") if part]
    if not all(name and value for name, _, value in pairs):
        raise Invalid(
            f"--constraint {spec.constraint}: {spec.scheduler} knows resources with values, and no features.",
            "Write NAME=VALUE, several with commas.",
        )
    return [(name, value) for name, _, value in pairs]


def local_time(milliseconds: int, form: str) -> str:
    """A moment in this machine's time zone: schedulers read a begin time in theirs, which is the login node's."""
    return time.strftime(form, time.localtime(milliseconds / 1000))


def printable(path: str, refused: str, scheduler: str) -> str:
    """The path as it is; Invalid if it holds a control character or one of `refused`, which `scheduler` reads as its own syntax."""
    bad = sorted({c for c in path if c in refused or not c.isprintable()})
    if bad:
        raise Invalid(
            f"The job's folder {path!r} holds {' '.join(map(repr, bad))}, which {scheduler} cannot have in the path of a log.",
            "Choose another folder for jobs.",
        )
    return path


def plain(name: str) -> str:
    """The name as letters, digits, dots, dashes and underscores; empty, or starting with a letter. PBS and SGE take no others."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("_.-").lstrip("0123456789._-")


def log_path(folder: str) -> str:
    return f"{folder}/logs/scheduler.log"


def megabytes(size: int) -> int:
    """Bytes as MiB, rounded up: every scheduler's M or mb is 2**20 bytes."""
    return -(-size // 2**20)


def clock(seconds: int) -> str:
    """Seconds as hours:minutes:seconds; hours may exceed 24."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def launcher(python: str, folder: str, job: Job) -> list[str]:
    """The command that every script starts once on each node. It names its try: a script may be started late, when another has taken
    its place."""
    return [python, "-m", "noria.jobs.launch", folder, str(job.tries + 1)]


def fan_out(hosts: str, nodes: int, remote: str, local: Sequence[str], there: Sequence[str], cure: str) -> str:
    """Shell text that starts one launcher per host, waits for all and exits with the worst code.

    `hosts` is shell that prints the host names, this host first; `remote` starts a command on "$host". `local` and `there` are
    the launcher's words here and on the other hosts. The first is started without `remote`: some sites count that as a task.
    The shell outlives the scheduler's warnings, because the job ends with it.
    """
    return f"""\
hosts=$({hosts})
if [ "$(echo $hosts | wc -w)" -ne {nodes} ]; then
  echo "Noria: asked for {nodes} nodes, got: $hosts. {cure}" >&2
  exit 78
fi
nodes=$(echo $hosts | tr ' ' ',')
trap : TERM USR1 USR2
rank=0 pids=
for host in $hosts; do
  if [ "$rank" -eq 0 ]; then
    NORIA_NODES="$nodes" NORIA_NODE_RANK=0 {shlex.join(local)} &
  else
    {remote} "$host" env NORIA_NODES="$nodes" NORIA_NODE_RANK="$rank" {shlex.join(there)} &
  fi
  pids="$pids $!" rank=$((rank + 1))
done
worst=0
for pid in $pids; do
  wait "$pid"; code=$?
  while kill -0 "$pid" 2>/dev/null; do wait "$pid"; code=$?; done  # a signal ends a wait early
  if [ "$code" -gt "$worst" ]; then worst=$code; fi
done
exit "$worst"
"""


def passed(env: Mapping[str, str], hosts: Callable[[], list[str]]) -> Placement:
    """The placement that `fan_out` handed on, or that of a job of one node, whose launcher was started directly."""
    gpus = visible(env)
    if "NORIA_NODES" in env:
        return Placement(env["NORIA_NODES"].split(","), int(env["NORIA_NODE_RANK"]), gpus)
    return Placement(hosts()[:1], 0, gpus)


def visible(env: Mapping[str, str]) -> list[str] | None:
    """The GPUs in CUDA_VISIBLE_DEVICES; None if it is not set."""
    text = env.get("CUDA_VISIBLE_DEVICES")
    return None if text is None else [gpu for gpu in text.split(",") if gpu and gpu != "NoDevFiles"]


def words(answer: Answer) -> str:
    """What a command said, on one line."""
    return " ".join((answer.err.strip() or answer.out.strip() or f"exit code {answer.code}, no message").split())


def failure(answer: Answer, scheduler: str, transient: str) -> NoriaError:
    """The error that a failed submission is: Unavailable for what matches the pattern `transient` or timed out, else Invalid."""
    if answer.code == 127:
        return Invalid(f"{words(answer)}.", f"Run the agent where {scheduler}'s commands are in PATH.")
    if answer.code == 124 or re.search(transient, answer.out + answer.err, re.IGNORECASE):
        return Unavailable(f"{scheduler} does not take the job now: {words(answer)}")
    return Invalid(f"{scheduler} refused the job: {words(answer)}")


def job_id(answer: Answer, pattern: str, scheduler: str, transient: str) -> str:
    """The last line of a submit command's answer that is an id; the pattern's first group is the id."""
    if answer.code != 0:
        raise failure(answer, scheduler, transient)
    found = re.findall(pattern, answer.out, re.MULTILINE)  # sites' submit filters print before it
    if not found:
        raise Unavailable(f"{scheduler} gave no id: {words(answer)}")
    return str(found[-1])


def usable(answer: Answer, scheduler: str) -> str:
    """The text of a query that succeeded; an empty queue must never be read out of a failed one."""
    if answer.code != 0:
        raise Unavailable(f"{scheduler} does not answer: {words(answer)}")
    return answer.out


def exited(code: int, reason: str = "") -> Seen:
    """A job that ended with this exit code, 128 + n after signal n."""
    if code == 0:
        return Seen("COMPLETED", 0, reason)
    said = f"It was killed by signal {code - 128}." if 128 < code < 193 else f"It exited with code {code}."
    return Seen("FAILED", code, reason or said)
