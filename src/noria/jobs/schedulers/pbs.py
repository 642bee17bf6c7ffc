"""OpenPBS and PBS Pro. Everything is asked on qsub's command line, because `qsub -- program` has no login shell around it:
PBS signals each process of a session, and the job would end with that shell before the launcher has said a word.

Sources: qsub(1B), qstat(1B), pbs_tmrsh(8) and the exit codes in the PBS Professional Reference Guide.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence

from noria.jobs.dialect import (
    Placement,
    Seen,
    clock,
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

PROBE = ["qstat", "-B", "-f"]  # Grid Engine has a qstat too, but not this option
STOPS = frozenset({signal.SIGTERM, signal.SIGINT})

TRANSIENT = (
    r"cannot connect to server|connection refused|communication failure|time-?d? ?out|premature end of message|"
    r"end of file|server shutting down|would exceed|too many"
)

ENDS = {
    -1: "PBS could not start it.",
    -2: "PBS could not start it after its files were staged.",
    -3: "PBS could not start it and would try again.",
    -8: "PBS killed it: it used more than the site's limit on processor time.",
    -11: "PBS stopped it to run it again; Noria does that itself.",
    -12: "PBS killed it: it used more processor time than allowed.",
    -20: "A node that it ran on failed.",
    -21: "A prologue of the site failed.",
    -27: "It used more processor time than allowed.",
    -28: "It used more memory than it asked for; ask for more with --mem.",
    -29: "It reached its time limit; ask for more with --time.",
}

LETTERS = {"H": "Held.", "W": "Its start time has not come yet.", "S": "Suspended.", "U": "Suspended: its node is in use."}


def check(spec: JobSpec) -> None:
    sane(spec)


def script(job: Job, folder: str, python: str) -> str:
    printable(folder, ":", "PBS")
    start = launcher(python, folder)
    lines = ["#!/bin/bash", f"cd {shlex.quote(folder)} || exit"]
    if job.spec.nodes == 1:
        return "\n".join([*lines, f"exec {shlex.join(start)}", ""])
    # pbs_tmrsh takes words as they are, without a shell, and its folder is often not in a job's PATH
    lines += ['if [ -r /etc/pbs.conf ]; then . /etc/pbs.conf; PATH="$PATH:$PBS_EXEC/bin"; fi']
    hosts = """awk '!seen[$1]++ { print $1 }' "$PBS_NODEFILE\""""
    return "\n".join([*lines, fan_out(hosts, job.spec.nodes, "pbs_tmrsh", start, start, "Ask the site about place=scatter.")])


def submit(script: str, job: Job) -> list[str]:
    spec = job.spec
    chunk = f"select={spec.nodes}:ncpus={spec.tasks_per_node * spec.cpus}:mpiprocs={spec.tasks_per_node}:ompthreads={spec.cpus}"
    chunk += f":ngpus={spec.gpus}" if spec.gpus else ""
    chunk += f":mem={megabytes(spec.mem)}mb" if spec.mem else ""
    asked = ["-N", plain(spec.name)[:15] or "noria", "-v", f"NORIA_TAG={tag(job)}", "-r", "n", "-j", "oe"]
    asked += ["-kdoe", "-o", log_path(script.rpartition("/")[0])]  # -kdoe: written there while it runs, not copied at the end
    asked += ["-l", chunk, *(["-l", "place=scatter"] if spec.nodes > 1 else [])]
    asked += ["-l", f"walltime={clock(spec.time)}"] if spec.time else []
    return ["qsub", "-f", *asked, *options(spec), "--", "/bin/bash", script]  # -f: no qsub stays behind in the background


def submitted(answer: Answer) -> str:
    return job_id(answer, r"^(\d+\.\S+)$", "PBS", TRANSIENT)


def query(user: str) -> list[str]:
    return ["qstat", "-f"]  # -u and -f exclude each other; the JSON form prints one job of several asked for


def states(answer: Answer) -> dict[str, Seen]:
    return {number: _seen(said) for number, said in _jobs(usable(answer, "PBS"))}


def final(ids: Sequence[str]) -> list[str] | None:
    return ["qstat", "-x", "-f", *ids]


def finals(answer: Answer) -> dict[str, Seen]:
    # One unknown id makes the exit code an error, yet the others are printed.
    return {number: _seen(said) for number, said in _jobs(answer.out) if said.get("job_state") in ("F", "X")}


def _jobs(text: str) -> list[tuple[str, dict[str, str]]]:
    """The records of `qstat -f`. A long value goes on after a newline and a tab, anywhere in a word."""
    records = re.split(r"^Job Id: *", text.replace("\n\t", ""), flags=re.MULTILINE)[1:]
    return [(record.split(None, 1)[0], dict(re.findall(r"^    (\S+) = (.*)$", record, re.MULTILINE))) for record in records]


def _seen(said: Mapping[str, str]) -> Seen:
    found = re.search(r"\bNORIA_TAG=([\w-]+)", said.get("Variable_List", ""))
    mark, letter, comment = found[1] if found else "", said.get("job_state", "Q"), said.get("comment", "")
    if letter in "FX":
        end = _ended(said, comment)
        return Seen(end.state, end.exit_code, end.reason, mark)
    if letter in "RSEUB":
        return Seen("RUNNING", None, LETTERS.get(letter, ""), mark)
    return Seen("SUBMITTED", None, LETTERS.get(letter) or _explain(comment), mark)


def _ended(said: Mapping[str, str], comment: str) -> Seen:
    status = int(said["Exit_status"]) if "Exit_status" in said else None
    code = status if status is None or status < 256 else status - 128  # 256 + n is signal n
    if said.get("substate") == "91":
        return Seen("CANCELLED", code if code is not None and code >= 0 else None, comment or "It was deleted.")
    if code is None:
        return Seen("FAILED", None, comment or "PBS removed it before it ran, as it does when a dependency cannot be met.")
    return exited(code) if code >= 0 else Seen("FAILED", None, ENDS.get(code, f"PBS ended it with its code {code}."))


def _explain(comment: str) -> str:
    """The scheduler's comment on a waiting job as a sentence."""
    text = comment.strip().rstrip(".")
    if text.startswith("Can Never Run"):
        return f"No node has what it asks for, so it will never start:{text.partition(':')[2] or ' ' + text}."
    if text.startswith("Not Running: Insufficient amount of resource"):
        return f"Waits until enough is free:{text.rpartition('resource')[2].removeprefix(':')}."
    return f"{text.removeprefix('Not Running: ')}." if text else ""


def cancel(ids: Sequence[str]) -> list[str]:
    return ["qdel", *ids]


def placement(env: Mapping[str, str], read: Callable[[str], str], run: Callable[[Sequence[str]], Answer]) -> Placement:
    return passed(env, lambda: read(env["PBS_NODEFILE"]).split())
