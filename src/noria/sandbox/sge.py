"""Grid Engine's commands, as version 8.1.9 answers: qsub, qstat, qacct, qdel, qhold, qrls, qmod, qconf, qhost, qrsh.

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
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from xml.sax.saxutils import escape

from noria import process
from noria.sandbox.box import OPEN, Ask, Box, Job, waits_for
from noria.sandbox.words import Refused, clock, ends_with_words, mebibytes

NOTIFY = 5.0
"""Seconds between the warning of a job with -notify and its end."""
PES = {"make": "$round_robin", "smp": "$pe_slots", "mpi": "$fill_up", "ppn1": "1", "ppn2": "2", "ppn4": "4"}
QUEUES = ("all.q", "high.q", "low.q")
_LETTERS = {"RUNNING": "r", "PENDING": "qw"}


def environment(job: Job, box: Box) -> dict[str, str]:
    ask, slots = job.ask, int(job.ask.extra["slots"])
    env = {"JOB_ID": str(job.number), "JOB_NAME": ask.name, "SGE_TASK_ID": "undefined" if job.member is None else str(job.member),
           "NSLOTS": str(slots), "NHOSTS": str(len(job.hosts)), "QUEUE": "all.q", "HOSTNAME": job.hosts[0], "SGE_O_WORKDIR": ask.cwd,
           "SGE_O_HOST": "sandbox", "RESTARTED": str(int(job.tries > 1)), "REQUEST": ask.name}  # fmt: skip
    if "pe" in ask.extra:
        hosts = box.folder / f"hosts-{job.key}"
        hosts.write_text("".join(f"{host} {slots // len(job.hosts)} all.q@{host} UNDEFINED\n" for host in job.hosts))
        env |= {"PE_HOSTFILE": str(hosts), "PE": ask.extra["pe"]}
    return env


def log(job: Job) -> str:
    said = {"JOB_ID": str(job.number), "JOB_NAME": job.ask.name, "TASK_ID": "undefined" if job.member is None else str(job.member),
            "HOSTNAME": job.hosts[0] if job.hosts else ""}  # fmt: skip
    return re.sub(r"\$(\w+)", lambda found: said.get(found[1], found[0]), job.ask.out)


def ending(job: Job) -> tuple[int, float]:
    return (signal.SIGUSR2, NOTIFY) if "notify" in job.ask.extra else (signal.SIGKILL, 0.0)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("qsub", allow_abbrev=False, add_help=False, exit_on_error=False)
    for flag in ("-terse", "-notify", "-cwd", "-V", "-h"):
        parser.add_argument(flag, action="store_true")
    for name in ("-N", "-o", "-e", "-j", "-r", "-q", "-P", "-A", "-p", "-a", "-t", "-tc", "-S", "-wd", "-w", "-hold_jid", "-hold_jid_ad", "-ckpt",
                 "-sync", "-b", "-js", "-R"):  # fmt: skip
        parser.add_argument(name, default="")
    parser.add_argument("-pe", nargs=2, default=[])
    for name in ("-l", "-v", "-ac"):
        parser.add_argument(name, action="append", default=[])
    return parser


def qsub(box: Box, argv: list[str]) -> int:
    try:
        options, script, rest = _split(argv)
        text = Path(script).read_text() if script else sys.stdin.read()
        directives = [word for line in re.findall(r"^#\$\s+(.*)$", text, re.MULTILINE) for word in shlex.split(line)]
        given = _options().parse_args([*directives, *options])
        ask = _ask(given, text, script, rest, box)
        if given.w == "e" and not box.possible(ask):
            raise Refused("Unable to run job: error: no suitable queues.\nExiting.")
    except (Refused, OSError, argparse.ArgumentError, ValueError) as error:
        print(str(error), file=sys.stderr)
        return 1
    members = _members(given.t) if given.t else None
    number = box.submit(ask, members)
    shown = f"{number}.{given.t}{':1' if ':' not in given.t else ''}" if given.t else str(number)
    print(shown if given.terse else f'Your job {shown} ("{ask.name}") has been submitted')
    return 0


def _split(argv: list[str]) -> tuple[list[str], str, list[str]]:
    """-pe takes two words, which argparse's own rule for where options end does not know."""
    if "-pe" not in argv:
        return ends_with_words(_options(), argv)
    at = argv.index("-pe")
    before, script, _ = ends_with_words(_options(), argv[:at])
    if script:
        return ends_with_words(_options(), argv)
    options, script, rest = ends_with_words(_options(), argv[at + 3 :])
    return [*before, *argv[at : at + 3], *options], script, rest


def _members(text: str) -> list[int]:
    first, _, step = text.partition(":")
    low, _, high = first.partition("-")
    if int(low) < 1:
        raise Refused("Numerical value invalid!")
    return list(range(int(low), int(high or low) + 1, int(step or 1)))


def _ask(given: argparse.Namespace, text: str, script: str, words: list[str], box: Box) -> Ask:
    if given.N[:1].isdigit():
        raise Refused(
            f'Unable to read script file because of error: "{given.N}" is not a valid object name (cannot start with a digit)'
        )
    nodes, slots = _slots(given.pe, box)
    asked = dict(part.partition("=")[::2] for each in given.l for part in each.split(","))
    unknown = set(asked) - {"h_rt", "s_rt", "gpu", "virtual_free", "mem_free", "h_vmem", "hostname", "gpu_type", "qname"}
    if unknown:
        raise Refused(f'Unable to run job: unknown resource "{sorted(unknown)[0]}".\nExiting.')
    if given.q and given.q.partition("@")[0] not in QUEUES:
        raise Refused(f'Unable to run job: Job was rejected because job requests unknown queue "{given.q}".\nExiting.')
    memory = asked.get("virtual_free") or asked.get("h_vmem") or asked.get("mem_free")
    name = given.N or Path(script or "STDIN").name
    cwd = given.wd or (os.getcwd() if given.cwd else os.environ.get("HOME", "/"))
    copy = box.logs / f"{time.time_ns()}-{Path(script or 'STDIN').name}"
    copy.write_text(text)
    copy.chmod(0o700)
    named = {one.partition("=")[0]: one.partition("=")[2] for each in given.v for one in each.split(",")}
    env = {name: value or os.environ.get(name, "") for name, value in named.items()} | (dict(os.environ) if given.V else {})
    extra = {"slots": str(nodes * slots)} | ({"pe": given.pe[0]} if given.pe else {}) | ({"notify": ""} if given.notify else {})
    extra |= {
        "context": ",".join(given.ac),
        "project": given.P,
        "account": given.A or "sge",
        "rerun": given.r,
        "priority": given.p or "0",
    }
    return Ask(
        [given.S or "/bin/bash", str(copy), *words], cwd, str(Path(cwd) / (given.o or f"{name}.o$JOB_ID")), name, nodes, 1, slots,
        mebibytes(memory) * slots if memory else 0, round(float(asked.get("gpu", 0)) * slots), clock(asked.get("h_rt", "0")),
        time.mktime(time.strptime(given.a, "%Y%m%d%H%M.%S" if "." in given.a else "%Y%m%d%H%M")) if given.a else 0.0,
        [("any", int(each)) for each in (given.hold_jid or given.hold_jid_ad).split(",") if each], given.h, given.r == "y", env, _left_out(asked.get("hostname", ""), box), True, extra,
    )  # fmt: skip


def _left_out(wanted: str, box: Box) -> list[str]:
    """The hosts that `-l hostname=` does not let a job have: names and patterns with |, or with !( ) around them all others (complex(5))."""
    names, negated = wanted.removeprefix("!").strip("()").split("|"), wanted.startswith("!")
    hosts = [node.name for node in box.look().nodes] if wanted else []
    return [host for host in hosts if any(fnmatchcase(host, name) for name in names) == negated]


def _slots(pe: list[str], box: Box) -> tuple[int, int]:
    """How many hosts, and slots on each, by the parallel environment's rule."""
    if not pe:
        return 1, 1
    name, total = pe[0], int(pe[1].partition("-")[0])
    if name not in PES:
        raise Refused(f'Unable to run job: job rejected: the requested parallel environment "{name}" does not exist.\nExiting.')
    if PES[name].isdigit():
        each = int(PES[name])
        if total % each:
            raise Refused("Unable to run job: error: no suitable queues.\nExiting.")
        return total // each, each
    most = min(node.cpus for node in box.look().nodes)
    hosts = 1 if PES[name] == "$pe_slots" else -(-total // most)
    return hosts, -(-total // hosts)


def _chosen(box: Box, words: list[str]) -> list[Job]:
    wanted = [each.partition(".") for each in words]
    return [job for job in box.look().jobs for number, _, member in wanted
            if str(job.number) == number and (not member or str(job.member) in member.split("-"))]  # fmt: skip


def qstat(box: Box, argv: list[str]) -> int:
    jobs = box.look().jobs
    if "-j" in argv:
        return _one(jobs, argv[argv.index("-j") + 1])
    if "-g" in argv:
        return _queues(box)
    user = argv[argv.index("-u") + 1] if "-u" in argv else process.whoami()
    shown = [job for job in jobs if job.state in OPEN and user in (job.user, "*")]
    if "-xml" not in argv:
        if shown:
            print(
                "job-ID  prior   name       user         state submit/start at     queue                          slots ja-task-ID\n"
                + "-" * 112
            )
        for job in shown:
            where = f"all.q@{job.hosts[0]}" if job.hosts else ""
            moment = time.strftime("%m/%d/%Y %H:%M:%S", time.localtime(job.started or job.submitted))
            print(f"{job.number:7} 0.55500 {job.ask.name[:10]:10} {job.user[:12]:12} {_state(job, jobs):5} {moment} {where[:30]:30} "
                  f"{job.ask.extra['slots']:>5} {'' if job.member is None else job.member}")  # fmt: skip
        return 0
    print(
        "<?xml version='1.0'?>\n<job_info  xmlns:xsd=\"http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd\">"
    )
    for tag, state in (("queue_info", "RUNNING"), ("job_info", "PENDING")):
        print(f"  <{tag}>")
        for job, tasks in _folded([job for job in shown if job.state == state]):
            print(_listed(job, tasks, jobs))
        print(f"  </{tag}>")
    print("</job_info>")
    return 0


def _queues(box: Box) -> int:
    content = box.look()
    total, used = (
        sum(node.cpus for node in content.nodes),
        sum(job.ask.cpus * len(job.hosts) for job in content.jobs if job.state == "RUNNING"),
    )
    print("<?xml version='1.0'?>\n<job_info>")
    for queue in QUEUES:
        rows = {"name": queue, "load": "0.10", "used": used if queue == QUEUES[0] else 0, "resv": 0, "available": total - used, "total": total,
                "temp_disabled": 0, "manual_intervention": 0}  # fmt: skip
        inside = "".join(f"    <{name}>{value}</{name}>\n" for name, value in rows.items())
        print(f"  <cluster_queue_summary>\n{inside}  </cluster_queue_summary>")
    print("</job_info>")
    return 0


def _folded(jobs: list[Job]) -> list[tuple[Job, str]]:
    """Waiting members of an array are one row with their span; running ones a row each."""
    found: dict[tuple[int, int | None], list[Job]] = {}
    for job in jobs:
        found.setdefault((job.number, job.member if job.state == "RUNNING" else None), []).append(job)
    return [(own[0], "" if own[0].member is None else str(own[0].member) if len(own) == 1 else f"{own[0].member}-{own[-1].member}:1")
            for own in found.values()]  # fmt: skip


def _listed(job: Job, tasks: str, jobs: list[Job]) -> str:
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(job.started or job.submitted))
    rows = [
        ("JB_job_number", str(job.number)), ("JAT_prio", "0.55500"), ("JB_name", job.ask.name), ("JB_owner", job.user),
        ("state", _state(job, jobs)), ("JAT_start_time" if job.state == "RUNNING" else "JB_submission_time", moment),
        ("queue_name", f"all.q@{job.hosts[0]}" if job.hosts else ""), ("slots", job.ask.extra["slots"]),
    ]  # fmt: skip
    rows += [("tasks", tasks)] if tasks else []
    inside = "\n".join(f"      <{name}>{escape(text)}</{name}>" for name, text in rows)
    return f'    <job_list state="{job.state.lower()}">\n{inside}\n    </job_list>'


def _state(job: Job, jobs: list[Job]) -> str:
    if job.state == "PENDING":
        waits = waits_for(job, jobs, time.time())
        return "hqw" if waits in ("JobHeldUser", "Dependency", "DependencyNeverSatisfied") else "Rq" if job.tries else "qw"
    return ("Rr" if job.tries > 1 else "r") if job.state == "RUNNING" else "d"


def _one(jobs: list[Job], number: str) -> int:
    found = [job for job in jobs if str(job.number) == number and job.state in OPEN]
    if not found:
        print(f"Following jobs do not exist: \n{number}", file=sys.stderr)
        return 1
    job = found[0]
    print("=" * 62)
    for name, text in (("job_number", number), ("job_name", job.ask.name), ("owner", job.user), ("context", job.ask.extra["context"]),
                       ("script_file", job.ask.script[-1])):  # fmt: skip
        print(f"{name + ':':28}{text}")
    if job.state == "PENDING" and not waits_for(job, jobs, time.time()):
        print(f'{"scheduling info:":28}cannot run in queue instance "all.q" because it has not enough free slots')
    return 0


def qacct(box: Box, argv: list[str]) -> int:
    wanted = argv[argv.index("-j") + 1] if "-j" in argv and len(argv) > argv.index("-j") + 1 else "*"
    jobs = [job for job in box.look().jobs if job.state not in OPEN and job.tries]
    found = [job for job in jobs if str(job.number) == wanted.partition(".")[0] or fnmatchcase(job.ask.name, wanted)]
    if not found:
        print(f"error: job id {wanted} not found" if wanted.isdigit() else f"error: job name {wanted} not found", file=sys.stderr)
        return 1
    for job in found:
        failed = (
            "37  : qmaster enforced h_rt, h_cpu, or h_vmem limit"
            if job.state == "TIMEOUT"
            else "100 : assumedly after job"
            if job.signal
            else "0"
        )
        failed = "26  : opening input/output file" if (job.code, job.signal) == (0, 53) else failed
        code = 128 + job.signal if job.signal and job.signal != 53 else job.code
        rows = {
            "qname": "all.q", "hostname": job.hosts[0], "group": job.user, "owner": job.user, "project": job.ask.extra["project"] or "NONE",
            "department": "defaultdepartment", "jobname": job.ask.name, "jobnumber": job.number,
            "taskid": "undefined" if job.member is None else job.member, "account": job.ask.extra["account"], "priority": "0",
            "qsub_time": time.ctime(job.submitted), "start_time": time.ctime(job.started), "end_time": time.ctime(job.ended),
            "granted_pe": job.ask.extra.get("pe", "NONE"), "slots": job.ask.extra["slots"], "failed": failed,
            "exit_status": f"{code}" + (f"                  ({signal.Signals(job.signal).name})" if job.signal and job.signal != 53 else ""),
            "ru_wallclock": f"{job.ended - job.started:.0f}s", "ru_maxrss": "0.000KB", "cpu": "0.000s", "maxvmem": "0.000B",
        }  # fmt: skip
        print("=" * 62)
        for name, text in rows.items():
            print(f"{name:12} {text}")
    return 0


def _each(act: Callable[[Box, list[Job]], None], said: str) -> Callable[[Box, list[str]], int]:
    def command(box: Box, argv: list[str]) -> int:
        code = 0
        for each in [word for word in argv if word[0].isdigit()]:
            jobs = [job for job in _chosen(box, [each]) if job.state in OPEN]
            if jobs:
                act(box, jobs)
                print(f"{jobs[0].user} {said} job {each}")
            else:
                print(f'denied: job "{each}" does not exist')
                code = 1
        return code

    return command


def _keys(jobs: list[Job]) -> set[str]:
    return {job.key for job in jobs}


def qmod(box: Box, argv: list[str]) -> int:
    if argv[:1] != ["-rj"]:
        print(f"qmod: this sandbox has no '{shlex.join(argv)}'", file=sys.stderr)
        return 1
    for job in _chosen(box, argv[1:]):
        box.requeue({job.key})
        print(f"{job.user} has registered the job-task {job.number}.{job.member or 1} for rescheduling")
    return 0


def qconf(box: Box, argv: list[str]) -> int:
    if argv == ["-sql"]:
        print("\n".join(QUEUES))
    elif argv == ["-spl"]:
        print("\n".join(PES))
    elif argv[:1] == ["-sp"] and argv[1] in PES:
        rows = {"pe_name": argv[1], "slots": "9999", "user_lists": "NONE", "xuser_lists": "NONE", "start_proc_args": "NONE",
                "stop_proc_args": "NONE", "allocation_rule": PES[argv[1]], "control_slaves": "TRUE", "job_is_first_task": "FALSE"}  # fmt: skip
        print("\n".join(f"{name:18} {text}" for name, text in rows.items()))
    elif argv == ["-sel"]:
        print("\n".join(node.name for node in box.look().nodes))
    elif argv[:1] == ["-se"] and argv[1:]:
        node = next(node for node in box.look().nodes if node.name == argv[1])
        print(
            f"hostname              {node.name}\ncomplex_values        slots={node.cpus},gpu={node.gpus},virtual_free={node.mem}M"
        )
    elif argv == ["-sc"]:
        print("#name               shortcut   type        relop requestable consumable default  urgency\n"
              "gpu                 gpu        INT         <=    YES         YES        0        0\n"
              "h_rt                h_rt       TIME        <=    YES         NO         0:0:0    0\n"
              "virtual_free        vf         MEMORY      <=    YES         YES        0        0")  # fmt: skip
    else:
        print(f"qconf: this sandbox has no '{shlex.join(argv)}'", file=sys.stderr)
        return 1
    return 0


def qhost(box: Box, argv: list[str]) -> int:
    content = box.look()
    xml = "-xml" in argv
    print(
        "<?xml version='1.0'?>\n<qhost>"
        if xml
        else "HOSTNAME                ARCH         NCPU NSOC NCOR NTHR  LOAD  MEMTOT  MEMUSE  SWAPTO  SWAPUS\n" + "-" * 91
    )
    for node in content.nodes:
        there = [job for job in content.jobs if job.state == "RUNNING" and node.name in job.hosts]
        free = {"slots": node.cpus - sum(job.ask.cpus for job in there), "gpu": node.gpus - sum(job.ask.gpus for job in there)}
        total = f"{node.mem / 1024:.1f}G"
        if xml:
            values = {
                "arch_string": "lx-amd64",
                "num_proc": node.cpus,
                "load_avg": "0.10",
                "mem_total": total,
                "mem_used": "0.5G",
            }
            print(f" <host name='{node.name}'>")
            for name, value in values.items():
                print(f"   <hostvalue name='{name}'>{value}</hostvalue>")
            for name, value in free.items() if "-F" in argv else ():
                print(f"   <resourcevalue name='{name}' dominance='hc'>{value:.6f}</resourcevalue>")
            taken = node.cpus - free["slots"]
            for queue in QUEUES if "-q" in argv else ():
                shown = {
                    "qtype_string": "BIP",
                    "slots_used": taken if queue == QUEUES[0] else 0,
                    "slots": node.cpus,
                    "slots_resv": 0,
                    "state_string": "",
                }
                print(f"   <queue name='{queue}'>")
                for name, value in shown.items():
                    print(f"     <queuevalue qname='{queue}' name='{name}'>{value}</queuevalue>")
                print("   </queue>")
            print(" </host>")
        else:
            print(
                f"{node.name:23} {'lx-amd64':12} {node.cpus:4}    1 {node.cpus:4} {node.cpus:4}  0.10 {total:>7}    0.5G     0.0     0.0"
            )
            for name, value in free.items() if "-F" in argv else ():
                print(f"   hc:{name}={value:.6f}")
    if xml:
        print("</qhost>")
    return 0


def qrsh(box: Box, argv: list[str]) -> int:
    """A command on a host of the job: this machine is all of them."""
    rest = [word for word in argv if word not in ("-inherit", "-nostdin", "-noshell", "-V")]
    return process.exit_code(process.beside(rest[1:], env=os.environ | {"HOSTNAME": rest[0]}).wait())


COMMANDS: dict[str, Callable[[Box, list[str]], int]] = {
    "qsub": qsub, "qstat": qstat, "qacct": qacct, "qmod": qmod, "qconf": qconf, "qhost": qhost, "qrsh": qrsh,
    "qdel": _each(lambda box, jobs: box.cancel(jobs), "has registered for deletion"),
    "qhold": _each(lambda box, jobs: box.hold(_keys(jobs), held=True), "has modified hold of"),
    "qrls": _each(lambda box, jobs: box.hold(_keys(jobs), held=False), "has modified hold of"),
}  # fmt: skip
