"""Slurm, 20.02 and newer. Text formats only: `squeue --json` ignores filters and changed shape three times.

Sources: sbatch(1), srun(1), squeue(1), sacct(1), "job reason codes" and "job exit codes" of the Slurm documentation.
"""

from __future__ import annotations

import re
import shlex
import signal
from collections.abc import Callable, Mapping, Sequence

from noria.errors import Unavailable
from noria.jobs.dialect import Node, Other, Placement, Queue, Seen, Wait
from noria.jobs.idioms import (
    HELD,
    REQUEUES,
    alone,
    clock,
    exited,
    job_id,
    launcher,
    local_time,
    log_path,
    megabytes,
    printable,
    sane,
    slots,
    tag,
    untaken,
    usable,
    visible,
)
from noria.process import Answer
from noria.types import Cause, Job, JobSpec, JobState

PROBE = ["scontrol", "ping"]
QUEUES = ["sinfo", "-h", "-o", "%P|%a|%l|%F|%C"]
NODES = ["scontrol", "-d", "-o", "show", "node"]
CROWD = ["env", "SLURM_TIME_FORMAT=%s", "squeue", "-h", "-a", "-t", "R,PD", "-o", "%i|%T|%u|%a|%q|%P|%Q|%D|%C|%b|%L|%S|%j"]
STOPS = frozenset({signal.SIGTERM, signal.SIGINT})
GRACE = 25.0  # KillWait is 30 s unless a site says otherwise; the last word needs some.

TRANSIENT = (
    r"unable to contact slurm controller|timed out|connection refused|temporarily|standby|zero bytes|"
    r"transport endpoint|communication connection failure|controller not responding|MaxSubmitJob"
)

WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT")

ENDS: dict[str, tuple[JobState, str]] = {
    "COMPLETED": ("COMPLETED", ""),
    "FAILED": ("FAILED", ""),
    "CANCELLED": ("CANCELLED", "It was cancelled."),
    "TIMEOUT": ("FAILED", "It reached its time limit; ask for more with --time."),
    "OUT_OF_MEMORY": ("FAILED", "It used more memory than it asked for; ask for more with --mem."),
    "NODE_FAIL": ("FAILED", "A node that it ran on failed."),
    "BOOT_FAIL": ("FAILED", "A node did not boot."),
    "PREEMPTED": ("FAILED", "It was preempted by a job of higher priority."),
    "DEADLINE": ("FAILED", "It could not end before its deadline."),
    "REVOKED": ("FAILED", "Another cluster of the federation took it."),
}

CAUSES: dict[str, Cause] = {
    "CANCELLED": "cancelled", "TIMEOUT": "time_limit", "OUT_OF_MEMORY": "out_of_memory", "NODE_FAIL": "node_failure", "BOOT_FAIL": "node_failure",
    "PREEMPTED": "preempted", "DEADLINE": "cancelled", "REVOKED": "cancelled",
}  # fmt: skip

PENDING = {
    "None": "",
    "Resources": "Next in line: waits until enough nodes are free.",
    "Priority": "Jobs of higher priority wait before it.",
    "Dependency": "Waits for another job to end.",
    "DependencyNeverSatisfied": "Waits for a job that can no longer end as required; cancel it.",
    "BeginTime": "Its start time has not come yet.",
    "JobHeldUser": HELD,
    "JobHeldAdmin": "Held by an administrator.",
    "JobArrayTaskLimit": "As many tasks of its array run as are allowed at once.",
    "Licenses": "Waits for a licence.",
    "PartitionDown": "Its partition is down.",
    "PartitionInactive": "Its partition takes no jobs to run at present.",
    "PartitionNodeLimit": "Asks for more nodes than its partition allows; lower --nodes.",
    "PartitionTimeLimit": "Asks for more time than its partition allows; lower --time.",
    "ReqNodeNotAvail": "A node that it needs is down or reserved, perhaps for maintenance.",
    "Reservation": "Waits for its reservation to begin.",
    "BadConstraints": "No node has what it asks for; it will never start.",
    "NodeDown": "A node that it needs is down.",
    "InvalidAccount": "Its account is not valid.",
    "InvalidQOS": "Its quality of service is not valid.",
    "AccountNotAllowed": "Its account may not use this partition.",
    "QOSNotAllowed": "Its quality of service may not use this partition.",
    "Cleaning": "Slurm cleans up after an earlier try.",
    "Prolog": "Slurm prepares its nodes.",
    "SystemFailure": "Slurm itself failed; ask the administrators.",
    "launch failed requeued held": "It could not be started and is held; look into logs/scheduler.log.",
    "Nodes required for job are DOWN, DRAINED or reserved for jobs in higher priority partitions": (
        "The nodes that it needs are down, drained or reserved."
    ),
}

LIMITS = (
    (r"^(QOS|Assoc).*(Gres|GRES)", "As many GPUs are in use as you or your group may use at once."),
    (r"^(QOS|Assoc).*Cpu", "As many CPUs are in use as you or your group may use at once."),
    (r"^(QOS|Assoc).*Mem", "As much memory is in use as you or your group may use at once."),
    (r"^(QOS|Assoc).*Node", "As many nodes are in use as you or your group may use at once."),
    (r"^(QOS|Assoc).*Jobs", "As many jobs run as you or your group may run at once."),
    (r"^(QOS|Assoc).*(Wall|Minutes|RunMin)", "Your group's time is used up, or --time is more than allowed."),
    (r"^(QOS|Assoc).*Limit", "You or your group are at a limit of your account."),
)


def learn(run: Callable[[Sequence[str]], Answer]) -> dict[str, str]:
    return {}  # Slurm's options are the same everywhere.


TAKEN = {
    "--array": "Use --array.", "-a": "Use --array.", "--comment": "Leave it out: by the comment Noria finds its jobs again.",
    "--requeue": REQUEUES, "--no-requeue": REQUEUES, "--wait": "Use noria wait.", "-W": "Use noria wait.", "--test-only": "Use --dry-run.",
}  # fmt: skip


def check(spec: JobSpec) -> None:
    sane(spec)
    untaken(spec, TAKEN)


def script(job: Job, folder: str, python: str) -> str:
    spec = job.spec
    printable(folder, "\\", "Slurm")  # one backslash turns off every % in the path of a log
    lines = ["#!/bin/bash", *(f"#SBATCH --{directive}" for directive in _directives(job, folder))]
    lines += ["unset SLURM_EXPORT_ENV  # --export=NONE would leave srun without PATH"]
    lines += [f"cd {shlex.quote(folder)} || exit"]
    start = launcher(python, folder, job)
    if not alone(spec):
        # One failed launcher must not have the others killed, nor may an early end: they end each other, with a word why.
        start = ["srun", f"--nodes={spec.nodes}", f"--ntasks={spec.nodes}", "--ntasks-per-node=1", f"--cpus-per-task={slots(spec)}",
                 "--kill-on-bad-exit=0", "--wait=0", *start]  # fmt: skip
    return "\n".join([*lines, f"exec {shlex.join(start)}", ""])


def _directives(job: Job, folder: str) -> list[str]:
    spec = job.spec
    asked = [
        f"job-name={_word(' '.join(spec.name.split()) or tag(job))}",
        f"comment={_word(tag(job))}",
        f"output={_word(log_path(folder).replace('%', '%%'))}",
        "open-mode=append",
        "no-requeue",  # the site's default may be to requeue, and Noria does that itself
        "export=NONE",
    ]
    asked += [f"exclude={','.join(spec.exclude)}"] if spec.exclude else []
    if spec.as_is:
        return asked
    gpus = f"gpu:{spec.gpu_type}:{spec.gpus}" if spec.gpu_type else f"gpu:{spec.gpus}"
    tasks, cpus = (spec.tasks_per_node, spec.cpus) if spec.script else (1, slots(spec))  # a task of Slurm's is a launcher of ours
    asked += [f"nodes={spec.nodes}", f"ntasks-per-node={tasks}", f"cpus-per-task={cpus}"]
    asked += [f"gres={gpus}"] if spec.gpus else []
    asked += [f"mem={megabytes(spec.mem)}M"] if spec.mem else []
    asked += [f"time={clock(spec.time)}"] if spec.time else []
    named = {"partition": spec.queue, "account": spec.account, "qos": spec.qos, "constraint": spec.constraint,
             "reservation": spec.reservation, "nice": spec.nice, "priority": spec.priority}  # fmt: skip
    asked += [f"{name}={_word(str(value))}" for name, value in named.items() if value]
    asked += ["exclusive"] if spec.exclusive else []
    return asked + ([f"begin={local_time(spec.begin, '%Y-%m-%dT%H:%M:%S')}"] if spec.begin else [])


def _word(text: str) -> str:
    """A directive's value. sbatch's own parser has both quotes, and a backslash that works inside them."""
    if re.fullmatch(r"[\w./:=@,+%-]+", text):
        return text
    return '"' + re.sub(r'(["\\])', r"\\\1", "".join(c for c in text if c.isprintable())) + '"'


def submit(script: str, job: Job) -> list[str]:
    return ["sbatch", "--parsable", *job.spec.raw, script]


def submitted(answer: Answer) -> str:
    return job_id(answer, r"^(\d+)(?:;\S+)?$", "Slurm", TRANSIENT)


def query(user: str) -> list[str]:
    return [
        "squeue",
        "-h",
        "-u",
        user,
        "-t",
        "all",
        "-o",
        "%i|%T|%r|%k",
    ]  # also those that have just ended: not every site keeps accounts


def states(answer: Answer) -> dict[str, Seen]:
    text = usable(answer, "Slurm")
    rows = re.findall(r"^(\d[^|\n]*)\|([A-Z_]+)\|([^|\n]*)\|(.*)$", text, re.MULTILINE)  # a comment may go on on other lines
    if text.strip() and not rows:
        raise Unavailable(f"Slurm's list of jobs cannot be read: {text[:200]!r}.")
    return {number: _queued(state, reason, comment) for number, state, reason, comment in rows}


def _queued(state: str, reason: str, comment: str) -> Seen:
    mark = comment if comment.startswith("noria-") else ""
    if state in ENDS:  # still listed, but no code is told here: sacct has it
        return Seen(ENDS[state][0], None, ENDS[state][1], mark, CAUSES.get(state, "unknown"))
    if state in WAITING:
        return Seen("SUBMITTED", None, _explain(reason), mark)
    return Seen("RUNNING", None, {"SUSPENDED": "Suspended.", "CONFIGURING": "Its nodes are made ready."}.get(state, ""), mark)


def _explain(reason: str) -> str:
    """A pending reason as a sentence; Slurm's own word where we have none."""
    known = PENDING.get(reason, PENDING.get(reason.split(",")[0].strip("() ")))
    if known is not None:
        return known
    return next((text for pattern, text in LIMITS if re.search(pattern, reason)), f"Slurm says: {reason}.")


def final(ids: Sequence[str]) -> list[str] | None:
    return ["sacct", "-nPX", "-o", "JobID,State,ExitCode", "-j", ",".join(ids)]


def finals(answer: Answer) -> dict[str, Seen]:
    rows = [line.split("|") for line in answer.out.splitlines()]
    ended = {row[0]: _ended(row[1].split()[0], row[2]) for row in rows if len(row) == 3 and row[1]}
    return {number: seen for number, seen in ended.items() if seen is not None}


def _ended(state: str, code: str) -> Seen | None:
    """The end of one row of sacct; None if it has none yet. `code` is exit:signal."""
    if state not in ENDS:
        return None
    kind, reason = ENDS[state]
    status, signal = (int(part) for part in code.split(":"))
    if state == "OUT_OF_MEMORY":
        return Seen(kind, 137, reason, cause="out_of_memory")  # 0:125 is a mark of Slurm's, the kernel sent KILL
    if (status, signal) == (0, 53):
        return Seen(kind, None, "Slurm could not start it: its folder cannot be written on the node.")
    if kind == "COMPLETED" or (state == "FAILED" and status + signal > 0):
        return exited(128 + signal if signal else status)
    return Seen(kind, (128 + signal if signal else status) or None, reason, cause=CAUSES.get(state, "unknown"))


def cancel(ids: Sequence[str]) -> list[str]:
    return ["scancel", *ids]


def hold(ids: Sequence[str]) -> list[str]:
    return ["scontrol", "uhold", ",".join(ids)]  # what a user holds, a user may release, whoever runs the agent


def release(ids: Sequence[str]) -> list[str]:
    return ["scontrol", "release", ",".join(ids)]


def inquiry(id: str, user: str) -> list[list[str]]:
    return [
        ["scontrol", "-o", "show", "job", id],
        CROWD,
        ["scontrol", "-o", "show", "assoc_mgr", f"users={user}", "flags=qos,assoc"],
        ["sprio", "-h", "-l", "-j", id],
    ]


NEVER = ("BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS", "AccountNotAllowed", "QOSNotAllowed",
         "PartitionNodeLimit", "PartitionTimeLimit")  # fmt: skip


def wait(id: str, answers: Sequence[Answer]) -> Wait:
    said = dict(re.findall(r"(?:^| )([\w:/]+)=(\S*)", answers[0].out))
    word = said.get("Reason", "")
    rows = _rows(answers[1])
    mine = next((row for row in rows if row[0] == id), None)
    words = [f"scontrol show job: Reason={word}"] if word else []
    words += [f"scontrol show job: Dependency={said['Dependency']}"] if said.get("Dependency", "(null)") != "(null)" else []
    words += _limits(word, said, answers[2].out)
    words += [f"sprio: {' '.join(line.split())}" for line in answers[3].out.splitlines()[:1] if answers[3].code == 0]
    at = int(mine[11]) * 1000 if mine and mine[11].isdecimal() else None
    return Wait(_explain(word), words, [_other(row) for row in _rivals(word, rows, mine)] if mine else [], word in NEVER, at)


def _rows(answer: Answer) -> list[list[str]]:
    return [fields for line in answer.out.splitlines() if len(fields := line.split("|", 12)) == 13]


def crowd(answer: Answer) -> list[Other]:
    rows = sorted(_rows(answer), key=lambda row: (row[1] != "RUNNING", -int(row[6]) if row[6].isdecimal() else 0))
    return [_other(row) for row in rows]


def _rivals(word: str, rows: list[list[str]], mine: list[str]) -> list[list[str]]:
    """Who has what it waits for: those whom a limit counts too, or who runs in its partition, and who waits before it there."""
    _, _, user, account, qos, partition, priority, *_ = mine
    running = [row for row in rows if row[1] == "RUNNING"]
    if re.match(r"QOS.*PerUser|AssocMax", word):
        return [row for row in running if row[2] == user and (row[4] == qos or word.startswith("Assoc"))]
    if word.startswith(("QOS", "Assoc")):
        return [row for row in running if (row[4] == qos if word.startswith("QOS") else row[3] == account)]
    first = [row for row in rows if row[1] == "PENDING" and int(row[6]) > int(priority)] if word == "Priority" else []
    return [row for row in (*first, *running) if row[5] == partition] if word in ("Resources", "Priority", "Nodes") else []


def _other(row: list[str]) -> Other:
    gpus = re.search(r"gpu(?::[^:,]+)?:(\d+)", row[9])
    count = int(gpus[1]) * int(row[7]) if gpus else 0
    return Other(row[0], row[2], row[1] == "RUNNING", int(row[7]), int(row[8]), count, seconds(row[10]), row[12], row[5])


def _limits(word: str, said: Mapping[str, str], text: str) -> list[str]:
    """The limits that this job would break, as LIMIT(used), of its account or its quality of service."""
    kind = "QOS=" + said.get("QOS", "") if word.startswith("QOS") else "Account=" + said.get("Account", "")
    wants = {name: _amount(count) for name, _, count in (part.partition("=") for part in said.get("TRES", "").split(","))}
    found = []
    for line in text.splitlines() if word.startswith(("QOS", "Assoc")) else ():
        if not re.search(rf"(?:^| ){re.escape(kind)}\b", line):
            continue
        for name, most, used in re.findall(r"([\w/]+)=(\d+)\((\d+)\)", line):
            if int(used) + wants.get(name, 1) > int(most):
                found.append(f"{kind} allows {name} {most}, and {used} are in use")
    return found


def _amount(text: str) -> int:
    """Of TRES; memory counts megabytes."""
    found = re.match(r"([\d.]+)([KMGT]?)", text)
    return int(float(found[1]) * {"K": 1 / 1024, "G": 1024, "T": 1 << 20}.get(found[2], 1)) if found else 0


def queues(answer: Answer) -> list[Queue]:
    found, text = [], usable(answer, "Slurm")
    try:
        for line in text.splitlines():
            name, up, limit, nodes, cpus = line.split("|")
            (_, free_nodes, _, all_nodes), (_, free_cpus, _, all_cpus) = (_counts(nodes), _counts(cpus))
            found.append(
                Queue(name.rstrip("*"), up, name.endswith("*"), seconds(limit), all_nodes, free_nodes, all_cpus, free_cpus)
            )
    except ValueError:
        raise Unavailable(f"Slurm's list of partitions cannot be read: {text[:200]!r}.") from None
    return found


def _counts(text: str) -> list[int]:
    """Allocated, idle, other and all, as sinfo's %F and %C say; large ones may end in K."""
    return [int(float(part.rstrip("K")) * (1024 if part.endswith("K") else 1)) for part in text.split("/")]


def seconds(text: str) -> int | None:
    """Slurm's times: MM, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS; None for what is no limit, or no time."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if not found:
        return None
    days, first, second, third = (int(part or 0) for part in found.groups())
    if found[1] or found[4]:
        return days * 86_400 + first * 3600 + second * 60 + third
    return first * 60 + second


def nodes(answer: Answer) -> list[Node]:
    return [_node(line) for line in usable(answer, "Slurm").splitlines() if line.startswith("NodeName=")]


def _node(line: str) -> Node:
    said = dict(re.findall(r"(\w+)=(\S*)", line))
    reason = re.search(r" Reason=(.*?)(?: \[|  |$)", line)
    cpus, mem = int(said.get("CPUTot", 0)), int(said.get("RealMemory", 0))
    has, used = (re.findall(r"gpu(?::([A-Za-z][^:,()]*))?:(\d+)", said.get(name, "")) for name in ("Gres", "GresUsed"))
    gpus = sum(int(count) for _, count in has)
    return Node(
        said["NodeName"], said.get("State", "").lower(), cpus, cpus - int(said.get("CPUAlloc", 0)), mem << 20,
        (mem - int(said.get("AllocMem", 0))) << 20, gpus, gpus - sum(int(count) for _, count in used), sorted({kind for kind, _ in has if kind}),
        [name for name in said.get("Partitions", "").split(",") if name], reason[1] if reason else "",
    )  # fmt: skip


def placement(env: Mapping[str, str], read: Callable[[str], str], run: Callable[[Sequence[str]], Answer]) -> Placement:
    nodes = env.get("SLURM_JOB_NODELIST", "")
    names = [nodes] if nodes and not re.search(r"[\[,]", nodes) else _hostnames(run(["scontrol", "show", "hostnames", nodes]))
    return Placement(names, int(env.get("SLURM_NODEID", "0")), visible(env))


def _hostnames(answer: Answer) -> list[str]:
    if answer.code != 0 or not answer.out.split():
        raise Unavailable(f"Slurm did not name the job's nodes: {answer.err.strip() or 'scontrol printed nothing'}.")
    return answer.out.split()
