"""OpenPBS and PBS Pro. Everything is asked on qsub's command line, because `qsub -- program` has no login shell around it:
PBS signals each process of a session, and the job would end with that shell before the launcher has said a word.

Sources: qsub(1B), qstat(1B), pbs_tmrsh(8) and the exit codes in the PBS Professional Reference Guide.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from noria.errors import Invalid
from noria.jobs.dialect import Node, Other, Placement, Queue, Seen, Wait
from noria.jobs.idioms import (
    HELD,
    REQUEUES,
    alone,
    clock,
    exited,
    fan_out,
    in_range,
    job_id,
    launcher,
    local_time,
    log_path,
    megabytes,
    passed,
    plain,
    printable,
    refuse,
    requirements,
    sane,
    slots,
    tag,
    untaken,
    usable,
)
from noria.process import Answer
from noria.types import Cause, Job, JobSpec

PROBE = ["qstat", "-B", "-f"]  # Grid Engine has a qstat too, but not this option
QUEUES = ["qstat", "-Q", "-f"]
NODES = ["pbsnodes", "-a"]
CROWD = ["qstat", "-f"]
STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
GRACE = 8.0  # kill_delay is 10 s.

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

CAUSES: dict[int, Cause] = {-11: "preempted", -20: "node_failure", -28: "out_of_memory", -29: "time_limit"}

LETTERS = {"H": HELD, "W": "Its start time has not come yet.", "S": "Suspended.", "U": "Suspended: its node is in use."}


REFUSED = {
    "qos": ("PBS has no quality of service", "Leave it out, or say what stands for it there with --raw."),
    # A chunk says what its nodes have, by = alone; filters of nodes were proposed for PBS, and never made.
    "exclude": ("PBS can only be told which nodes to take", "Leave it out, or take one by its name: --constraint host=NAME."),
}


def learn(run: Callable[[Sequence[str]], Answer]) -> dict[str, str]:
    return {}  # What can be named otherwise (gpu_type) PBS does not tell to users; a profile does.


def check(spec: JobSpec) -> None:
    sane(spec)
    refuse(spec, REFUSED)
    untaken(spec, {"-r": REQUEUES, "-J": "Use --array.", "-I": "Leave it out: jobs are not interactive."})
    requirements(spec)
    in_range(spec, "PBS", -1024, 1023)
    if spec.reservation and spec.queue:
        raise Invalid(f"--reservation {spec.reservation} is a queue in PBS, and --queue names another.", "Give one of them.")


def script(job: Job, folder: str, python: str) -> str:
    printable(folder, ":", "PBS")
    start = launcher(python, folder, job)
    lines = ["#!/bin/bash", f"cd {shlex.quote(folder)} || exit"]
    if alone(job.spec):
        return "\n".join([*lines, f"exec {shlex.join(start)}", ""])
    # pbs_tmrsh takes words as they are, without a shell, and its folder is often not in a job's PATH
    lines += ['if [ -r /etc/pbs.conf ]; then . /etc/pbs.conf; PATH="$PATH:$PBS_EXEC/bin"; fi']
    hosts = """awk '!seen[$1]++ { print $1 }' "$PBS_NODEFILE\""""
    return "\n".join([*lines, fan_out(hosts, job.spec.nodes, "pbs_tmrsh", start, start, "Ask the site about place=scatter.")])


def submit(script: str, job: Job) -> list[str]:
    spec, raw, variables = job.spec, list(job.spec.raw), f"NORIA_TAG={tag(job)}"
    while "-v" in raw[:-1]:  # of several qsub takes the last alone
        at = raw.index("-v")
        variables += f",{raw[at + 1]}"
        del raw[at : at + 2]
    asked = ["-N", plain(spec.name)[:15] or "noria", "-v", variables, "-r", "n", "-j", "oe"]
    asked += ["-kdoe", "-o", log_path(script.rpartition("/")[0])]  # -kdoe: written there while it runs, not copied at the end
    asked += [] if spec.as_is else _resources(spec)
    return ["qsub", "-f", *asked, *raw, "--", "/bin/bash", script]  # -f: no qsub stays behind in the background


def _resources(spec: JobSpec) -> list[str]:
    chunk = f"select={spec.nodes}:ncpus={slots(spec)}:mpiprocs={spec.tasks_per_node}:ompthreads={spec.cpus}"
    chunk += f":ngpus={spec.gpus}" if spec.gpus else ""
    chunk += f":{spec.site.get('gpu_type') or 'gpu_type'}={spec.gpu_type}" if spec.gpu_type else ""
    chunk += f":mem={megabytes(spec.mem)}mb" if spec.mem else ""
    chunk += "".join(f":{name}={value}" for name, value in requirements(spec))
    place = ["scatter"] * (spec.nodes > 1) + ["exclhost"] * spec.exclusive
    asked = ["-l", chunk, *(["-l", f"place={':'.join(place)}"] if place else [])]
    asked += ["-l", f"walltime={clock(spec.time)}"] if spec.time else []
    asked += ["-q", spec.queue or spec.reservation] if spec.queue or spec.reservation else []
    asked += ["-A", spec.account] if spec.account else []
    asked += ["-p", str(spec.priority - spec.nice)] if spec.priority or spec.nice else []
    return asked + (["-a", local_time(spec.begin, "%Y%m%d%H%M.%S")] if spec.begin else [])


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
        return replace(end, tag=mark)
    if letter in "RSEUB":
        return Seen("RUNNING", None, LETTERS.get(letter, ""), mark)
    return Seen("SUBMITTED", None, LETTERS.get(letter) or _explain(comment), mark)


def _ended(said: Mapping[str, str], comment: str) -> Seen:
    status = int(said["Exit_status"]) if "Exit_status" in said else None
    code = status if status is None or status < 256 else status - 128  # 256 + n is signal n
    if said.get("substate") == "91":
        return Seen("CANCELLED", code if code is not None and code >= 0 else None, comment or "It was deleted.",
                    cause="cancelled")  # fmt: skip
    if code is None:
        return Seen("FAILED", None, comment or "PBS removed it before it ran, as it does when a dependency cannot be met.")
    if code >= 0:
        return exited(code)
    return Seen("FAILED", None, ENDS.get(code, f"PBS ended it with its code {code}."), cause=CAUSES.get(code, "unknown"))


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


def hold(ids: Sequence[str]) -> list[str]:
    return ["qhold", *ids]


def release(ids: Sequence[str]) -> list[str]:
    return ["qrls", *ids]


def inquiry(id: str, user: str) -> list[list[str]]:
    return [CROWD]


def wait(id: str, answers: Sequence[Answer]) -> Wait:
    known = dict(_jobs(answers[0].out))
    mine = known.get(id, {})
    comment, queue = mine.get("comment", ""), mine.get("queue", "")
    order = [key for key, said in known.items() if said.get("queue") == queue and key != id]
    rivals = [
        key for key in order if known[key].get("job_state") == "R" or (known[key].get("job_state") == "Q" and _precedes(key, id))
    ]
    never = comment.startswith("Can Never Run")
    reason = LETTERS.get(mine.get("job_state", "")) or _explain(comment) or "Waits for its turn."
    return Wait(reason, [f"qstat -f: comment = {comment}"] * bool(comment), [_other(key, known[key]) for key in rivals], never)


def crowd(answer: Answer) -> list[Other]:
    found = [_other(key, said) for key, said in _jobs(answer.out) if said.get("job_state") in ("R", "Q")]
    return sorted(found, key=lambda each: not each.is_running)


def _precedes(first: str, second: str) -> bool:
    """Whether a job came before another; what counts besides is the site's own formula."""
    mine, theirs = (int(re.sub(r"\D.*", "", each) or 0) for each in (first, second))
    return mine < theirs


def _other(key: str, said: Mapping[str, str]) -> Other:
    limit, used = seconds(said.get("Resource_List.walltime", "")), seconds(said.get("resources_used.walltime", "0"))
    running = said.get("job_state") == "R"
    nodes = int(said.get("Resource_List.nodect", "0"))
    cpus, gpus = (int(said.get(f"Resource_List.{name}", "0")) for name in ("ncpus", "ngpus"))
    left = max(0, limit - (used or 0)) if limit else None
    return Other(
        key,
        said.get("Job_Owner", "").partition("@")[0],
        running,
        nodes,
        cpus,
        gpus,
        left,
        said.get("Job_Name", ""),
        said.get("queue", ""),
    )


def queues(answer: Answer) -> list[Queue]:
    found = []
    for record in re.split(r"^Queue: *", usable(answer, "PBS").replace("\n\t", ""), flags=re.MULTILINE)[1:]:
        said = dict(re.findall(r"^    (\S+) = (.*)$", record, re.MULTILINE))
        counts = {state: int(count) for state, count in re.findall(r"(\w+):(\d+)", said.get("state_count", ""))}
        waiting = sum(counts.get(state, 0) for state in ("Queued", "Held", "Waiting"))
        up = [word for word, on in (("disabled", "enabled"), ("stopped", "started")) if said.get(on) != "True"]
        limit = seconds(said.get("resources_max.walltime", ""))
        name = record.split(None, 1)[0]
        found.append(Queue(name, " ".join(up) or "up", limit=limit, running=counts.get("Running", 0), waiting=waiting))
    return found


def seconds(text: str) -> int | None:
    """PBS's times: seconds, MM:SS or HH:MM:SS; None for what is none."""
    parts = text.split(":")
    if not all(part.isdecimal() for part in parts):
        return None
    units = zip((1, 60, 3600), reversed(parts), strict=False)
    return sum(unit * int(part) for unit, part in units)


def nodes(answer: Answer) -> list[Node]:
    records = re.split(r"^(?=\S)", usable(answer, "PBS").replace("\n\t", ""), flags=re.MULTILINE)
    return [_node(record) for record in records if record.strip()]


def _node(record: str) -> Node:
    said = dict(re.findall(r"^ +(\S+) = (.*)$", record, re.MULTILINE))
    has, used = (
        [size(said.get(f"resources_{which}.{name}", "0")) for name in ("ncpus", "mem", "ngpus")]
        for which in ("available", "assigned")
    )
    cpus, mem, gpus = (all_ - taken for all_, taken in zip(has, used, strict=True))
    kind = said.get("resources_available.gpu_type", "")
    return Node(
        record.split(None, 1)[0], said.get("state", ""), has[0], cpus, has[1], mem, has[2], gpus, [kind] if kind else [],
        [said["queue"]] if "queue" in said else [], said.get("comment", ""),
    )  # fmt: skip


def size(text: str) -> int:
    """PBS's sizes in bytes: 4gb, 204800kb, 12b, or bytes; in w, words of eight."""
    found = re.fullmatch(r"(\d+)([kmgtp]?)([bw]?)", text.lower())
    return int(found[1]) * 1024 ** " kmgtp".index(found[2] or " ") * (8 if found[3] == "w" else 1) if found else 0


def placement(env: Mapping[str, str], read: Callable[[str], str], run: Callable[[Sequence[str]], Answer]) -> Placement:
    return passed(env, lambda: read(env["PBS_NODEFILE"]).split())
