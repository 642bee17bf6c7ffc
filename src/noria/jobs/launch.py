"""On a node: start the user's processes, pass signals on, keep the clock, try again, and say how it ended.

Started by the job's script, once for each node: `python -m noria.jobs.launch FOLDER`. It imports nothing that a node
may lack, talks to nobody, and leaves everything it knows in the job's folder.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import structs

from noria import process
from noria.errors import Invalid, NoriaError
from noria.jobs.dialect import Dialect, Placement
from noria.jobs.folder import Exit, Folder, Node, Rank, Started, Task
from noria.jobs.frameworks import CLIENT, fixed, usual
from noria.jobs.machine import bound, interfaces, place, shares
from noria.jobs.system import recorded
from noria.plugins import Kind
from noria.types import Job

GRACE = 10.0
"""Seconds between TERM and KILL."""
_BEAT = 15.0
"""Seconds between two signs that a node's launcher lives."""
_EARLY = 5.0
"""A scheduler's order to stop that comes so shortly before the time limit means that limit."""
_PEERS = 1.0
_PEERS_LAG = 30.0
"""Seconds between looks at what other nodes wrote, and how long a shared file system may take to show it."""
_LINES, _TAIL = 10, 4096
"""Lines of a task's log that are kept with its end, and the bytes at the log's end that they are looked for in."""
KIND = "NORIA_LAUNCHER"
"""A job's variable: `mpi` if mpirun starts the tasks."""
SCHEDULERS: Kind[Dialect] = Kind("noria.jobs.schedulers")


class Launcher:
    """One node's part of a job."""

    TICK = 0.5
    """Seconds between two looks at the clock and at other nodes; signals and the ends of tasks are seen at once."""

    def __init__(self, folder: Folder, job: Job, placement: Placement, stops: frozenset[int]) -> None:
        """stops: the signals by which this scheduler says that it will kill."""
        self.stops = stops
        self.folder, self.job, self.placement = folder, job, placement
        self.asked_to_stop = 0
        self.ranks: dict[int, process.Popen[bytes]] = {}
        self._first_exit: Exit | None = None
        self._looked = self._beat = 0.0
        self.attempt = 1
        self._told: float | None = None
        self._deadline = time.monotonic() + job.spec.time if job.spec.time else None
        self.node = Node(placement.node_rank, placement.nodes[placement.node_rank], 1, 0, [])
        self._logged: dict[int, int] = {}
        self._user = folder.environment()
        self._network = interfaces(placement.nodes[placement.node_rank == 0]) if len(placement.nodes) > 1 else {}

    def run(self) -> int:
        """All tries, to the exit code of the job."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, self._on_signal)
        self._bell, rung = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(rung, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # Only to ring.
        with recorded(
            self.folder, self.job, self.placement, lambda: {rank: child.pid for rank, child in dict(self.ranks).items()}
        ):
            exit = self._tries()
        exit = structs.replace(exit, spools=self._spools())
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
            time.sleep(0.2)
        exits = [own, *(found for node in others if (found := self.folder.node_exit(node)))]
        worst = min((exit for exit in exits if exit.code), key=lambda exit: exit.ended, default=own)
        if len(exits) < self.job.spec.nodes or any(exit.spools is None for exit in exits):
            return structs.replace(worst, spools=None)
        return structs.replace(worst, spools={name: size for exit in exits for name, size in (exit.spools or {}).items()})

    def _spools(self) -> dict[str, int]:
        """What the tasks of this node, and its launcher, have logged."""
        return {
            path.name: path.stat().st_size for rank in self._writers() for path in self.folder.spool.glob(f"*-{rank}-*.spool")
        }

    def _writers(self) -> list[str]:
        """The ranks that log here, as names of spools have them; the launcher's own comes after all tasks'."""
        return [f"{rank:05d}" for rank in (*self.ranks, self.job.spec.world_size + self.placement.node_rank)]

    def _try(self) -> Exit:
        self._first_exit = None
        try:
            self._start()
        except OSError as error:
            what = error.filename or self.job.spec.command[0]
            self._fail(self._ended(127, reason=f"cannot start {what}: {error.strerror}"))
        while self._running():
            self._wait(self.TICK)
            self._look()
        for child in self._processes():  # Whatever tasks have left behind goes with them.
            process.send_group(child.pid, signal.SIGKILL)
        self._tell()
        return self._first_exit or self._ended(0)

    def _wait(self, seconds: float) -> None:
        """Until something rings, or so long."""
        if select.select([self._bell], [], [], seconds)[0]:
            os.read(self._bell, 4096)

    def _start(self) -> None:
        self.ranks, self.node.ranks, self.node.attempt = {}, [], self.attempt
        self.folder.logs.mkdir(exist_ok=True)
        self._start_tasks()
        self._tell()
        if self.placement.node_rank == 0:
            tasks = [Task(rank, child.pid, process.born(child.pid)) for rank, child in self.ranks.items()]
            me = os.getpid()
            self.folder.write_started(Started(self.attempt, socket.gethostname(), me, process.born(me), _now(), tasks))

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
        return usual(*where), fixed(*where, os.environ)

    def _launch(self, rank: int, command: Sequence[str], env: Mapping[str, str]) -> None:
        log = self.folder.logs / f"rank{rank}.log"
        self._logged[rank] = log.stat().st_size if log.exists() else 0
        child = self.ranks[rank] = process.start(command, log=log, env=env, cwd=self.job.spec.cwd or None)
        self.node.ranks.append(Rank(rank, child.pid, _now()))

    def environment(self, usual: Mapping[str, str], fixed: Mapping[str, str]) -> dict[str, str]:
        """A task's: the node's, what is usual, the job's own, and what is fixed."""
        ours = {
            "NORIA_ATTEMPT": str(self.attempt), "NORIA_JOB_ID": self.job.id, "NORIA_RUN_ID": self.job.run_id,
            "NORIA_JOB_FOLDER": str(self.folder.path),
        }  # fmt: skip
        if self.placement.gpus is not None:
            ours["CUDA_VISIBLE_DEVICES"] = ",".join(self.placement.gpus)
        return _with_client({**self._network, **os.environ, **usual, **self._user, **fixed, **ours})

    def _processes(self) -> list[process.Popen[bytes]]:
        return list(self.ranks.values())

    def _running(self) -> bool:
        """Whether a task lives; the first that failed decides the try, and ends the others."""
        for rank, child in self.ranks.items():
            self._reap(rank, child)
            if child.returncode and self._first_exit is None:
                self._fail(self._ended(process.exit_code(child.returncode), rank))
        return any(child.returncode is None for child in self.ranks.values())

    def _reap(self, rank: int, child: process.Popen[bytes]) -> None:
        """Take the end of a task, with what it used: Popen would drop that."""
        if child.returncode is not None:
            return
        pid, status, used = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            (record,) = (each for each in self.node.ranks if each.rank == rank)
            record.ended, record.code, record.peak = _now(), process.exit_code(child.returncode), used.ru_maxrss * 1024
            record.last = _last_lines(self.folder.logs / f"rank{rank}.log", self._logged[rank])

    def _tell(self) -> None:
        self.node.seen, self._beat = _now(), time.monotonic()
        try:
            self.folder.write_node(self.node)
        except OSError as error:  # A full disk does not end a training.
            print(f"noria: {self.folder.path} cannot be written: {error.strerror}", file=sys.stderr, flush=True)

    def _fail(self, exit: Exit) -> None:
        self._first_exit = exit
        self.folder.write_failed(exit)
        self._end_all()

    def _look(self) -> None:
        """The clock, whoever wants us to stop, and what launchers on other nodes saw."""
        now = time.monotonic()
        if self._deadline and self._first_exit is None and now > self._deadline - (_EARLY if self.asked_to_stop else 0):
            self._fail(self._ended(128 + signal.SIGTERM, reason=f"time limit of {self.job.spec.time} s reached"))
        if self.asked_to_stop and self._told is None:
            self._told = now
            self._signal_all(signal.SIGTERM)
        if self._told is not None and now > self._told + GRACE:
            self._signal_all(signal.SIGKILL)
        if now > self._beat + _BEAT:
            self._tell()
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
        while self._left() and time.monotonic() < until:
            self._wait(0.1)
        self._signal_all(signal.SIGKILL)
        while self._left():
            self._wait(0.1)

    def _left(self) -> bool:
        for rank, child in self.ranks.items():
            self._reap(rank, child)
        return any(child.poll() is None for child in self._processes())

    def _signal_all(self, number: int) -> None:
        for child in self._processes():
            process.send_group(child.pid, number)

    def _on_signal(self, number: int, _: object) -> None:
        """A stop is only noted, for the loop to act on; other signals go to the tasks as they are."""
        if number in self.stops:
            self.asked_to_stop = self.asked_to_stop or number
        else:
            self._signal_all(number)

    def _ended(self, code: int, rank: int | None = None, reason: str = "") -> Exit:
        """The end of a try, by its first task that failed or without one."""
        record = next((each for each in self.node.ranks if each.rank == rank), None)
        if record is None:
            return Exit(code, _now(), self.attempt, None, reason)
        return Exit(code, record.ended or _now(), self.attempt, rank, reason, self.node.host, record.last)


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


def _how(exit: Exit) -> str:
    who = f"rank {exit.rank}" if exit.rank is not None else "the job"
    if exit.code > 128:
        try:
            return f"{who} was ended by {signal.Signals(exit.code - 128).name}"
        except ValueError:
            pass
    return f"{who} exited with code {exit.code}"


def _now() -> int:
    return int(time.time() * 1000)


def launcher(job: Job) -> type[Launcher]:
    """Who starts the tasks of a job."""
    kind = job.spec.env.get(KIND, "")
    if not kind:
        return Launcher
    if kind != "mpi":
        raise Invalid(f"{KIND} is '{kind}'.", "Write mpi, or leave it out.")
    from noria.jobs.mpi import Mpi

    return Mpi


def main(path: str) -> int:
    folder = Folder(Path(path))
    try:
        job = folder.job()
        dialect = SCHEDULERS.get(job.spec.scheduler)
        placement = dialect.placement(os.environ, lambda name: Path(name).read_text(), process.run)
        return launcher(job)(folder, job, placement, dialect.STOPS).run()
    except (NoriaError, OSError) as error:
        print(f"noria: the job cannot start: {error}", file=sys.stderr)
        folder.write_exit(Exit(127, _now(), 1, reason=f"the job cannot start: {error}"))
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
