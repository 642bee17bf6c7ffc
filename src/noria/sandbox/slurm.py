"""Slurm's commands, as version 22.05 answers: sbatch, squeue, sacct, scancel, scontrol, sinfo, srun.

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

from noria import process
from noria.sandbox.box import OPEN, Ask, Box, Job, waits_for
from noria.sandbox.words import Refused, ends_with_words, expand, fold, mebibytes, numbers, seconds

KILL_WAIT = 3.0
_STATES = {"PENDING": "PD", "RUNNING": "R", "COMPLETED": "CD", "FAILED": "F", "CANCELLED": "CA", "TIMEOUT": "TO"}
_KINDS = {"afterok": "ok", "afternotok": "notok", "afterany": "any", "after": "any"}
_LISTED = 300.0
"""Seconds for which the controller remembers an ended job (MinJobAge)."""


def environment(job: Job, box: Box) -> dict[str, str]:
    ask, nodes = job.ask, fold(job.hosts)
    env = {
        "SLURM_JOB_ID": str(_id(job)), "SLURM_JOBID": str(_id(job)), "SLURM_JOB_NAME": ask.name, "SLURM_JOB_NODELIST": nodes,
        "SLURM_NODELIST": nodes, "SLURM_JOB_NUM_NODES": str(ask.nodes), "SLURM_NNODES": str(ask.nodes), "SLURM_NODEID": "0",
        "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURMD_NODENAME": job.hosts[0], "SLURM_NTASKS": str(ask.nodes * ask.tasks),
        "SLURM_SUBMIT_DIR": ask.cwd, "SLURM_CPUS_PER_TASK": ask.extra["cpus"], "SLURM_CLUSTER_NAME": "sandbox",
        "SLURM_JOB_PARTITION": ask.extra["partition"], "SLURM_TASKS_PER_NODE": f"{ask.tasks}(x{ask.nodes})",
    }  # fmt: skip
    if ask.gpus:
        env["CUDA_VISIBLE_DEVICES"] = env["SLURM_JOB_GPUS"] = ",".join(map(str, job.gpus[0]))
    if job.tries > 1:
        env["SLURM_RESTART_COUNT"] = str(job.tries - 1)
    if job.member is not None:
        env |= {"SLURM_ARRAY_JOB_ID": str(job.number), "SLURM_ARRAY_TASK_ID": str(job.member)}
    return env


def ending(job: Job) -> tuple[int, float]:
    return signal.SIGTERM, KILL_WAIT


def _id(job: Job) -> int:
    """Members of an array have numbers of their own; the box has one for all, so theirs are made of it."""
    return job.number if job.member is None else job.number * 100_000 + job.member


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sbatch", allow_abbrev=False, add_help=False, exit_on_error=False)
    add = parser.add_argument
    for flag in ("--parsable", "--exclusive", "--requeue", "--no-requeue", "--test-only", "-H", "--hold"):
        add(flag, action="store_true")
    for name, short in (("nodes", "-N"), ("ntasks", "-n"), ("cpus-per-task", "-c"), ("ntasks-per-node", None)):
        add(f"--{name}", *([short] if short else []), default="")
    for name, short in (("job-name", "-J"), ("time", "-t"), ("partition", "-p"), ("account", "-A"), ("output", "-o"), ("error", "-e"),
                        ("chdir", "-D"), ("array", "-a"), ("dependency", "-d"), ("constraint", "-C"), ("begin", "-b"),
                        ("qos", "-q"), ("exclude", "-x"), ("nodelist", "-w"), ("licenses", "-L")):  # fmt: skip
        add(f"--{name}", short, default="")
    for name in ("comment", "export", "open-mode", "mem", "mem-per-cpu", "gres", "gpus", "gpus-per-node", "signal", "nice", "reservation",
                 "kill-on-invalid-dep", "priority"):  # fmt: skip
        add(f"--{name}", default="", nargs="?" if name == "nice" else None)
    return parser


def sbatch(box: Box, argv: list[str]) -> int:
    try:
        options, script, args = ends_with_words(_options(), argv)
        if not script:
            raise Refused("sbatch: error: This sandbox wants a script's name.")
        text = Path(script).read_text()
        if not text.startswith("#!"):
            raise Refused("sbatch: error: This does not look like a batch script.  The first\n"
                          "sbatch: error: line must start with #! followed by the path to an interpreter.")  # fmt: skip
        directives = [word for line in re.findall(r"^#SBATCH\s+(.*)$", text, re.MULTILINE) for word in _split(line)]
        given, extra = _options().parse_known_args([*directives, *options])
        if extra:
            raise Refused(f"sbatch: unrecognized option '{extra[0]}'\nTry \"sbatch --help\" for more information")
        ask, members = _ask(given, text, script, args, box)
        if not box.possible(ask):
            raise Refused("sbatch: error: Batch job submission failed: Requested node configuration is not available")
        if given.test_only:
            print("sbatch: Job could start now", file=sys.stderr)
            return 0
    except (Refused, OSError, argparse.ArgumentError, ValueError) as error:
        print(str(error) if isinstance(error, Refused) else f"sbatch: error: {error}", file=sys.stderr)
        return 1
    number = box.submit(ask, members)
    print(number if given.parsable else f"Submitted batch job {number}")
    return 0


def _split(line: str) -> list[str]:
    """A directive's words: both quotes, and a backslash that works inside of them; # begins a comment."""
    return shlex.split(line, comments=True)


def _ask(given: argparse.Namespace, text: str, script: str, args: list[str], box: Box) -> tuple[Ask, list[int] | None]:
    nodes = int((given.nodes or "1").split("-")[0])
    tasks = int(given.ntasks_per_node or 0) or -(-int(given.ntasks or nodes) // nodes)
    cpus = int(given.cpus_per_task or 1)
    wanted = (
        given.gres.removeprefix("gpu")
        or given.gpus_per_node
        or (str(int(given.gpus) // nodes) if given.gpus.isdigit() else given.gpus)
    )
    copy = box.logs / f"{time.time_ns()}-{Path(script).name}"  # As it was at submission, whatever becomes of the file.
    copy.write_text(text)
    copy.chmod(0o700)
    name, cwd = given.job_name or Path(script).name, given.chdir or os.getcwd()
    export, _, listed = given.export.partition(",")
    env = {} if export in ("NONE", "NIL") else dict(os.environ)
    env |= dict(pair.partition("=")[::2] for pair in listed.split(",") if "=" in pair)
    known = given.partition in ("", "low", "high")
    if not known:
        raise Refused(f"sbatch: error: invalid partition specified: {given.partition}\n"
                      "sbatch: error: Batch job submission failed: Invalid partition name specified")  # fmt: skip
    memory = (
        mebibytes(given.mem)
        if given.mem
        else mebibytes(given.mem_per_cpu) * cpus * tasks
        if given.mem_per_cpu
        else 100 * cpus * tasks
    )
    without = expand(given.exclude)
    if set(without) - {node.name for node in box.look().nodes}:
        raise Refused("sbatch: error: Batch job submission failed: Invalid node name specified")
    ask = Ask(
        ["/bin/bash", str(copy), *args] if "bash" in text.splitlines()[0] else [str(copy), *args], cwd, str(Path(cwd) / (given.output or "slurm-%j.out")), name, nodes, tasks, cpus * tasks,
        memory, int(wanted.rpartition(":")[2] or 0), seconds(given.time) if given.time else 0, _begin(given.begin), _after(given.dependency),
        given.H or given.hold, given.requeue or not given.no_requeue, env, without, given.open_mode == "append",
        {"comment": given.comment, "partition": given.partition or "low", "account": given.account or "research", "qos": given.qos or "normal",
         "cpus": str(cpus)},
    )  # fmt: skip
    return ask, list(numbers(given.array.partition("%")[0])) if given.array else None


def log(job: Job) -> str:
    """% and a letter stand for what it is called, %% for itself."""
    said = {"j": _id(job), "A": job.number, "a": job.member if job.member is not None else 4294967294, "x": job.ask.name, "%": "%",
            "N": job.hosts[0] if job.hosts else "", "u": job.user}  # fmt: skip
    return job.ask.out if "\\" in job.ask.out else re.sub(r"%([jAaxNu%])", lambda found: str(said[found[1]]), job.ask.out)


def _begin(text: str) -> float:
    if not text:
        return 0.0
    found = re.fullmatch(r"now\+(\d+)(\w*)", text)
    if found:
        return time.time() + int(found[1]) * {"": 1, "minutes": 60, "hours": 3600, "days": 86_400, "seconds": 1}[found[2]]
    return time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S"))


def _after(text: str) -> list[tuple[str, int]]:
    found = []
    for part in filter(None, text.split(",")):
        kind, *ids = part.split(":")
        if kind not in _KINDS:
            raise Refused("sbatch: error: Batch job submission failed: Job dependency problem")
        found += [(_KINDS[kind], int(each.partition("_")[0].partition("+")[0])) for each in ids]
    return found


def _chosen(box: Box, ids: list[str]) -> Iterator[Job]:
    """Jobs by 12, 12_3, 12_[1-4], or the number that a member has of its own."""
    jobs = box.look().jobs
    for text in (each for word in ids for each in re.findall(r"[^,\[]+(?:\[[^\]]*\])?", word)):
        number, _, members = text.strip(",").partition("_")
        wanted = set(numbers(members.strip("[]").partition("%")[0])) if members else None
        for job in jobs:
            if str(_id(job)) == number or (str(job.number) == number and (wanted is None or job.member in wanted)):
                yield job


def _shown(job: Job) -> str:
    return str(job.number) if job.member is None else f"{job.number}_{job.member}"


def _word_of(job: Job, jobs: list[Job]) -> str:
    if job.state == "PENDING":
        return waits_for(job, jobs, time.time()) or (
            "Priority" if job is not next(j for j in jobs if j.state == "PENDING") else "Resources"
        )
    return {"RUNNING": "None", "CANCELLED": "None", "TIMEOUT": "TimeLimit", "FAILED": "NonZeroExitCode"}.get(job.state, "None")


def squeue(box: Box, argv: list[str]) -> int:
    parser = argparse.ArgumentParser("squeue", allow_abbrev=False, add_help=False)
    parser.add_argument("-h", "--noheader", action="store_true")
    parser.add_argument("--me", action="store_true")
    parser.add_argument("-a", "--all", action="store_true")
    parser.add_argument("-r", "--array", action="store_true")
    for short, name in (("-u", "user"), ("-o", "format"), ("-j", "jobs"), ("-t", "states"), ("-p", "partition"), ("-n", "name")):
        parser.add_argument(short, f"--{name}", default="")
    given = parser.parse_args(argv)
    jobs = box.look().jobs
    shown = [job for job in jobs if job.state in OPEN or (given.states == "all" and time.time() - job.ended < _LISTED)]
    if given.jobs:
        shown = [job for job in _chosen(box, [given.jobs]) if job.key in {each.key for each in shown}]
        if not shown:
            print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
            return 1
    if given.user:
        shown = [job for job in shown if job.user in given.user.split(",")]
    form = given.format or "%.18i %.9P %.8j %.8u %.2t %.10M %.6D %R"
    letters = {"i": "JOBID", "P": "PARTITION", "j": "NAME", "u": "USER", "t": "ST", "T": "STATE", "M": "TIME", "D": "NODES",
               "R": "NODELIST(REASON)", "r": "REASON", "k": "COMMENT", "a": "ACCOUNT", "q": "QOS", "N": "NODELIST", "A": "JOBID",
               "F": "ARRAY_JOB_ID", "K": "ARRAY_TASK_ID", "S": "START_TIME", "V": "SUBMIT_TIME", "Z": "WORK_DIR", "C": "CPUS",
               "Q": "PRIORITY", "b": "TRES_PER_NODE", "l": "TIME_LIMIT", "L": "TIME_LEFT"}  # fmt: skip
    if not given.noheader:
        print(_line(form, letters))
    for job in shown:
        print(_line(form, _fields(job, jobs)))
    return 0


def _fields(job: Job, jobs: list[Job]) -> dict[str, str]:
    reason, ask = _word_of(job, jobs), job.ask
    spent = int((job.ended or time.time()) - job.started) if job.started else 0
    return {
        "i": _shown(job), "P": ask.extra["partition"], "j": ask.name, "u": job.user, "t": _STATES[job.state], "T": job.state,
        "M": f"{spent // 60}:{spent % 60:02}", "D": str(ask.nodes), "R": fold(job.hosts) if job.hosts else f"({reason})", "r": reason,
        "k": ask.extra["comment"] or "(null)", "a": ask.extra["account"], "q": ask.extra["qos"], "N": fold(job.hosts), "A": str(_id(job)),
        "F": str(job.number), "K": "N/A" if job.member is None else str(job.member), "Z": ask.cwd, "C": str(ask.cpus * ask.nodes),
        "S": _when(job.started), "V": _when(job.submitted), "Q": str(2**32 - job.number), "b": f"gres:gpu:{ask.gpus}" if ask.gpus else "N/A",
        "l": _lasts(ask.time), "L": _lasts(ask.time and max(1, ask.time - spent)),
    }  # fmt: skip


def _lasts(seconds: int) -> str:
    if not seconds:
        return "UNLIMITED"
    return f"{seconds // 86_400}-{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _when(moment: float) -> str:
    form = os.environ.get("SLURM_TIME_FORMAT", "")
    if not moment:
        return "N/A"
    return str(int(moment)) if form == "%s" else time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment))


def _line(form: str, said: dict[str, str]) -> str:
    """%[.][width]letter: cut to the width, to the right if there is a dot."""

    def field(found: re.Match[str]) -> str:
        text, width = said.get(found[3], ""), int(found[2] or 0)
        return text if not width else text[:width].rjust(width) if found[1] else text[:width].ljust(width)

    return re.sub(r"%(\.?)(\d*)([A-Za-z])", field, form)


def sacct(box: Box, argv: list[str]) -> int:
    parser = argparse.ArgumentParser("sacct", allow_abbrev=False, add_help=False)
    for flag in ("-n", "-P", "-X", "-D"):
        parser.add_argument(flag, action="store_true")
    for short in ("-o", "-j", "-u", "-S", "-E", "-s"):
        parser.add_argument(short, default="")
    given = parser.parse_args(argv)
    jobs = list(_chosen(box, [given.j])) if given.j else [job for job in box.look().jobs if not given.u or job.user == given.u]
    names = (given.o or "JobID,JobName,Partition,Account,AllocCPUS,State,ExitCode").split(",")
    if not given.n:
        print("|".join(names))
    for job in jobs:
        spent = int((job.ended or time.time()) - job.started) if job.started else 0
        said = {
            "jobid": _shown(job), "jobname": job.ask.name, "partition": job.ask.extra["partition"], "account": job.ask.extra["account"],
            "alloccpus": str(job.ask.cpus * job.ask.nodes), "state": f"CANCELLED by {os.getuid()}" if job.state == "CANCELLED" else job.state,
            "exitcode": f"{0 if job.state in ('TIMEOUT', 'CANCELLED') else job.code}:{0 if job.state in ('TIMEOUT', 'CANCELLED') else job.signal}",
            "elapsedraw": str(spent), "elapsed": f"{spent // 3600:02}:{spent // 60 % 60:02}:{spent % 60:02}", "user": job.user,
            "nodelist": fold(job.hosts) or "None assigned", "start": _when(job.started), "end": _when(job.ended), "submit": _when(job.submitted),
            "comment": job.ask.extra["comment"] if job.ended else "",
        }  # fmt: skip
        print("|".join(said.get(name.lower().partition("%")[0], "") for name in names))
    return 0


def scancel(box: Box, argv: list[str]) -> int:
    ids = [word for word in argv if word[0].isdigit()]
    mine = [job for job in box.look().jobs if "-u" in argv and job.user == argv[argv.index("-u") + 1]]
    box.cancel([*mine, *_chosen(box, ids)])
    return 0


def scontrol(box: Box, argv: list[str]) -> int:
    verb, *rest = [word for word in argv if word not in ("-o", "-d", "--oneliner", "--details")]
    if verb == "show" and rest[0] == "hostnames":
        print("\n".join(expand(rest[1] if len(rest) > 1 else os.environ.get("SLURM_JOB_NODELIST", ""))))
    elif verb == "show" and rest[0].startswith("node"):
        _show_nodes(box)
    elif verb == "show" and rest[0] == "config":
        print("SLURM_VERSION           = 22.05.8\nClusterName             = sandbox\nMinJobAge               = 300 sec")
    elif verb in ("hold", "uhold", "release"):
        box.hold({job.key for job in _chosen(box, rest)}, held=verb != "release")
    elif verb == "requeue":
        box.requeue({job.key for job in _chosen(box, rest)})
    elif verb == "ping":
        print("Slurmctld(primary) at sandbox is UP")
    else:
        print(f"scontrol: this sandbox has no '{shlex.join(argv)}'", file=sys.stderr)
        return 1
    return 0


def _show_nodes(box: Box) -> None:
    content = box.look()
    for node in content.nodes:
        there = [job for job in content.jobs if job.state == "RUNNING" and node.name in job.hosts]
        cpus, mem, gpus = (sum(getattr(job.ask, name) for job in there) for name in ("cpus", "mem", "gpus"))
        state = "IDLE" if not there else "ALLOCATED" if cpus >= node.cpus else "MIXED"
        print(f"NodeName={node.name} Arch=x86_64 CoresPerSocket=1 CPUAlloc={cpus} CPUTot={node.cpus} CPULoad=0.10 AvailableFeatures=sandbox "
              f"ActiveFeatures=sandbox Gres=gpu:{node.gpus} GresUsed=gpu:{gpus}(IDX:N/A) NodeAddr=127.0.0.1 NodeHostName={node.name} Version=22.05.8 OS=Linux "
              f"RealMemory={node.mem} AllocMem={mem} FreeMem={node.mem - mem} Sockets={node.cpus} Boards=1 State={state} ThreadsPerCore=1 "
              f"TmpDisk=0 Weight=1 Partitions=low,high CfgTRES=cpu={node.cpus},mem={node.mem}M,billing={node.cpus},gres/gpu={node.gpus} "
              f"AllocTRES=cpu={cpus},mem={mem}M,gres/gpu={gpus}")  # fmt: skip


def sinfo(box: Box, argv: list[str]) -> int:
    if "--version" in argv or "-V" in argv:
        print("slurm 22.05.8")
        return 0
    parser = argparse.ArgumentParser("sinfo", allow_abbrev=False, add_help=False)
    for short, name in (("-h", "noheader"), ("-N", "Node"), ("-s", "summarize")):
        parser.add_argument(short, f"--{name}", action="store_true")
    for short, name in (("-o", "format"), ("-p", "partition"), ("-t", "states"), ("-O", "Format")):
        parser.add_argument(short, f"--{name}", default="")
    given = parser.parse_args(argv)
    content = box.look()
    nodes, busy = content.nodes, [job for job in content.jobs if job.state == "RUNNING"]
    heads = {"P": "PARTITION", "a": "AVAIL", "l": "TIMELIMIT", "D": "NODES", "t": "STATE", "T": "STATE", "N": "NODELIST", "c": "CPUS",
             "m": "MEMORY", "G": "GRES", "f": "AVAIL_FEATURES", "R": "PARTITION", "L": "DEFAULTTIME", "n": "HOSTNAMES", "F": "NODES(A/I/O/T)",
             "C": "CPUS(A/I/O/T)"}  # fmt: skip
    form = given.format or "%.9P %.5a %.10l %.6D %.6t %N"
    if not given.noheader:
        print(_line(form, heads))
    for partition, limit in (("low*", "1-00:00:00"), ("high", "1:00:00")):
        if given.partition and given.partition != partition.rstrip("*"):
            continue
        for group in [[node] for node in nodes] if given.Node else [nodes]:
            used = {node.name: sum(job.ask.cpus for job in busy if node.name in job.hosts) for node in group}
            nodes_used, cpus_used, cpus = sum(map(bool, used.values())), sum(used.values()), sum(node.cpus for node in group)
            said = {"P": partition, "R": partition.rstrip("*"), "a": "up", "l": limit, "L": "10:00", "D": str(len(group)), "t": "idle", "T": "idle",
                    "N": fold([node.name for node in group]), "n": group[0].name, "c": str(group[0].cpus), "m": str(group[0].mem),
                    "G": f"gpu:{group[0].gpus}", "f": "sandbox", "F": f"{nodes_used}/{len(group) - nodes_used}/0/{len(group)}",
                    "C": f"{cpus_used}/{cpus - cpus_used}/0/{cpus}"}  # fmt: skip
            print(_line(form, said))
    return 0


def srun(box: Box, argv: list[str]) -> int:
    """Start tasks on the job's nodes, and end as the worst of them does."""
    parser = argparse.ArgumentParser("srun", allow_abbrev=False, add_help=False)
    for name, short in (("nodes", "-N"), ("ntasks", "-n"), ("cpus-per-task", "-c")):
        parser.add_argument(f"--{name}", short, default="")
    for name in (
        "ntasks-per-node",
        "kill-on-bad-exit",
        "wait",
        "export",
        "mpi",
        "gres",
        "overlap",
        "label",
        "cpu-bind",
        "unbuffered",
    ):
        parser.add_argument(f"--{name}", default="", nargs="?")
    options, first, rest = ends_with_words(parser, argv)
    given = parser.parse_args(options)
    hosts = expand(os.environ["SLURM_JOB_NODELIST"])[: int(given.nodes or 0) or None]
    tasks = int(given.ntasks or 0) or int(os.environ["SLURM_NTASKS"])
    each = int(given.ntasks_per_node or 0) or -(-tasks // len(hosts))
    children = []
    for rank in range(tasks):
        node = rank // each
        env = os.environ | {"SLURM_PROCID": str(rank), "SLURM_NODEID": str(node), "SLURM_LOCALID": str(rank % each),
                            "SLURMD_NODENAME": hosts[node], "SLURM_NTASKS": str(tasks), "SLURM_STEP_ID": "0"}  # fmt: skip
        try:
            children.append(process.beside([first, *rest], env=env))
        except OSError as error:
            print(
                f"slurmstepd: error: execve(): {first}: {error.strerror}\nsrun: error: {hosts[node]}: task {rank}: Exited with exit code 2",
                file=sys.stderr,
            )
            return 2
    signal.signal(signal.SIGTERM, lambda *_: None)  # Slurm signals the tasks itself.
    return max(process.exit_code(child.wait()) for child in children)


COMMANDS: dict[str, Callable[[Box, list[str]], int]] = {
    "sbatch": sbatch, "squeue": squeue, "sacct": sacct, "scancel": scancel, "scontrol": scontrol, "sinfo": sinfo, "srun": srun,
}  # fmt: skip
