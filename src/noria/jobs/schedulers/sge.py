"""Grid Engine: Son of, Open, Univa and Altair. Resources are asked for per slot, and one slot is one CPU.

What a site names as it likes is taken from the job's environment: NORIA_SGE_PE (parallel environment; "smp" on one node,
"mpi" on several), NORIA_SGE_GPU (complex that counts GPUs; "gpu") and NORIA_SGE_MEM (complex that counts memory;
"virtual_free", since h_vmem limits the address space, which CUDA needs more of than there is memory).

The launcher must take USR2 for TERM: that is how Grid Engine warns, and KILL follows after the queue's `notify` time.

Sources: qsub(1), sge_pe(5), qacct(1), sge_status(5).
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from xml.etree import ElementTree

from noria.errors import Invalid, Unavailable
from noria.jobs.dialect import (
    Placement,
    Seen,
    exited,
    fan_out,
    job_id,
    launcher,
    log_path,
    megabytes,
    options,
    passed,
    plain,
    printable,
    sane,
    tag,
    usable,
)
from noria.process import Answer
from noria.types import Job, JobSpec

PROBE = ["qconf", "-sql"]  # PBS has a qstat and a qsub too, but no qconf
STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR2})  # USR2 comes with -notify, before KILL

TRANSIENT = (
    r"unable to contact qmaster|unable to send message to qmaster|commlib error|got send error|got (no|timeout)|"
    r"connection refused|only \d+ jobs are allowed|timed out"
)

ENDS = {
    26: "Grid Engine could not write its log; look at the job's folder from a node.",
    28: "Grid Engine could not enter its folder.",
    37: "It reached its time limit, or another of its limits; ask for more with --time.",
}
KILLED = 100  # the job was signalled, by qdel or by anyone: Grid Engine does not tell them apart
AGAIN = (24, 25)  # migrating, rescheduling: a try ended, not the job


def check(spec: JobSpec) -> None:
    sane(spec)
    _gpus_per_slot(spec)


def script(job: Job, folder: str, python: str) -> str:
    printable(folder, "\"'\\$,:", "Grid Engine")
    start = launcher(python, folder)
    lines = ["#!/bin/bash", *(f"#$ {directive}" for directive in _directives(job, folder)), f"cd {shlex.quote(folder)} || exit"]
    if job.spec.nodes == 1:
        return "\n".join([*lines, f"exec {shlex.join(start)}", ""])
    hosts = """awk '!seen[$1]++ { print $1 }' "$PE_HOSTFILE\""""
    cure = f"Set NORIA_SGE_PE to a parallel environment whose allocation_rule is {_slots(job.spec)} (qconf -spl, qconf -sp)."
    there = [shlex.quote(word) for word in start]  # a shell on the other host reads the words once more
    return "\n".join([*lines, fan_out(hosts, job.spec.nodes, "qrsh -inherit -nostdin", start, there, cure)])


def _directives(job: Job, folder: str) -> list[str]:
    spec, slots = job.spec, _slots(job.spec)
    name = plain(spec.name)
    asked = ["-S /bin/bash", f"-N {f'{name}.' if name else ''}{tag(job)}", f'-o "{log_path(folder)}"', "-j y", "-r n", "-notify"]
    if spec.nodes * slots > 1:
        environment = spec.env.get("NORIA_SGE_PE") or ("smp" if spec.nodes == 1 else "mpi")
        asked += [f"-pe {environment} {spec.nodes * slots}"]
    if spec.gpus:
        asked += [f"-l {spec.env.get('NORIA_SGE_GPU') or 'gpu'}={_gpus_per_slot(spec)}"]
    if spec.mem:
        asked += [f"-l {spec.env.get('NORIA_SGE_MEM') or 'virtual_free'}={-(-megabytes(spec.mem) // slots)}M"]
    return asked + ([f"-l h_rt={spec.time}"] if spec.time else [])


def _slots(spec: JobSpec) -> int:
    """Slots of one node."""
    return spec.tasks_per_node * spec.cpus


def _gpus_per_slot(spec: JobSpec) -> str:
    """GPUs of one slot as a decimal, which must be exact: three times 0.333 GPUs are not one."""
    share = Decimal(spec.gpus) / _slots(spec)
    if share * _slots(spec) != spec.gpus or -int(share.normalize().as_tuple().exponent) > 6:
        raise Invalid(
            f"--gpus {spec.gpus} does not divide among {_slots(spec)} slots, and Grid Engine counts GPUs per slot.",
            "Choose --cpus so that --tasks-per-node times --cpus is a multiple of --gpus, or 1, 2, 4, 5, 8, 10 or 16.",
        )
    return f"{share.normalize():f}"


def parallel_environment(spl: str, sp: Mapping[str, str], nodes: int, slots: int) -> str:
    """The parallel environment that gives `slots` on each of `nodes`: `spl` is what `qconf -spl` printed, sp[name] `qconf -sp name`."""
    rules = {name: re.search(r"^allocation_rule\s+(\S+)", sp.get(name, ""), re.MULTILINE) for name in spl.split()}
    wanted = ("$pe_slots", str(slots)) if nodes == 1 else (str(slots),)
    for rule in wanted:
        for name, found in rules.items():
            if found and found[1] == rule:
                return name
    raise Invalid(
        f"No parallel environment of this site gives {slots} slots on each of {nodes} nodes.",
        f"Ask for one whose allocation_rule is {' or '.join(wanted)}, or change --tasks-per-node and --cpus.",
    )


def submit(script: str, job: Job) -> list[str]:
    return ["qsub", "-terse", *options(job.spec), script]


def submitted(answer: Answer) -> str:
    return job_id(answer, r"^(\d+)$", "Grid Engine", TRANSIENT)


def query(user: str) -> list[str]:
    return ["qstat", "-xml", "-u", user]


def states(answer: Answer) -> dict[str, Seen]:
    try:
        root = ElementTree.fromstring(usable(answer, "Grid Engine"))  # noqa: S314 - its own command wrote it
    except ElementTree.ParseError as error:
        raise Unavailable(f"Grid Engine's list of jobs cannot be read: {error}.") from None
    rows = [{field.tag: field.text or "" for field in job} for job in root.iter("job_list")]
    return {row["JB_job_number"]: _queued(row.get("state", ""), row.get("JB_name", "")) for row in rows}


def _queued(letters: str, name: str) -> Seen:
    """Letters combine: q is queued and E in error, h held, w waiting, r running, t starting, s S T suspended, d being deleted."""
    found = re.search(r"noria-[\w-]+$", name)
    mark = found[0] if found else ""
    if "E" in letters:
        return Seen(
            "SUBMITTED", None, "Grid Engine could not start it and keeps it in error; `qstat -j` says why. Cancel it.", mark
        )
    if "q" in letters:
        return Seen("SUBMITTED", None, "Held." if "h" in letters else "Waits for free slots.", mark)
    return Seen("RUNNING", None, "Suspended." if re.search("[sST]", letters) else "", mark)


def final(ids: Sequence[str]) -> list[str] | None:
    return ["qacct", "-j", "*noria-*"]  # -j takes one job, or a pattern of names


def finals(answer: Answer) -> dict[str, Seen]:
    """A job that was rescheduled has a row for each try; the last one counts."""
    seen: dict[str, Seen] = {}
    for record in re.split(r"^=+$", answer.out, flags=re.MULTILINE):
        said = dict(re.findall(r"^(\w+) +(.*?) *$", record, re.MULTILINE))
        failed = re.match(r"(\d+)\s*:?\s*(.*)", said.get("failed", ""))
        if failed and said.get("jobnumber") and int(failed[1]) not in AGAIN:
            seen[said["jobnumber"]] = _ended(int(failed[1]), failed[2], int(said.get("exit_status", "0").split()[0]))
    return seen


def _ended(failed: int, text: str, status: int) -> Seen:
    if failed == 0:
        return exited(status)
    if failed == KILLED:
        return Seen("FAILED", status or None, "It was killed, by qdel or otherwise." if status != 0 else text)
    return Seen("FAILED", status or None, ENDS.get(failed, f"Grid Engine says: {text}."))


def cancel(ids: Sequence[str]) -> list[str]:
    return ["qdel", *ids]


def placement(env: Mapping[str, str], read: Callable[[str], str], run: Callable[[Sequence[str]], Answer]) -> Placement:
    def hosts() -> list[str]:
        if "PE_HOSTFILE" not in env:  # one slot has no parallel environment
            return [env.get("HOSTNAME", "localhost")]
        return [line.split()[0] for line in read(env["PE_HOSTFILE"]).splitlines() if line.strip()]

    return passed(env, hosts)
