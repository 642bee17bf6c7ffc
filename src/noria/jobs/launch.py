"""On a node: start the user's processes, pass signals on, keep the clock, try again, and say how it ended.

Started by the job's script, once for each node: `python -m noria.jobs.launch FOLDER`. It imports nothing that a node
may lack, talks to nobody, and leaves everything it knows in the job's folder.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from zlib import crc32

from noria import process
from noria.errors import NoriaError
from noria.jobs.carry import VARIABLE as CLIENT
from noria.jobs.dialect import Dialect, Placement
from noria.jobs.folder import Exit, Folder, Started, Task
from noria.jobs.system import recorded
from noria.plugins import Kind
from noria.types import Job

GRACE = 10.0
"""Seconds between TERM and KILL."""
_TICK = 0.05
_PEERS = 1.0
_PEERS_LAG = 30.0
"""Seconds between looks at what other nodes wrote, and how long a shared file system may take to show it."""
SCHEDULERS: Kind[Dialect] = Kind("noria.jobs.schedulers")


class Launcher:
    """One node's part of a job."""

    def __init__(self, folder: Folder, job: Job, placement: Placement, stops: frozenset[int]) -> None:
        """stops: the signals by which this scheduler says that it will kill."""
        self.stops = stops
        self.folder, self.job, self.placement = folder, job, placement
        self.asked_to_stop = 0
        self.ranks: dict[int, process.Popen[bytes]] = {}
        self._first_exit: Exit | None = None
        self._looked = 0.0
        self.attempt = 1
        self._told: float | None = None
        self._deadline = time.monotonic() + job.spec.time if job.spec.time and job.spec.scheduler == "local" else None

    def run(self) -> int:
        """All tries, to the exit code of the job."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._on_signal)
        with recorded(
            self.folder, self.job, self.placement, lambda: {rank: child.pid for rank, child in dict(self.ranks).items()}
        ):
            exit = self._tries()
        if self.placement.node_rank:
            self.folder.write_node_exit(self.placement.node_rank, exit)
        else:
            self.folder.write_exit(self._worst(exit))
        return exit.code

    def _tries(self) -> Exit:
        while True:
            exit = self._try()
            if exit.code == 0 or self.asked_to_stop or exit.reason or self.attempt > self.job.spec.max_restarts:
                return exit
            self.attempt += 1
            print(f"noria: {_how(exit)}; try {self.attempt} of {self.job.spec.max_restarts + 1} begins", flush=True)

    def _worst(self, own: Exit) -> Exit:
        """The first failure of any node; the others are waited for, so that nothing is said after the end is."""
        others = range(1, self.job.spec.nodes)
        until = time.monotonic() + GRACE + _PEERS_LAG
        while any(self.folder.node_exit(node) is None for node in others) and time.monotonic() < until:
            time.sleep(_PEERS)
        exits = [own, *(self.folder.node_exit(node) or own for node in others)]
        return min((exit for exit in exits if exit.code), key=lambda exit: exit.ended, default=own)

    def _try(self) -> Exit:
        self._first_exit = None
        try:
            self._start()
        except OSError as error:
            what = self.job.spec.command[0] if error.filename in (None, self.job.spec.command[0]) else error.filename
            self._fail(self._ended(127, reason=f"cannot start {what}: {error.strerror}"))
        while self._running():
            time.sleep(_TICK)
            self._look()
        for child in self.ranks.values():  # Whatever tasks have left behind goes with them.
            process.send_group(child.pid, signal.SIGKILL)
        return self._first_exit or self._ended(0)

    def _start(self) -> None:
        spec, base = self.job.spec, self.placement.node_rank * self.job.spec.tasks_per_node
        self.ranks = {}
        self.folder.logs.mkdir(exist_ok=True)
        user = self.folder.environment()
        for local in range(spec.tasks_per_node):
            env = _with_client({**os.environ, **user, **self._rank_env(base + local, local, user)})
            self.ranks[base + local] = process.start(
                spec.command, log=self.folder.logs / f"rank{base + local}.log", env=env, cwd=spec.cwd or None
            )
        if self.placement.node_rank == 0:
            tasks = [Task(rank, child.pid, process.born(child.pid)) for rank, child in self.ranks.items()]
            me = os.getpid()
            self.folder.write_started(Started(self.attempt, socket.gethostname(), me, process.born(me), _now(), tasks))

    def _rank_env(self, rank: int, local: int, user: Mapping[str, str]) -> dict[str, str]:
        """What torchrun sets, by the same names, and what Noria's client reads."""
        spec, nodes = self.job.spec, self.placement.nodes
        env = {
            "RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": spec.world_size, "LOCAL_WORLD_SIZE": spec.tasks_per_node,
            "GROUP_RANK": self.placement.node_rank, "MASTER_ADDR": nodes[0] if len(nodes) > 1 else "127.0.0.1",
            "MASTER_PORT": _port(self.job.id, self.attempt), "NORIA_ATTEMPT": self.attempt, "NORIA_JOB_ID": self.job.id,
            "NORIA_RUN_ID": self.job.run_id, "NORIA_JOB_FOLDER": self.folder.path,
            "PYTHONUNBUFFERED": 1,
        }  # fmt: skip
        if "OMP_NUM_THREADS" not in user:
            env["OMP_NUM_THREADS"] = spec.cpus
        if self.placement.gpus is not None:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(self.placement.gpus)
        return {key: str(value) for key, value in env.items()}

    def _running(self) -> bool:
        """Whether a task lives; the first that failed decides the try, and ends the others."""
        for rank, child in self.ranks.items():
            status = child.poll()
            if status and self._first_exit is None:
                self._fail(self._ended(process.exit_code(status), rank))
        return any(child.returncode is None for child in self.ranks.values())

    def _fail(self, exit: Exit) -> None:
        self._first_exit = exit
        self.folder.write_failed(exit)
        self._end_all()

    def _look(self) -> None:
        """The clock, whoever wants us to stop, and what launchers on other nodes saw."""
        now = time.monotonic()
        if self.asked_to_stop and self._told is None:
            self._told = now
            self._signal_all(signal.SIGTERM)
        if self._told is not None and now > self._told + GRACE:
            self._signal_all(signal.SIGKILL)
        if self._deadline and now > self._deadline and self._first_exit is None:
            self._fail(self._ended(128 + signal.SIGTERM, reason=f"time limit of {self.job.spec.time} s reached"))
        if self.job.spec.nodes > 1 and now - self._looked > _PEERS and self._first_exit is None:
            self._looked = now
            seen = self.folder.failed(self.attempt)
            if seen:
                self._first_exit = seen
                self._end_all()

    def _end_all(self) -> None:
        """TERM to all, time to save a checkpoint, then KILL."""
        self._signal_all(signal.SIGTERM)
        until = time.monotonic() + GRACE
        while any(child.poll() is None for child in self.ranks.values()) and time.monotonic() < until:
            time.sleep(_TICK)
        self._signal_all(signal.SIGKILL)
        for child in self.ranks.values():
            child.wait()

    def _signal_all(self, number: int) -> None:
        for child in self.ranks.values():
            process.send_group(child.pid, number)

    def _on_signal(self, number: int, _: object) -> None:
        """A stop is only noted, for the loop to act on; other signals go to the tasks as they are."""
        if number in self.stops:
            self.asked_to_stop = self.asked_to_stop or number
        else:
            self._signal_all(number)

    def _ended(self, code: int, rank: int | None = None, reason: str = "") -> Exit:
        return Exit(code, _now(), self.attempt, rank, reason)


def _with_client(env: dict[str, str]) -> dict[str, str]:
    """The environment with Noria's client behind everything else that PYTHONPATH names."""
    client = env.get(CLIENT)
    return {**env, "PYTHONPATH": os.pathsep.join(filter(None, [env.get("PYTHONPATH"), client]))} if client else env


def _how(exit: Exit) -> str:
    who = f"rank {exit.rank}" if exit.rank is not None else "the job"
    if exit.code > 128:
        try:
            return f"{who} was ended by {signal.Signals(exit.code - 128).name}"
        except ValueError:
            pass
    return f"{who} exited with code {exit.code}"


def _port(job_id: str, attempt: int) -> int:
    """A rendezvous port that all nodes compute alike; each try has its own, since the last one's may linger."""
    return 20_000 + (crc32(job_id.encode()) + 7 * attempt) % 12_000


def _now() -> int:
    return int(time.time() * 1000)


def main(path: str) -> int:
    folder = Folder(Path(path))
    try:
        job = folder.job()
        dialect = SCHEDULERS.get(job.spec.scheduler)
        placement = dialect.placement(os.environ, lambda name: Path(name).read_text(), process.run)
        return Launcher(folder, job, placement, dialect.STOPS).run()
    except (NoriaError, OSError) as error:
        print(f"noria: the job cannot start: {error}", file=sys.stderr)
        folder.write_exit(Exit(127, _now(), 1, reason=f"the job cannot start: {error}"))
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
