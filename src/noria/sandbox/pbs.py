"""The commands of OpenPBS 23.06: qsub, qstat, qdel, qhold, qrls, qsig, pbsnodes, pbs_tmrsh, pbsdsh.

Sources: the manual pages of these commands, and what real ones printed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from noria import process
from noria.sandbox.box import OPEN, Ask, Box, Job, Node, waits_for
from noria.sandbox.words import Refused, clock, ends_with_words, mebibytes, numbers

SERVER, QUEUES, KILL_DELAY = "sandbox", ("workq", "high"), 10.0
_KINDS = {"afterok": "ok", "afternotok": "notok", "afterany": "any", "after": "any"}
_WHY = {"JobHeldUser": "", "BeginTime": "", "Dependency": "", "DependencyNeverSatisfied": "",
        "": "Not Running: Insufficient amount of resource: ncpus"}  # fmt: skip


def environment(job: Job, box: Box) -> dict[str, str]:
    nodefile = box.folder / f"nodes-{job.key}"
    nodefile.write_text("".join(f"{host}\n" * job.ask.tasks for host in job.hosts))
    env = {"PBS_JOBID": _id(job), "PBS_NODEFILE": str(nodefile), "PBS_O_WORKDIR": job.ask.extra["dir"], "PBS_JOBNAME": job.ask.name,
           "NCPUS": str(job.ask.cpus), "OMP_NUM_THREADS": job.ask.extra["threads"], "PBS_QUEUE": job.ask.extra["queue"],
           "PBS_ENVIRONMENT": "PBS_BATCH"}  # fmt: skip
    return env if job.member is None else env | {"PBS_ARRAY_INDEX": str(job.member), "PBS_ARRAY_ID": _array(job)}


def log(job: Job) -> str:
    out = job.ask.out.replace("^array_index^", str(job.member))
    return f"{out}/{_id(job)}.OU" if Path(out).is_dir() else out


def ending(job: Job) -> tuple[int, float]:
    return signal.SIGTERM, KILL_DELAY


def _id(job: Job) -> str:
    return f"{job.number}.{SERVER}" if job.member is None else f"{job.number}[{job.member}].{SERVER}"


def _array(job: Job) -> str:
    return f"{job.number}[].{SERVER}"


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("qsub", allow_abbrev=False, add_help=False, exit_on_error=False)
    for flag in ("-f", "-h", "-V"):
        parser.add_argument(flag, action="store_true")
    for short in ("-N", "-r", "-j", "-k", "-o", "-e", "-q", "-A", "-P", "-p", "-a", "-J", "-S", "-m", "-M"):
        parser.add_argument(short, default="")
    for short in ("-l", "-W", "-v"):
        parser.add_argument(short, action="append", default=[])
    return parser


def qsub(box: Box, argv: list[str]) -> int:
    try:
        options, first, rest = ends_with_words(_options(), argv)
        bare = "--" in argv[len(options) : len(options) + 1]
        text = "" if bare else Path(first).read_text() if first else sys.stdin.read()
        directives = [
            word for line in re.findall(r"^#PBS\s+(.*)$", text, re.MULTILINE) for word in shlex.split(line, comments=True)
        ]
        given = _options().parse_args([*directives, *options])
        ask = _ask(given, text, [first, *rest] if bare else rest, box)
    except (Refused, OSError, argparse.ArgumentError, ValueError) as error:
        print(f"qsub: {error}", file=sys.stderr)
        return 2
    if given.q and given.q not in QUEUES:
        print("qsub: Unknown queue", file=sys.stderr)
        return 170
    members = list(numbers(given.J.partition("%")[0])) if given.J else None
    number = box.submit(ask, members)
    print(f"{number}[].{SERVER}" if members else f"{number}.{SERVER}")
    return 0


def _ask(given: argparse.Namespace, text: str, words: list[str], box: Box) -> Ask:
    if " " in given.N:
        raise Refused("illegal -N value")
    asked: dict[str, str] = dict(part.partition("=")[::2] for each in given.l for part in each.split(","))
    chunk = asked.get("select", "1")
    count, *parts = chunk.partition("+")[0].split(":")
    each: dict[str, str] = dict(part.partition("=")[::2] for part in parts)
    unknown = set(each) - {"ncpus", "mpiprocs", "ompthreads", "ngpus", "mem", "host", "vnode", "gpu_type"}
    if unknown:
        raise Refused(f"Unknown resource: {sorted(unknown)[0]}")
    copy = box.logs / f"{time.time_ns()}-{given.N or 'STDIN'}"
    copy.write_text(text)
    copy.chmod(0o700)
    home = os.environ.get("HOME", "/")
    env = {name: value for one in given.v for name, value in _variables(one)} | (dict(os.environ) if given.V else {})
    out = given.o.partition(":")[2] if re.match(r"[\w.-]*:/", given.o) else given.o
    return Ask(
        words if not text else ["/bin/bash", str(copy), *words], home, str(Path(os.getcwd()) / (out or f"{given.N or 'STDIN'}.o")),
        given.N or "STDIN", int(count), int(each.get("mpiprocs", 1)), int(each.get("ncpus", 1)),
        mebibytes(each["mem"]) if "mem" in each else 0, int(each.get("ngpus", 0)), clock(asked.get("walltime", "0")), _begin(given.a),
        [one for item in given.W for one in _after(item)], given.h, given.r != "n", env, [], True,
        {"dir": os.getcwd(), "queue": given.q or "workq", "threads": each.get("ompthreads", each.get("ncpus", "1")), "chunk": chunk,
         "account": given.A, "project": given.P or "_pbs_project_default", "variables": ",".join(given.v), "walltime": asked.get("walltime", ""),
         "rerun": "False" if given.r == "n" else "True", "priority": given.p or "0"},
    )  # fmt: skip


def _variables(text: str) -> Iterator[tuple[str, str]]:
    lexer = shlex.shlex(text, posix=True)
    lexer.whitespace, lexer.whitespace_split, lexer.commenters = ",", True, ""
    for word in lexer:
        name, equals, value = word.partition("=")
        if equals or name in os.environ:
            yield name, value if equals else os.environ[name]


def _begin(text: str) -> float:
    """[[[[CC]YY]MM]DD]hhmm[.SS]"""
    if not text:
        return 0.0
    digits, _, secs = text.partition(".")
    whole = time.strftime("%Y%m%d%H%M")[: 12 - len(digits)] + digits
    return time.mktime(time.strptime(whole + (secs or "00"), "%Y%m%d%H%M%S"))


def _after(text: str) -> list[tuple[str, int]]:
    kind, *ids = text.removeprefix("depend=").split(":")
    return [(_KINDS[kind], int(_number_of(each))) for each in ids] if kind in _KINDS else []


def _number_of(job: str) -> str:
    """The digits in front of an id such as 12[3].server; "0", which is nobody's, if there are none."""
    found = re.match(r"\d+", job)
    return found[0] if found else "0"


def _chosen(box: Box, ids: list[str]) -> list[Job]:
    wanted = [re.fullmatch(r"(\d+)(\[([\d,:-]*)\])?(\..*)?", each) for each in ids]
    found = []
    for match in filter(None, wanted):
        members = set(numbers(match[3])) if match[3] else None
        found += [job for job in box.look().jobs if job.number == int(match[1]) and (members is None or job.member in members)]
    return found


def qstat(box: Box, argv: list[str]) -> int:
    if "-B" in argv:
        print(f"Server: {SERVER}\n    server_state = Active\n    pbs_version = 23.06.06\n    job_history_enable = True\n")
        return 0
    if "-Q" in argv:
        _queues(box)
        return 0
    ended, parts = "-x" in argv or "-H" in argv, "-t" in argv
    ids = [word for word in argv if word[0].isdigit()]
    jobs = _chosen(box, ids) if ids else box.look().jobs
    known, code = {str(job.number) for job in jobs}, 0
    for each in ids:
        if _number_of(each) not in known:
            print(f"qstat: Unknown Job Id {each}", file=sys.stderr)
            code = 153
    shown = [job for job in jobs if job.state in OPEN or ended]
    if ids and not ended and len(shown) < len(jobs):
        print(f"qstat: {_id(jobs[0])} Job has finished, use -x or -H to obtain historical job information", file=sys.stderr)
        code = 35
    records = _records(shown, jobs, parts=parts or any("[" in each and "[]" not in each for each in ids))
    if "json" in argv:
        print(
            msgspec.json.encode(
                {"pbs_version": "23.06.06", "pbs_server": SERVER, "Jobs": {key: _nested(said) for key, said in records}}
            ).decode()
        )
    elif "-f" in argv:
        for key, said in records:
            print(f"Job Id: {key}")
            for name, value in said.items():
                print(_wrapped(f"    {name} = {value}"))
            print()
    elif records:
        print("Job id            Name             User              Time Use S Queue\n"
              "----------------  ---------------- ----------------  -------- - -----")  # fmt: skip
        for key, said in records:
            print(
                f"{key[:17]:17} {said['Job_Name'][:16]:16} {said['Job_Owner'].partition('@')[0][:16]:16}  00:00:00 {said['job_state']} {said['queue']}"
            )
    return code


def _records(shown: list[Job], jobs: list[Job], *, parts: bool) -> list[tuple[str, dict[str, str]]]:
    """An array is one record, in state B while one of its members is open, unless its parts are asked for."""
    found: list[tuple[str, dict[str, str]]] = []
    seen = set()
    for job in shown:
        if job.member is not None and job.number not in seen:
            seen.add(job.number)
            members = [each for each in jobs if each.number == job.number]
            still = any(each.state in OPEN for each in members)
            found.append((_array(job), _said(job, jobs) | {"job_state": "B" if still else "F", "array": "True"}))
        if job.member is None or parts:
            found.append((_id(job), _said(job, jobs)))
    return found


def _said(job: Job, jobs: list[Job]) -> dict[str, str]:
    ask = job.ask
    reason = waits_for(job, jobs, time.time()) if job.state == "PENDING" else ""
    ended = job.state not in OPEN
    letter = {
        "RUNNING": "R",
        "PENDING": {"JobHeldUser": "H", "Dependency": "H", "DependencyNeverSatisfied": "H", "BeginTime": "W"}.get(reason, "Q"),
    }
    said = {
        "Job_Name": ask.name, "Job_Owner": f"{job.user}@{SERVER}", "job_state": letter.get(job.state, "X" if job.member is not None else "F"),
        "queue": ask.extra["queue"], "server": SERVER, "Join_Path": "oe", "Output_Path": f"{SERVER}:{log(job)}", "Priority": ask.extra["priority"],
        "qtime": _when(job.submitted), "Rerunable": ask.extra["rerun"], "Resource_List.nodect": str(ask.nodes),
        "Resource_List.select": ask.extra["chunk"], "substate": {"RUNNING": "42", "CANCELLED": "91"}.get(job.state, "92" if ended else "10"),
        "Variable_List": ",".join(filter(None, [f"PBS_O_HOME={os.environ.get('HOME', '/')}", f"PBS_O_WORKDIR={ask.extra['dir']}", ask.extra["variables"]])),
        "project": ask.extra["project"], "run_count": str(job.tries),
    }  # fmt: skip
    if ask.extra["walltime"]:
        said["Resource_List.walltime"] = ask.extra["walltime"]
    if job.hosts:
        said["exec_host"] = "+".join(f"{host}/0*{ask.cpus}" for host in job.hosts)
        said["stime"] = _when(job.started)
    if job.state == "PENDING" and not reason:
        said["comment"] = _WHY[""]
    if ended and job.tries:
        said["Exit_status"] = str(-29 if job.state == "TIMEOUT" else 256 + job.signal if job.signal else job.code)
        said["resources_used.walltime"] = time.strftime("%H:%M:%S", time.gmtime(job.ended - job.started))
    if job.state == "CANCELLED":
        said["comment"] = f"Job was terminated by {job.user}@{SERVER}"
    return said


def _nested(said: dict[str, str]) -> dict[str, object]:
    plain: dict[str, object] = {name: _number(value) for name, value in said.items() if "." not in name}
    below: dict[str, dict[str, object]] = {}
    for name, value in said.items():
        outer, dot, inner = name.partition(".")
        if dot:
            below.setdefault(outer, {})[inner] = _number(value)
    return {**plain, **below}


def _number(text: str) -> int | str:
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def _wrapped(line: str) -> str:
    """Real ones go on after 78 columns with a newline and a tab, anywhere in a word."""
    first, rest = line[:78], line[78:]
    return "\n\t".join([first, *(rest[at : at + 70] for at in range(0, len(rest), 70))])


def _when(moment: float) -> str:
    return time.ctime(moment)


def _queues(box: Box) -> None:
    jobs = box.look().jobs
    for queue in QUEUES:
        own = [job for job in jobs if job.ask.extra["queue"] == queue and job.state in OPEN]
        running = sum(job.state == "RUNNING" for job in own)
        print(f"Queue: {queue}\n    queue_type = Execution\n    total_jobs = {len(own)}\n    state_count = Transit:0 Queued:{len(own) - running} Held:0 Waiting:0 "
              f"Running:{running} Exiting:0 Begun:0 \n    enabled = True\n    started = True\n")  # fmt: skip


def _each(act: Callable[[Box, list[Job]], None], name: str) -> Callable[[Box, list[str]], int]:
    def command(box: Box, argv: list[str]) -> int:
        code = 0
        for each in [word for word in argv if word[0].isdigit()]:
            jobs = _chosen(box, [each])
            if not jobs:
                print(f"{name}: Unknown Job Id {each}", file=sys.stderr)
                code = 153
            elif all(job.state not in OPEN for job in jobs):
                print(f"{name}: Job has finished {each}", file=sys.stderr)
                code = 35
            else:
                act(box, jobs)
        return code

    return command


def pbsnodes(box: Box, argv: list[str]) -> int:
    content = box.look()
    said = {
        node.name: _node(node, [job for job in content.jobs if job.state == "RUNNING" and node.name in job.hosts])
        for node in content.nodes
    }
    if "json" in argv:
        print(
            msgspec.json.encode(
                {"pbs_version": "23.06.06", "pbs_server": SERVER, "nodes": {key: _nested(value) for key, value in said.items()}}
            ).decode()
        )
        return 0
    for name, fields in said.items():
        print(name)
        for key, value in fields.items():
            print(f"     {key} = {value}")
        print()
    return 0


def _node(node: Node, there: list[Job]) -> dict[str, str]:
    cpus, mem, gpus = (sum(getattr(job.ask, name) for job in there) for name in ("cpus", "mem", "gpus"))
    return {
        "Mom": node.name, "ntype": "PBS", "state": "free" if cpus < node.cpus else "job-busy", "pcpus": str(node.cpus),
        "resources_available.mem": f"{node.mem * 1024}kb", "resources_available.ncpus": str(node.cpus), "resources_available.ngpus": str(node.gpus),
        "resources_assigned.mem": f"{mem * 1024}kb", "resources_assigned.ncpus": str(cpus), "resources_assigned.ngpus": str(gpus),
        "resv_enable": "True", "sharing": "default_shared",
    }  # fmt: skip


def pbs_tmrsh(box: Box, argv: list[str]) -> int:
    """A command on a node: this machine is all of them."""
    return process.exit_code(process.beside(argv[1:], env=os.environ | {"HOSTNAME": argv[0]}).wait())


def pbsdsh(box: Box, argv: list[str]) -> int:
    words = argv[argv.index("--") + 1 :] if "--" in argv else argv
    hosts = Path(os.environ["PBS_NODEFILE"]).read_text().split()
    children = [
        process.beside(words, env=os.environ | {"PBS_VNODENUM": str(at), "HOSTNAME": host}) for at, host in enumerate(hosts)
    ]
    return max(process.exit_code(child.wait()) for child in children)


def _keys(jobs: list[Job]) -> set[str]:
    return {job.key for job in jobs}


COMMANDS: dict[str, Callable[[Box, list[str]], int]] = {
    "qsub": qsub, "qstat": qstat, "pbsnodes": pbsnodes, "pbs_tmrsh": pbs_tmrsh, "pbsdsh": pbsdsh,
    "qdel": _each(lambda box, jobs: box.cancel(jobs), "qdel"),
    "qhold": _each(lambda box, jobs: box.hold(_keys(jobs), held=True), "qhold"),
    "qrls": _each(lambda box, jobs: box.hold(_keys(jobs), held=False), "qrls"),
}  # fmt: skip
