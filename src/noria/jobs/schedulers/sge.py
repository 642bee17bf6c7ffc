"""Grid Engine: Son of, Open, Univa and Altair. Resources are asked for per slot, and one slot is one CPU.

What a site names as it likes is asked of qconf, and a profile's word goes before it: `pe`, the parallel environment; `gpu`, the
complex that counts GPUs; `mem`, the one that counts memory (not h_vmem if there is another: it limits the address space, of
which CUDA needs more than there is memory); `gpu_type` and `exclusive`.

The launcher must take USR2 for TERM: that is how Grid Engine warns, and KILL follows after the queue's `notify` time.

Sources: qsub(1), sge_pe(5), qacct(1), sge_status(5).
"""

from __future__ import annotations

import re
import shlex
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from xml.etree import ElementTree

from noria.errors import Invalid, Unavailable
from noria.jobs.dialect import Node, Other, Placement, Queue, Seen, Wait
from noria.jobs.idioms import (
    HELD,
    REQUEUES,
    alone,
    exited,
    fan_out,
    in_range,
    job_id,
    launcher,
    local_time,
    log_path,
    megabytes,
    passed,
    per_slot,
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

PROBE = ["qconf", "-sql"]  # PBS has a qstat and a qsub too, but no qconf
QUEUES = ["qstat", "-g", "c", "-xml"]
NODES = ["qhost", "-q", "-F", "-xml"]
CROWD = ["qstat", "-u", "*", "-xml", "-r", "-s", "rp"]
STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR2})  # USR2 comes with -notify, before KILL
GRACE = 25.0  # A queue's `notify` is 60 s, and without it nothing is said.

TRANSIENT = (
    r"unable to contact qmaster|unable to send message to qmaster|commlib error|got send error|got (no|timeout)|"
    r"connection refused|only \d+ jobs are allowed|timed out"
)

ENDS = {
    26: "Grid Engine could not write its log; look at the job's folder from a node.",
    28: "Grid Engine could not enter its folder.",
    37: "It reached its time limit, or another of its limits; ask for more with --time.",
}
CAUSES: dict[int, Cause] = {19: "node_failure", 26: "cannot_start", 28: "cannot_start", 37: "time_limit", 100: "killed"}
KILLED = 100  # the job was signalled, by qdel or by anyone: Grid Engine does not tell them apart
AGAIN = (24, 25)  # migrating, rescheduling: a try ended, not the job


REFUSED = {"qos": ("Grid Engine has no quality of service", "Leave it out, or say what stands for it there with --raw.")}
COMPLEXES = {
    "gpu": ("gpu", "ngpus", "gpus", "num_gpu", "cuda"),
    "mem": ("virtual_free", "mem_free", "m_mem_free", "ram", "h_vmem"),
    "gpu_type": ("gpu_type", "gputype", "gpu_model", "gpu_card"),
}


def learn(run: Callable[[Sequence[str]], Answer]) -> dict[str, str]:
    names = run(["qconf", "-spl"])
    if names.code != 0:
        return {}
    rules = {name: re.search(r"^allocation_rule\s+(\S+)", run(["qconf", "-sp", name]).out, re.M) for name in names.out.split()}
    return {f"pe.{name}": rule[1] for name, rule in rules.items() if rule} | complexes(run(["qconf", "-sc"]))


def complexes(answer: Answer) -> dict[str, str]:
    """The names of this site's complexes for what every job asks for, "" where it has none; {} if qconf -sc did not say."""
    rows = {row[0]: row for row in map(str.split, answer.out.splitlines()) if len(row) >= 8 and row[0] != "#name"}
    if answer.code != 0 or not rows:
        return {}
    counted = [name for name, row in rows.items() if row[5] != "NO"]
    among = {"gpu": counted, "mem": counted or list(rows), "gpu_type": list(rows)}
    found = {what: next((name for name in names if name in among[what]), "") for what, names in COMPLEXES.items()}
    once = {"gpu_per": "job"} if found["gpu"] and rows[found["gpu"]][5] == "JOB" else {}
    return found | once | {"exclusive": next((name for name, row in rows.items() if row[3] == "EXCL"), "")}


def check(spec: JobSpec) -> None:
    sane(spec)
    refuse(spec, REFUSED)
    untaken(
        spec,
        {
            "-r": REQUEUES,
            "-N": "Use --name: by the name Noria finds its jobs again.",
            "-t": "Use --array.",
            "-sync": "Use noria wait.",
        },
    )
    if spec.exclude and {name for name, _ in requirements(spec)} & {"hostname", "h"}:
        raise Invalid("--exclude and --constraint hostname are one request in Grid Engine.", "Give one of them.")
    in_range(spec, "Grid Engine", -1023, 1024)
    if spec.reservation and not spec.reservation.isdecimal():
        raise Invalid(
            f"--reservation {spec.reservation}: Grid Engine numbers reservations.", "Give the number that qrstat shows."
        )
    _resources(spec)


def script(job: Job, folder: str, python: str) -> str:
    printable(folder, "\"'\\$,:", "Grid Engine")
    start = launcher(python, folder, job)
    lines = ["#!/bin/bash", *(f"#$ {directive}" for directive in _directives(job, folder)), f"cd {shlex.quote(folder)} || exit"]
    if alone(job.spec):
        return "\n".join([*lines, f"exec {shlex.join(start)}", ""])
    hosts = """awk '!seen[$1]++ { print $1 }' "$PE_HOSTFILE\""""
    cure = f"Name a parallel environment whose allocation_rule is {slots(job.spec)} as pe in the profile (qconf -spl, qconf -sp)."
    there = [shlex.quote(word) for word in start]  # a shell on the other host reads the words once more
    return "\n".join([*lines, fan_out(hosts, job.spec.nodes, "qrsh -inherit -nostdin", start, there, cure)])


def _directives(job: Job, folder: str) -> list[str]:
    spec, name = job.spec, plain(job.spec.name)
    asked = ["-S /bin/bash", f"-N {f'{name}.' if name else ''}{tag(job)}", f'-o "{log_path(folder)}"', "-j y", "-r n", "-notify"]
    asked += [f"-l hostname=!({'|'.join(spec.exclude)})"] if spec.exclude else []
    if spec.as_is:
        return asked
    asked += [f"-l {resource}" for resource in _resources(spec)]
    if spec.nodes * slots(spec) > 1:
        asked += [f"-pe {_environment(spec)} {spec.nodes * slots(spec)}"]
    asked += [f"-q {spec.queue}"] if spec.queue else []
    asked += [f"-P {spec.account}"] if spec.account else []
    asked += [f"-ar {spec.reservation}"] if spec.reservation else []
    asked += [f"-p {spec.priority - spec.nice}"] if spec.priority or spec.nice else []
    return asked + ([f"-a {local_time(spec.begin, '%Y%m%d%H%M.%S')}"] if spec.begin else [])


def _resources(spec: JobSpec) -> list[str]:
    """What is asked for with -l, which counts for each slot."""
    asked = []
    if spec.gpus:
        asked += [f"{_complex(spec, 'gpu', '--gpus', 'counts GPUs')}={_gpus(spec)}"]
    if spec.gpu_type:
        asked += [f"{_complex(spec, 'gpu_type', '--gpus', 'says which GPUs a host has')}={spec.gpu_type}"]
    if spec.mem:
        asked += [f"{_complex(spec, 'mem', '--mem', 'counts memory')}={-(-megabytes(spec.mem) // slots(spec))}M"]
    if spec.exclusive:
        asked += [f"{_complex(spec, 'exclusive', '--exclusive', 'gives a host to one job')}=true"]
    asked += [f"{name}={value}" for name, value in requirements(spec)]
    return asked + ([f"h_rt={spec.time}"] if spec.time else [])


DEFAULTS = {"gpu": "gpu", "mem": "virtual_free", "gpu_type": "gpu_type", "exclusive": "exclusive"}


def _complex(spec: JobSpec, what: str, flag: str, does: str) -> str:
    name = spec.site.get(what, DEFAULTS[what])
    if not name:
        raise Invalid(
            f"{flag}: no complex of this site {does} (qconf -sc).", f"Name one as {what} in the profile, or ask the site."
        )
    return name


def _gpus(spec: JobSpec) -> str:
    """GPUs of one slot; where the site counts them per job instead, those of the job, which then has one node."""
    if spec.site.get("gpu_per") != "job":
        return per_slot(spec)
    if spec.nodes > 1:
        raise Invalid(f"--gpus {spec.gpus}: this site counts GPUs per job, on its first host alone.", "Ask for --nodes 1.")
    return str(spec.gpus)


def _environment(spec: JobSpec) -> str:
    rules = {name[3:]: rule for name, rule in spec.site.items() if name.startswith("pe.")}
    if spec.site.get("pe") or not rules:
        return spec.site.get("pe") or ("smp" if spec.nodes == 1 else "mpi")
    return parallel_environment(rules, spec.nodes, slots(spec))


def parallel_environment(rules: Mapping[str, str], nodes: int, count: int) -> str:
    """The parallel environment that gives `count` slots on each of `nodes`: `rules` are the allocation_rules by name."""
    wanted = ("$pe_slots", str(count)) if nodes == 1 else (str(count),)
    for rule in wanted:
        for name, found in rules.items():
            if found == rule:
                return name
    raise Invalid(
        f"--nodes {nodes} with {count} CPUs each: no parallel environment of this site gives them (qconf -spl).",
        f"Ask the site for one whose allocation_rule is {' or '.join(wanted)}, or change --tasks-per-node and --cpus.",
    )


def submit(script: str, job: Job) -> list[str]:
    return ["qsub", "-terse", *job.spec.raw, script]


def submitted(answer: Answer) -> str:
    return job_id(answer, r"^(\d+)$", "Grid Engine", TRANSIENT)


def query(user: str) -> list[str]:
    return ["qstat", "-xml", "-u", user]


def states(answer: Answer) -> dict[str, Seen]:
    root = _xml(answer, "list of jobs")
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
        return Seen("SUBMITTED", None, HELD if "h" in letters else "Waits for free slots.", mark)
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
        return Seen("FAILED", status or None, "It was killed, by qdel or otherwise." if status != 0 else text, cause="killed")
    return Seen("FAILED", status or None, ENDS.get(failed, f"Grid Engine says: {text}."), cause=CAUSES.get(failed, "unknown"))


def cancel(ids: Sequence[str]) -> list[str]:
    return ["qdel", *ids]


def hold(ids: Sequence[str]) -> list[str]:
    return ["qhold", ",".join(ids)]


def release(ids: Sequence[str]) -> list[str]:
    return ["qrls", ",".join(ids)]


def inquiry(id: str, user: str) -> list[list[str]]:
    return [["qstat", "-j", id], CROWD, ["qalter", "-w", "v", id]]


WAITS = (
    (r"error reason +\d+: +(.*)", "Grid Engine could not start it and keeps it in error: {}."),
    (r"can only run on an empty|(?:is|are) full|overload", "Waits for free slots."),
    (r"offers only|(?:because it offers|cannot run .* because).*", "Waits until enough of what it asks for is free."),
    (r"exceeds limit \"(.*?)\"|limit \"(.*?)\" in rule", "It would exceed the site's limit {}."),
    (r"job dependencies", "Waits for another job to end."),
    (r"user hold|on hold", HELD),
    (r"execution time not reached|start time", "Its start time has not come yet."),
    (r"not in (?:host|queue|ACL)|has no permission|access list|does not match", "The queues that would fit are not open to it."),
)


def wait(id: str, answers: Sequence[Answer]) -> Wait:
    about = re.findall(r"^(?:scheduling info|error reason)[^:]*: +(.*(?:\n {20,}.*)*)", answers[0].out, re.MULTILINE)
    lines = [" ".join(line.split()) for text in about for line in text.splitlines() if "scheduling information" not in line]
    full = f"{answers[0].out}\n"
    never = re.search(r"no suitable queues", answers[2].out + answers[2].err)
    reason = next(
        (_filled(says, found) for pattern, says in WAITS if (found := re.search(pattern, full))), "Waits for free slots."
    )
    said = [f"qstat -j: {line}" for line in lines[:6]] + ([f"qalter -w v: {never[0]}"] if never else [])
    others = crowd(answers[1])
    position = next((i for i, each in enumerate(others) if each.id == id), 0)
    before = [each for i, each in enumerate(others) if each.id != id and (each.is_running or i < position)]
    return Wait("No queue of this site can ever run it as it is." if never else reason, said, before, bool(never))


def crowd(answer: Answer) -> list[Other]:
    try:
        return [_other(row) for row in _xml(answer, "list of jobs").iter("job_list")]
    except Unavailable:
        return []


def _filled(says: str, found: re.Match[str]) -> str:
    return says.format(next((group.strip().rstrip(".") for group in found.groups() if group), ""))


def _other(row: ElementTree.Element) -> Other:
    """A job of anybody's, as qstat -r lists it: those that run come first, then the others in the order of their priority."""
    said = {field.tag: field.text or "" for field in row}
    asked = {field.get("name", ""): field.text or "" for field in row if field.tag == "hard_request"}
    slots, limit = _number(said.get("slots", "0")), _number(asked.get("h_rt", "")) or None
    gpus = next(
        (round(float(asked[name]) * slots) for name in COMPLEXES["gpu"] if re.fullmatch(r"[\d.]+", asked.get(name, ""))), 0
    )
    running, left = row.get("state") == "running", limit
    if limit and running and said.get("JAT_start_time"):
        began = time.mktime(time.strptime(said["JAT_start_time"].partition(".")[0], "%Y-%m-%dT%H:%M:%S"))
        left = max(0, int(began + limit - time.time()))
    return Other(
        said["JB_job_number"],
        said.get("JB_owner", ""),
        running,
        0,
        slots,
        gpus,
        left,
        said.get("JB_name", ""),
        said.get("queue_name", "").partition("@")[0],
    )


def queues(answer: Answer) -> list[Queue]:
    found = []
    for row in _xml(answer, "list of queues").iter("cluster_queue_summary"):
        said = {field.tag: field.text or "0" for field in row}
        total, off = (int(said.get(name, "0")) for name in ("total", "temp_disabled"))
        state = "down" if total and total <= off + int(said.get("manual_intervention", "0")) else "up"
        found.append(Queue(said.get("name", ""), state, cpus=total, free_cpus=int(said.get("available", "0"))))
    return found


def _xml(answer: Answer, what: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(usable(answer, "Grid Engine"))  # noqa: S314 (from the site's own commands, run as this user)
    except ElementTree.ParseError as error:
        raise Unavailable(f"Grid Engine's {what} cannot be read: {error}.") from None


def nodes(answer: Answer) -> list[Node]:
    hosts = _xml(answer, "list of hosts").iter("host")
    return [_node(host) for host in hosts if host.get("name") != "global"]


def _node(host: ElementTree.Element) -> Node:
    """A host, with the slots of its queues, since they share its CPUs; of a consumable (dominance hc) qhost says what is left."""
    value = {each.get("name"): each.text or "" for each in host.iter("hostvalue")}
    left = {each.get("name"): each.text or "" for each in host.iter("resourcevalue") if each.get("dominance") == "hc"}
    kinds = [each.text or "" for each in host.iter("resourcevalue") if each.get("name") in COMPLEXES["gpu_type"]]
    queues = {queue.get("name", ""): {each.get("name"): each.text or "" for each in queue} for queue in host.iter("queue")}
    cpus = max([int(said.get("slots") or 0) for said in queues.values()], default=0) or _number(value.get("num_proc", ""))
    states = "".join(sorted({letter for said in queues.values() for letter in said.get("state_string", "")}))
    gpus = next((_number(left[name]) for name in COMPLEXES["gpu"] if name in left), -1)
    mem, used = size(value.get("mem_total", "")), sum(int(said.get("slots_used") or 0) for said in queues.values())
    return Node(
        host.get("name", ""), _state(states, value.get("load_avg", "")), cpus, cpus - used, mem, mem - size(value.get("mem_used", "")),
        0 if gpus < 0 else None, max(gpus, 0), [kind for kind in kinds if kind], list(queues),
    )  # fmt: skip


def _state(letters: str, load: str) -> str:
    """The letters of a queue's instance as a word, the worst first (qstat(1))."""
    words = (("u", "down"), ("E", "error"), ("d", "disabled"), ("s", "suspended"), ("S", "suspended"), ("a", "overloaded"))
    return next((word for letter, word in words if letter in letters), "down" if load == "-" else "up")


def _number(text: str) -> int:
    try:
        return int(float(text))
    except ValueError:
        return 0


def size(text: str) -> int:
    """Sizes as qhost writes them, 3.9G, in bytes."""
    found = re.fullmatch(r"([\d.]+)([KMGT]?)", text)
    return int(float(found[1]) * 1024 ** " KMGT".index(found[2] or " ")) if found else 0


def placement(env: Mapping[str, str], read: Callable[[str], str], run: Callable[[Sequence[str]], Answer]) -> Placement:
    def hosts() -> list[str]:
        if "PE_HOSTFILE" not in env:  # one slot has no parallel environment
            return [env.get("HOSTNAME", "localhost")]
        return [line.split()[0] for line in read(env["PE_HOSTFILE"]).splitlines() if line.strip()]

    return passed(env, hosts)
