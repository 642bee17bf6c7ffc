"""Small programs that fail for real, each with what is true of it: the cases of bench/causes.py, a dozen of which every test run asks.

A case says what is true, never what Noria would say of it; what cannot happen here (a GPU, a licence server) raises the library's own words.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from noria.jobs.folder import Folder
from noria.types import Cause
from tests.clusters.cluster import Cluster

PYTHON = sys.executable
Act = Callable[[Any, str], None]


class Case(NamedTuple):
    """What is submitted, what is done to it once it runs, and the truth: any of `causes`, the first failing `rank` (None: no one rank
    failed), `host` (None: that of the rank). on: where it can be done. quick: also a test."""

    name: str
    causes: Sequence[Cause]
    words: Sequence[str]
    rank: int | None = 0
    act: Act | None = None
    on: Sequence[str] = ("local",)
    host: str | None = None
    quick: bool = False


def python(code: str) -> list[str]:
    return ["--", PYTHON, "-c", code]


def two(code: str) -> list[str]:
    """On two tasks: of one machine, or one on each of two nodes (see `placed`)."""
    return ["TWO", *python(code)]


def placed(cluster: Cluster, words: Sequence[str]) -> list[str]:
    return [each for word in words for each in (cluster.over(2, 1) if word == "TWO" else (word,))]


GLOO = """
import datetime, os, signal, sys, time
import torch, torch.distributed as dist
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=6))
rank, x = dist.get_rank(), torch.ones(4)
for step in range(5): dist.all_reduce(x)
{fault}
for step in range(5): dist.all_reduce(x)
"""
LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_{what}, ({most}, {most}))\n"
SLEEP = "import time; print('step 1', flush=True); time.sleep(100)"


def gloo(fault: str) -> list[str]:
    return two(GLOO.format(fault=fault))


# ---- what is done to a job that runs


def send(number: int, rank: int = 0) -> Act:
    def act(cluster: Any, job: str) -> None:
        nodes = Folder(cluster.folder(job)).nodes()
        pid = next(each.pid for node in nodes for each in node.ranks if each.rank == rank)
        kill(cluster, number, pid)

    return act


def launcher(cluster: Any, job: str) -> None:
    started = Folder(cluster.folder(job)).started()
    assert started is not None
    kill(cluster, signal.SIGKILL, started.pid)


def kill(cluster: Any, number: int, pid: int) -> None:
    if hasattr(cluster, "root"):
        cluster.root("kill", f"-{number}", str(pid))
    else:
        os.kill(pid, number)


def cancel(cluster: Any, job: str) -> None:
    cluster.noria("cancel", job)


def outside(*command: str) -> Act:
    """A command of the scheduler's own, given the id that it knows."""

    def act(cluster: Any, job: str) -> None:
        cluster.run(*command, Folder(cluster.folder(job)).submitted())

    return act


def hosts(cluster: Any, job: str) -> list[str]:
    return [node.host for node in Folder(cluster.folder(job)).nodes()]


def down(cluster: Any, job: str) -> None:
    """The administrator gives up the last node of the job."""
    cluster.root("scontrol", "update", f"nodename={hosts(cluster, job)[-1]}", "state=down", "reason=broken")


def power_cut(cluster: Any, job: str) -> None:
    """All processes of the job's last node are gone at once, the scheduler's own too."""
    cluster.root("sh", "-c", f"kill -9 $(ip netns pids {hosts(cluster, job)[-1]})")


def preempt(cluster: Any, job: str) -> None:
    """A job of a partition that goes before takes the whole cluster."""
    cluster.submit("--queue", "urgent", *cluster.full(), "--time", "10m", "--", "sleep", "20")


ALLOCATE = "x = []\nwhile True: x.append(bytearray(1 << 24))"
CGROUP = """
import os, pathlib
group = pathlib.Path("/sys/fs/cgroup/memory/noria-causes")
group.mkdir(exist_ok=True)
(group / "memory.limit_in_bytes").write_text(str(200 << 20))
(group / "cgroup.procs").write_text(str(os.getpid()))
"""
EVERYWHERE = ("local", "slurm", "sge")
REAL = ("slurm", "sge")
RAISE = "raise {}"

CASES = (
    # The program's own.
    Case("an exception", ["user_error"], python("def step(): return [1, 2][7]\nstep()"), on=EVERYWHERE, quick=True),
    Case("a syntax error", ["user_error"], python("for x in range(3)\n    print(x)"), quick=True),
    Case("an assertion", ["user_error"], python("assert 1 == 2, 'shapes differ'")),
    Case("a loss that is no number", ["user_error"], python("import math, sys\nloss = math.inf - math.inf\nprint('step 3', flush=True)\nif loss != loss: sys.exit('loss is nan')")),
    Case("arguments that it does not know", ["user_error"], ["--", PYTHON, "-c", "import argparse; argparse.ArgumentParser().parse_args()", "--lr", "0.1"], quick=True),
    Case("shapes that do not fit", ["user_error"], python("import torch\ntorch.ones(2, 3) @ torch.ones(2, 3)")),
    Case("a broken configuration", ["user_error"], python("import json; json.loads('{lr: 0.1}')")),
    Case("an endless recursion", ["user_error"], python("def f(): f()\nf()")),
    Case("a C assertion", ["user_error"], python("import os, sys\nsys.stderr.write(\"train: loader.c:12: next: Assertion `n > 0' failed.\\n\"); sys.stderr.flush(); os.abort()")),
    Case("a segmentation fault", ["user_error"], python("import ctypes; ctypes.string_at(0)"), on=EVERYWHERE, quick=True),
    Case("a fault that faulthandler tells", ["user_error"], ["--", PYTHON, "-X", "faulthandler", "-c", "import ctypes; ctypes.string_at(0)"]),
    Case("a variable that a shell does not know", ["user_error"], ["--", "bash", "-uc", "echo $DATA/train"]),
    Case("a folder of somebody else", ["user_error"], python("import os\nif os.getuid() == 0: os.setuid(65534)\nopen('/root/x', 'w')")),
    Case("too many open files", ["user_error"], python(LIMIT.format(what="NOFILE", most=64) + "x = [open('/dev/null') for _ in range(100)]")),
    Case("collectives that differ", ["user_error", "communication"], gloo("y = torch.ones(4 + rank); dist.all_reduce(y)"), rank=None),
    Case("a code without a word", ["unknown"], python("print('step 3 loss 0.2'); raise SystemExit(7)"), on=EVERYWHERE, quick=True),
    Case("a broken checkpoint", ["user_error"], python("import io, torch\ntorch.load(io.BytesIO(b'PK\\x03\\x04 no'))")),
    # Memory.
    Case("no more address space", ["out_of_memory"], python(LIMIT.format(what="AS", most=1 << 29) + ALLOCATE), on=EVERYWHERE, quick=True),
    Case("torch without memory", ["out_of_memory"], python("import torch\n" + LIMIT.format(what="AS", most=1 << 33) + "torch.ones(1 << 34)")),
    Case("numpy without memory", ["out_of_memory"], python("import numpy; numpy.ones((1 << 22, 1 << 22))")),
    Case("killed by the kernel", ["out_of_memory"], ["--mem", "200M", *python(CGROUP + ALLOCATE)]),
    Case("a worker without memory", ["out_of_memory"], python("import multiprocessing as m\ndef f(_): raise MemoryError\nwith m.get_context('fork').Pool(1) as p: p.map(f, [1])")),
    Case("one of two ranks without memory", ["out_of_memory"], gloo("if rank == 1: bytearray(1 << 60)"), rank=1, on=EVERYWHERE),
    Case("a GPU without memory", ["gpu_memory"], python(RAISE.format("RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 15.90 GiB total capacity)')"))),
    Case("a GPU of JAX without memory", ["gpu_memory"], python(RAISE.format("RuntimeError('RESOURCE_EXHAUSTED: Out of memory while trying to allocate 68719476736 bytes.')"))),
    # Disks and files.
    Case("a full device", ["disk_full"], python("f = open('/dev/full', 'w')\nf.write('x' * 100000)\nf.flush()"), on=EVERYWHERE, quick=True),
    Case("a full device of a shell", ["disk_full"], ["--", "sh", "-c", "head -c 100000 /dev/zero > /dev/full"]),
    Case("a file that is too large", ["disk_full"], python(LIMIT.format(what="FSIZE", most=1000) + "import tempfile\nf = tempfile.TemporaryFile(buffering=0)\nf.write(bytes(2000)); f.write(bytes(2000))")),
    Case("a checkpoint on a full device", ["disk_full"], python("import torch; torch.save(torch.ones(1 << 20), '/dev/full')")),
    Case("a missing module", ["missing_module"], python("import apex_of_another_site"), on=EVERYWHERE, quick=True),
    Case("a missing program module", ["missing_module"], ["--", PYTHON, "-m", "trian"]),
    Case("a missing name in a module", ["missing_module"], python("from json import fast_loads")),
    Case("a missing library", ["missing_module"], python("import ctypes; ctypes.CDLL('libmkl_of_another_site.so.2')")),
    Case("a missing file", ["missing_file"], python("open('/data/of/another/site.csv')"), on=EVERYWHERE),
    Case("a missing script", ["missing_file"], ["--", PYTHON, "/no/such/train.py"], quick=True),
    Case("a missing program", ["missing_file"], ["--", "/no/such/python", "train.py"], rank=None, on=EVERYWHERE),
    Case("a command that a shell does not find", ["missing_file"], ["--", "bash", "-c", "nvidai-smi -L"]),
    Case("a missing file behind another exception", ["missing_file"], python("try:\n    open('/no/such.pt')\nexcept OSError as e:\n    raise RuntimeError('cannot resume') from e")),
    Case("a program that is none", ["cannot_start"], ["--", "/etc/passwd"], rank=None),
    Case("a shell whose program is none", ["cannot_start"], ["--", "sh", "-c", "/etc/passwd"]),
    # Ranks that lose each other.
    Case("one of two ranks raises", ["user_error"], gloo("if rank == 1: raise ValueError('bad sample')"), rank=1, on=EVERYWHERE, quick=True),
    Case("one of two ranks is killed", ["killed"], gloo("if rank == 1: os.kill(os.getpid(), signal.SIGKILL)"), rank=1, on=EVERYWHERE),
    Case("one of two ranks crashes", ["user_error"], gloo("import ctypes\nif rank == 1: ctypes.string_at(0)"), rank=1),
    Case("one of two ranks is elsewhere", ["communication", "hang"], gloo("if rank == 1: time.sleep(60)"), rank=1, on=EVERYWHERE),
    Case("one of two ranks leaves early", ["communication", "user_error"], gloo("if rank == 1: sys.exit(0)"), rank=1),
    Case("rank 0 raises", ["user_error"], gloo("if rank == 0: {}['lr']"), rank=0, on=REAL),
    Case("a port that is taken", ["communication"], python("import socket\na, b = socket.socket(), socket.socket()\na.bind(('127.0.0.1', 0)); a.listen()\nb.bind(a.getsockname())")),
    Case("a name that nobody knows", ["communication"], python("import urllib.request; urllib.request.urlopen('http://models.invalid/x')")),
    Case("a server that is not there", ["communication"], python("import socket; socket.create_connection(('127.0.0.1', 9))")),
    Case("an mpi rank that aborts", ["user_error", "unknown"], ["--launcher", "mpi", "--env", "OMPI_ALLOW_RUN_AS_ROOT=1", "--env", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1", "--tasks-per-node", "2", "--", "sh", "-c", "if [ $OMPI_COMM_WORLD_RANK = 1 ]; then echo Error: bad input; exit 3; fi; sleep 30"], rank=1),
    # What others do to it.
    Case("its own time limit", ["time_limit"], ["--time", "3s", *python(SLEEP)], rank=None, on=EVERYWHERE, quick=True),
    Case("cancelled", ["cancelled"], python(SLEEP), rank=None, act=cancel, on=EVERYWHERE),
    Case("a kill from outside", ["killed"], python(SLEEP), act=send(signal.SIGKILL), on=EVERYWHERE, quick=True),
    Case("a TERM from outside", ["killed"], python(SLEEP), act=send(signal.SIGTERM)),
    Case("rank 1 killed from outside", ["killed"], two(SLEEP), rank=1, act=send(signal.SIGKILL, 1), on=EVERYWHERE),
    Case("its launcher killed", ["killed", "node_failure"], python(SLEEP), rank=None, act=launcher, on=EVERYWHERE),
    Case("scancel", ["cancelled"], python(SLEEP), rank=None, act=outside("scancel"), on=("slurm",)),
    Case("qdel", ["cancelled"], python(SLEEP), rank=None, act=outside("qdel"), on=("sge",)),
    Case("preempted", ["preempted"], ["--queue", "main", *python(SLEEP)], rank=None, act=preempt, on=("slurm",)),
    Case("a node given up by the site", ["node_failure"], two(SLEEP), rank=None, act=down, on=("slurm",)),
    Case("the scheduler's own time limit", ["time_limit"], ["SCRIPT", "#!/bin/bash\n#$ -l h_rt=6\nsleep 100\n"], rank=None, on=("sge",)),
    Case("Slurm's own time limit", ["time_limit"], ["SCRIPT", "#!/bin/bash\n#SBATCH --time=1\nsleep 200\n"], rank=None, on=("slurm",)),
    Case("memory that Grid Engine limits", ["out_of_memory"], ["--raw=-l h_vmem=1500M", *python(ALLOCATE)], on=("sge",)),
    Case("a licence that is in use", ["licence"], ["--", "sh", "-c", "echo 'Licensed number of users already reached. (-4,342)' >&2; exit 1"]),
    Case("a licence server that is down", ["licence"], python("import sys; sys.exit('License checkout failed: cannot connect to license server system. (-15,570)')")),
    Case("a power cut of one of two nodes", ["node_failure"], two(SLEEP), rank=1, act=power_cut, on=REAL),
)  # fmt: skip
"""What takes the most from its place stands last: a node that is cut off does not come back."""


def truth(cluster: Cluster, job: str, case: Case) -> str:
    """The node of the rank that failed."""
    if case.rank is None:
        return ""
    nodes = Folder(cluster.folder(job)).nodes()
    here = [node.host for node in nodes if len(nodes) == 1 or any(each.rank == case.rank for each in node.ranks)]
    return next(iter(here), "")


def submitted(cluster: Cluster, case: Case) -> str:
    """The job of a case. Nothing is looked at before: what a look would find is what is to happen."""
    words = placed(cluster, case.words)
    if words[0] == "SCRIPT":
        (cluster.home / "job.sh").write_text(words[1])
        return str(json.loads(cluster.noria("submit", "--json", "./job.sh").stdout)["id"])
    return cluster.submit("--no-check", *words)


def asked(cluster: Cluster, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.noria("why", job, "--json").stdout)
    return found
