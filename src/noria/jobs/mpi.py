"""A job that mpirun starts: one command on the first node, whose daemons on the others are started by our launchers there, not by ssh."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

import msgspec

from noria import process
from noria.jobs.dialect import Placement
from noria.jobs.folder import Folder, Order
from noria.jobs.frameworks import first, port
from noria.jobs.launch import Launcher
from noria.jobs.machine import network
from noria.jobs.remote import orders
from noria.types import Job

STARTERS = ("mpirun", "mpiexec", "orterun", "prterun", "mpiexec.hydra")
"""Programs that start the tasks themselves; any other is started by mpirun."""


class Mpi(Launcher):
    """One node's part of such a job: on the first node mpirun, and everywhere what it orders."""

    TICK = 0.1

    def __init__(self, folder: Folder, job: Job, placement: Placement, stops: frozenset[int], grace: float) -> None:
        super().__init__(folder, job, placement, stops, grace)
        self._obeyed: dict[Path, process.Popen[bytes]] = {}
        self._answered: set[Path] = set()
        self._me = placement.nodes[placement.node_rank]

    def _start_tasks(self) -> None:
        self._obeyed = {}
        orders(self.folder.path).mkdir(exist_ok=True)
        if self.placement.node_rank == 0:
            self._prepare()
            self._launch(0, command(self.job), self._environment())

    def _prepare(self) -> None:
        """mpirun's hosts, and what it calls for ssh."""
        hosts = "".join(f"{node} slots={self.job.spec.tasks_per_node}\n" for node in self.placement.nodes)
        self.folder.write("hosts", hosts)
        start = shlex.join([sys.executable, "-m", "noria.jobs.remote", str(self.folder.path)])
        self.folder.write("remote.sh", f'#!/bin/sh\nexec {start} "$@"\n', 0o700)

    def _environment(self) -> dict[str, str]:
        return self.environment({**settings(self.folder), **self._way()}, {
            "MASTER_ADDR": first(self.placement), "MASTER_PORT": str(port(self.job, self.attempt)),
        })  # fmt: skip

    def _way(self) -> dict[str, str]:
        """The network that leads to the other nodes: Open MPI tries all that there are, and hangs in one that leads nowhere."""
        there = network(self.placement.nodes[self.placement.node_rank == 0]) if len(self.placement.nodes) > 1 else ""
        names = ("OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include")
        return {name: there for name in names if there and name not in os.environ}

    def processes(self) -> list[process.Popen[bytes]]:
        return [*super().processes(), *self._obeyed.values()]

    def _running(self) -> bool:
        """On the first node until mpirun has ended, which is then said to the others; on those until they heard it."""
        with suppress(OSError):  # What cannot be read or answered now is the next time.
            self._obey()
        if self.placement.node_rank:
            return self._first_exit is None
        alive = super()._running()
        if not alive and self._first_exit is None:
            self._kept(lambda: self.folder.write_failed(self._ended(0)))
        return alive

    def _writers(self) -> list[str]:
        return ["*"]  # Only mpirun knows which rank is where.

    def _obey(self) -> None:
        for path in orders(self.folder.path).glob(f"{self.attempt}-*.json"):
            if path not in self._obeyed:
                wanted = msgspec.json.decode(path.read_bytes(), type=Order)
                if wanted.host == self._me:
                    log = self.folder.logs / f"mpi{self.placement.node_rank}.log"
                    self._obeyed[path] = process.start(["/bin/sh", "-c", wanted.command], log=log, env=self._environment())
        for path, child in self._obeyed.items():
            if path not in self._answered and (status := child.poll()) is not None:
                self.folder.write(f"orders/{path.stem}.exit", str(process.exit_code(status)))
                self._answered.add(path)


def command(job: Job) -> list[str]:
    """The command with mpirun before it, unless the person wrote that."""
    given = job.spec.command
    return given if os.path.basename(given[0]) in STARTERS else ["mpirun", "-n", str(job.spec.world_size), *given]


def settings(folder: Folder) -> dict[str, str]:
    """What Open MPI 4 and 5 must be told to take these hosts and this way to them, and not what they see of the scheduler."""
    hosts, agent = str(folder.path / "hosts"), str(folder.path / "remote.sh")
    return {
        "OMPI_MCA_orte_default_hostfile": hosts, "OMPI_MCA_plm": "rsh", "OMPI_MCA_plm_rsh_agent": agent,
        "OMPI_MCA_ras": "^slurm,gridengine,tm,lsf,alps,loadleveler",
        "PRTE_MCA_prte_default_hostfile": hosts, "PRTE_MCA_plm": "ssh", "PRTE_MCA_plm_ssh_agent": agent,
        "PRTE_MCA_ras": "^slurm,gridengine,pbs,lsf",
    }  # fmt: skip
