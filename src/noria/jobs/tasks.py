"""The processes of one node: what each is told, that it is bound to its CPUs, signalled, and how it ended."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from noria import process
from noria.client.interval import MTBF
from noria.jobs import frameworks
from noria.jobs.dialect import Placement
from noria.jobs.folder import Folder, Node, Rank
from noria.jobs.frameworks import CLIENT, fixed, usual
from noria.jobs.machine import bound, interfaces, place, shares
from noria.types import Job

GRACE = 10.0
"""Seconds between TERM and KILL."""
_LINES, _TAIL = 10, 4096
"""Lines of a task's log that are kept with its end, and the bytes at the log's end that they are looked for in."""


class Tasks:
    """The tasks that a launcher starts on its node."""

    def __init__(self, folder: Folder, job: Job, placement: Placement) -> None:
        self.folder, self.job, self.placement = folder, job, placement
        self.attempt = job.tries + 1
        self.ranks: dict[int, process.Popen[bytes]] = {}
        self.node = Node(placement.node_rank, placement.nodes[placement.node_rank], self.attempt, 0, [])
        self._logged: dict[int, int] = {}
        self._user, self._usual = folder.environment(), dict[str, str]()
        self._network = interfaces(placement.nodes[placement.node_rank == 0]) if len(placement.nodes) > 1 else {}
        self._mtbf = 0.0
        self._bell, self.rung = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def _wait(self, seconds: float) -> None:
        """Until something rings, or so long."""
        if select.select([self._bell], [], [], seconds)[0]:
            os.read(self._bell, 4096)

    def _start_tasks(self) -> None:
        spec, allowed = self.job.spec, sorted(os.sched_getaffinity(0))
        parts = shares(allowed, spec.tasks_per_node, spec.cpus, place)
        for local in range(spec.tasks_per_node):
            env = self.environment(*self._said(local))
            with bound(parts[local] if parts else ()):
                self._launch(self.placement.node_rank * spec.tasks_per_node + local, spec.command, env)

    def _said(self, local: int) -> tuple[dict[str, str], dict[str, str]]:
        """What a task is told; a script starts what belongs together itself, and hears only what its scheduler says."""
        spec = self.job.spec
        if spec.script:
            return {} if spec.as_is else {"OMP_NUM_THREADS": str(spec.cpus)}, {}
        where = self.job, self.placement, self.attempt, local
        together = frameworks.recorded(str(self.folder.logs)) if spec.world_size > 1 else {}
        return {**together, **usual(*where)}, fixed(*where, os.environ)

    def _launch(self, rank: int, command: Sequence[str], env: Mapping[str, str]) -> None:
        log = self.folder.logs / f"rank{rank}.log"
        self._logged[rank] = log.stat().st_size if log.exists() else 0
        child = self.ranks[rank] = process.start(command, log=log, env=env, cwd=self.job.spec.cwd or None)
        self.node.ranks.append(Rank(rank, child.pid, now(), begins=self._logged[rank]))

    def environment(self, usual: Mapping[str, str], fixed: Mapping[str, str]) -> dict[str, str]:
        """A task's: the node's, what is usual, the job's own, and what is fixed."""
        ours = {
            "NORIA_ATTEMPT": str(self.attempt), "NORIA_JOB_ID": self.job.id, "NORIA_RUN_ID": self.job.run_id,
            "NORIA_JOB_FOLDER": str(self.folder.path), MTBF: str(round(self._mtbf)),
        }  # fmt: skip
        if self.placement.gpus is not None:
            ours["CUDA_VISIBLE_DEVICES"] = ",".join(self.placement.gpus)
        return _with_client({**self._network, **os.environ, **self._usual, **usual, **self._user, **fixed, **ours})

    def processes(self) -> list[process.Popen[bytes]]:
        """What runs here for the job, in the order in which it was started."""
        return list(self.ranks.values())

    def _reap(self, rank: int, child: process.Popen[bytes]) -> None:
        """Take the end of a task, with what it used: Popen would drop that."""
        if child.returncode is not None:
            return
        pid, status, used = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            (record,) = (each for each in self.node.ranks if each.rank == rank)
            record.ended, record.code, record.peak = now(), process.exit_code(child.returncode), used.ru_maxrss * 1024
            record.last = _last_lines(self.folder.logs / f"rank{rank}.log", self._logged[rank])

    def _end_all(self) -> None:
        """TERM to all, time to save a checkpoint, then KILL."""
        self._signal_all(signal.SIGTERM)
        until = time.monotonic() + GRACE
        while self._left() and time.monotonic() < until:
            self._wait(0.1)
        self._signal_all(signal.SIGKILL)
        while self._left():
            self._wait(0.1)

    def _left(self) -> bool:
        for rank, child in self.ranks.items():
            self._reap(rank, child)
        return any(child.poll() is None for child in self.processes())

    def _signal_all(self, number: int) -> None:
        for child in self.processes():
            process.send_group(child.pid, number)


def _last_lines(log: Path, start: int) -> list[str]:
    """The last lines that one try wrote to a log that it found `start` bytes long."""
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line.rstrip()[:500] for line in text.splitlines() if line.strip()][-_LINES:]


def _with_client(env: dict[str, str]) -> dict[str, str]:
    """The environment with Noria's client behind everything else that PYTHONPATH names."""
    client = env.get(CLIENT)
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, [env.get("PYTHONPATH"), client]))} if client else env


def now() -> int:
    return int(time.time() * 1000)
