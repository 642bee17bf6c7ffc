"""Where the conformance suite submits to: this machine, and real clusters in namespaces of this machine.

A new place is a `Cluster` and a context manager that brings it up; `PLACES` names it in one row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from noria import sandbox
from noria.types import ENDED
from tests.conftest import require

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
Done = subprocess.CompletedProcess[str]


class Cluster:
    """A place to submit to, by `noria` as a user has it. The first command starts that user's server and agent."""

    nodes = 1
    """Nodes that a job may ask for."""
    script_of_its_own = ""
    """A job script with directives, which prints the name of the node from each of four tasks on two nodes."""
    patience = 0.0
    """Seconds for which a command waits for a server that somebody has just killed."""
    refused: tuple[Sequence[str], str] = ((), "")
    """Options with which the scheduler itself refuses a job, and of what it says then."""

    def __init__(self, on: str, home: Path) -> None:
        """home: the user's home directory, as this process sees it."""
        self.on, self.home = on, home

    def run(self, *argv: str, check: bool = True, **env: str) -> Done:
        """Run a command as the user, on the machine where people log in."""
        own = {"NORIA_HOME": str(self.home / ".noria"), "NORIA_MACHINE": str(self.home / "machine"), "NORIA_ON": "local"}
        here = {**os.environ, **own, **env}
        return _done(argv, check, env=here, cwd=self.home)

    def noria(self, *args: str, check: bool = True, **env: str) -> Done:
        until = time.monotonic() + self.patience
        while True:
            done = self.run(sys.executable, "-m", "noria.cli.main", *args, check=False, **env)
            if time.monotonic() >= until or "No Noria server answers" not in done.stderr:
                assert not check or done.returncode == 0, done.stdout + done.stderr
                return done
            time.sleep(0.5)

    def ranks(self, nodes: int, tasks: int) -> int:
        """How many tasks `over` gives: on one node no more than it has CPUs."""
        return nodes * tasks if nodes <= self.nodes else min(nodes * tasks, len(os.sched_getaffinity(0)))

    def over(self, nodes: int, tasks: int) -> tuple[str, ...]:
        """Options for so many tasks on each of so many nodes; where there is but one node, for all of them on it."""
        if nodes > self.nodes:
            nodes, tasks = 1, self.ranks(nodes, tasks)
        return ("--nodes", str(nodes), "--tasks-per-node", str(tasks))

    def full(self) -> tuple[str, ...]:
        """Options for a job that nothing else fits beside."""
        return ("--cpus", str(len(os.sched_getaffinity(0))))

    def submit(self, *words: str, **env: str) -> str:
        """The id of a job: options, and the command after `--`."""
        return str(json.loads(self.noria("submit", "--json", "--on", self.on, *words, **env).stdout)["id"])

    def python(self, code: str, *options: str) -> str:
        return self.submit(*options, "--", sys.executable, "-c", code)

    def jobs(self) -> dict[str, Any]:
        """All jobs, by id."""
        return {each["id"]: each for each in json.loads(self.noria("ps", "--json", "--all").stdout)["jobs"]}

    def ended(self, *ids: str, seconds: float = 60) -> list[Any]:
        """These jobs, at least one, once all of them have ended."""

        def all_ended() -> list[Any]:
            known = self.jobs()
            found = [known[each] for each in ids]
            return found if all(each["state"] in ENDED for each in found) else []

        return list(self.until(all_ended, ids, seconds))

    def reaches(self, state: str, *ids: str, seconds: float = 40) -> None:
        self.until(lambda: all(self.jobs()[each]["state"] == state for each in ids), ids, seconds)

    def until(self, true: Callable[[], Any], ids: Sequence[str], seconds: float = 40) -> Any:
        """What `true` returned when it first was; a failure shows these jobs."""
        limit = time.monotonic() + seconds
        while not (found := true()):
            assert time.monotonic() < limit, "\n".join(f"{self.jobs()[each]}\n{self.printed(each)}" for each in ids)
            time.sleep(0.3)
        return found

    def logs(self, job_id: str) -> str:
        return self.noria("logs", job_id).stdout

    def folder(self, job_id: str) -> Path:
        """A job's folder, as this process sees it."""
        return self.home / ".noria" / "jobs" / job_id

    def printed(self, job_id: str) -> dict[str, str]:
        """All that a job's processes printed, for a test that fails."""
        return {path.name: path.read_text()[-3000:] for path in (self.folder(job_id) / "logs").glob("*.log")}

    def history(self, run_id: str, key: str) -> list[float]:
        shown = self.noria("runs", "show", run_id, "--history", key, "--json").stdout
        return [point["value"] for point in json.loads(shown)["history"][key]]


class Emulated(Cluster):
    """A real scheduler, whose nodes are namespaces of this machine and whose user is `ada`."""

    script: str
    programs: Sequence[str]
    site: dict[str, str] = {}
    """What this site's login shells set."""

    def __init__(self, on: str, home: Path, pid: int) -> None:
        """pid: the first process of the cluster's namespaces."""
        super().__init__(on, home)
        self._enter = ["nsenter", f"--target={pid}", "--mount", "--uts", "--net", "--ipc", "--pid"]

    def run(self, *argv: str, check: bool = True, **env: str) -> Done:
        user = {"HOME": "/home/ada", "USER": "ada", "LOGNAME": "ada", "LANG": "C.UTF-8", "PATH": "/usr/local/bin:/usr/bin:/bin"}
        variables = [f"{name}={value}" for name, value in {**user, **self.site, **env}.items()]
        alone = ["env", "--ignore-environment", "--chdir=/home/ada", *variables]
        return self.root("setpriv", "--reuid=ada", "--regid=ada", "--init-groups", *alone, *argv, check=check)

    def root(self, *argv: str, check: bool = True) -> Done:
        """Run a command as the cluster's administrator."""
        return _done([*self._enter, *argv], check)

    daemon: str
    """What makes a machine a node, started with this command there."""

    def stop(self, node: str) -> None:
        """Cut a node's power, as far as its processes can tell."""
        self.root("sh", "-c", f"kill -KILL $(ip netns pids {node})")

    def start(self, node: str) -> None:
        """Have it back."""
        there = f"hostname {node}; exec env {self.daemon.format(node=node)}"
        alone = [
            "env",
            "--ignore-environment",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            *(f"{name}={value}" for name, value in self.site.items()),
        ]
        self.root(*alone, "ip", "netns", "exec", node, "unshare", "--uts", "sh", "-c", there)


class Slurm(Emulated):
    """Four nodes, n1 to n4."""

    daemon = "slurmd -N {node}"

    nodes, script = 4, "slurm.sh"
    script_of_its_own = "#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=2\nsrun hostname\n"
    programs = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "munged", "mariadbd")
    refused = (("--queue", "nosuch"), "invalid partition specified: nosuch")

    def full(self) -> tuple[str, ...]:
        return ("--nodes", "4", "--cpus", "4")


class GridEngine(Emulated):
    """Two nodes, sge1 and sge2, and parallel environments of which each gives a number of slots on each node."""

    daemon = "SGE_EXECD_PIDFILE=/run/sge/{node}.pid sge_execd"

    nodes, script = 2, "sge.sh"
    script_of_its_own = """#!/bin/bash
#$ -pe per2 4
for host in $(cut -d' ' -f1 "$PE_HOSTFILE"); do qrsh -inherit "$host" hostname; qrsh -inherit "$host" hostname; done
"""
    programs = ("sge_qmaster", "sge_execd", "qsub")
    refused = (("--queue", "nosuch"), 'unknown queue "nosuch"')
    site = {"SGE_ROOT": "/var/lib/gridengine", "SGE_CELL": "default"}

    def full(self) -> tuple[str, ...]:
        return ("--nodes", "2", "--cpus", "8")


class Boxed(Cluster):
    """A sandbox. Its nodes are this machine."""

    nodes = 4

    def __init__(self, on: str, home: Path, env: dict[str, str]) -> None:
        super().__init__(on, home)
        self._env = env
        self.refused = (
            ("--queue", "nosuch"),
            {"slurm": "invalid partition specified", "pbs": "Unknown queue", "sge": "unknown queue"}[on],
        )

    def run(self, *argv: str, check: bool = True, **env: str) -> Done:
        return super().run(*argv, check=check, **self._env, **env)

    def full(self) -> tuple[str, ...]:
        return ("--nodes", "4", "--cpus", "4")


def _done(argv: Sequence[str], check: bool, **options: Any) -> Done:
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=100, **options)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@contextmanager
def local(home: Path) -> Iterator[Cluster]:
    """This machine, as whoever runs the tests."""
    with _served(Cluster("local", home)) as cluster:
        yield cluster


@contextmanager
def emulated(on: str, kind: type[Emulated], home: Path) -> Iterator[Emulated]:
    """A cluster of our own, which lives as long as the standard input of its script is open."""
    require(on, os.getuid() == 0, "only root can make the namespaces that a cluster on one machine needs")
    missing = [name for name in kind.programs if not any((Path(folder) / name).exists() for folder in ("/usr/bin", "/usr/sbin"))]
    require(on, not missing, f"there is no {', '.join(missing)}; .ci/run says which packages have them")
    alone = [
        "unshare",
        "--mount",
        "--uts",
        "--net",
        "--ipc",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation=private",
    ]
    allowed = subprocess.run([*alone, "true"], stderr=subprocess.DEVNULL).returncode == 0
    require(on, allowed, "this machine allows no namespaces, which a cluster on one machine needs")
    readable = sorted({str(REPOSITORY), sys.prefix, sys.base_prefix})
    log = home.parent / f"{on}.log"
    with log.open("wb") as errors:
        started = subprocess.Popen(
            [*alone, str(HERE / kind.script), str(home), *readable], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    with started:
        assert started.stdout is not None and started.stdout.readline() == b"up\n", log.read_text()
        first = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text()
        with _served(kind(on, home, int(first))) as cluster:
            yield cluster


@contextmanager
def boxed(on: str, home: Path) -> Iterator[Cluster]:
    """A scheduler in a box."""
    box = home.parent / "box"
    with _served(Boxed(on, home, sandbox.open_(box, on))) as cluster:
        yield cluster
    sandbox.end(box)


@contextmanager
def _served(cluster: Any) -> Iterator[Any]:
    """The user's server ends with the tests."""
    try:
        yield cluster
    finally:
        cluster.noria("server", "stop", check=False)


PLACES: dict[str, Callable[[Path], AbstractContextManager[Any]]] = {
    "local": local,
    "slurm": partial(emulated, "slurm", Slurm),
    "sge": partial(emulated, "sge", GridEngine),
    **{f"{kind}-sandbox": partial(boxed, kind) for kind in sandbox.KINDS},
}
"""How each is brought up."""
