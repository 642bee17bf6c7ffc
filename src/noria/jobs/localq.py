"""The workstation's own queue: files, a lock, and no daemon.

Waiting and running jobs are entries in two folders below `<home>/local`. Whoever changes something (a submission, a job
that ends, a cancellation) takes the lock and starts what fits. So jobs outlive the server, and the queue moves on
without it.

    python -m noria.jobs.localq submit FOLDER | query | cancel ID… | hold ID… | release ID… | queues | nodes | run FOLDER
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
from msgspec import Struct

from noria import config, process
from noria.jobs import dialect
from noria.jobs.dialect import HELD, Node, Seen
from noria.jobs.folder import Exit, Folder
from noria.jobs.launch import main as launch
from noria.types import JobSpec

GPU_VARIABLE = "NORIA_LOCAL_GPUS"
_KEPT = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "PATH", "NORIA_HOME")


class Entry(Struct, frozen=True):
    """A job in the queue and what it takes; once it runs, also who it is and which GPUs it was given.

    The greater `priority` goes first. `begin` is the time, in milliseconds since 1970, before which it does not start.
    """

    id: str
    folder: str
    cpus: int
    mem: int
    gpus: int
    pid: int = 0
    born: str = ""
    given: list[str] = []
    priority: int = 0
    begin: int = 0
    held: bool = False


class Machine(Struct, frozen=True):
    """What there is to give away. Memory in bytes."""

    cpus: int
    mem: int
    gpus: list[str]


def machine() -> Machine:
    gpus = sorted(path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return Machine(len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), gpus)


def needs(spec: JobSpec) -> tuple[int, int, int]:
    """CPUs, bytes of memory and GPUs that a job takes from this machine."""
    return machine().cpus if spec.exclusive else spec.tasks_per_node * spec.cpus, spec.mem, spec.gpus


def fit(waiting: Sequence[Entry], running: Sequence[Entry], whole: Machine, now: int = 0) -> list[Entry]:
    """Who starts now: by priority and then in order of submission, and nobody overtakes one that still waits for room.

    now: the time in milliseconds since 1970. Jobs that are held or whose time has not come stand aside.
    """
    cpus = whole.cpus - sum(each.cpus for each in running)
    mem = whole.mem - sum(each.mem for each in running)
    taken = {gpu for each in running for gpu in each.given}
    free = [gpu for gpu in whole.gpus if gpu not in taken]
    chosen: list[Entry] = []
    ready = [each for each in waiting if not each.held and each.begin <= now]
    for each in sorted(ready, key=lambda each: -each.priority):
        # A job that asks for more than there is was refused at submission; what fits the empty machine runs when it is empty.
        if each.cpus > cpus or each.mem > mem or each.gpus > len(free):
            break
        given, free = free[: each.gpus], free[each.gpus :]
        cpus, mem = cpus - each.cpus, mem - each.mem
        chosen.append(msgspec.structs.replace(each, given=given))
    return chosen


class Queue:
    """The two folders. Every method holds the lock while it works."""

    def __init__(self, root: Path) -> None:
        self.waiting, self.running = root / "waiting", root / "running"
        for folder in (self.waiting, self.running):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = root / "lock"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def submit(self, folder: Folder) -> str:
        """Queue a job once, however often it is asked for."""
        job = folder.job()
        with self._locked():
            known = (
                list(self.waiting.glob(f"*-{job.id}")) or (self.running / job.id).exists() or folder.exit() or folder.started()
            )
            if not known:
                (cpus, mem, gpus), spec = needs(job.spec), job.spec
                entry = Entry(job.id, str(folder.path), cpus, mem, gpus, priority=spec.priority - spec.nice, begin=spec.begin)
                self._put(self.waiting / f"{time.time_ns():020d}-{job.id}", entry)
            self._start()
        return job.id

    def query(self) -> dict[str, Seen]:
        """What waits and what runs; who is in neither has ended."""
        with self._locked():
            self._start()
            now = _now()
            states = {each.id: Seen("SUBMITTED", None, _why(each, now)) for _, each in self._entries(self.waiting)}
            return states | {each.id: Seen("RUNNING") for _, each in self._entries(self.running)}

    def hold(self, ids: Sequence[str], held: bool = True) -> None:
        """Keep waiting jobs from starting, or let them."""
        with self._locked():
            for path, each in self._entries(self.waiting):
                if each.id in ids:
                    self._put(path, msgspec.structs.replace(each, held=held))
            self._start()

    def nodes(self) -> list[Node]:
        """This machine, as the only node of its queue."""
        whole, name = machine(), socket.gethostname()
        with self._locked():
            running = [each for _, each in self._entries(self.running)]
        cpus, mem = (sum(taken) for taken in zip((0, 0), *((each.cpus, each.mem) for each in running), strict=True))
        gpus = len(whole.gpus) - sum(len(each.given) for each in running)
        return [Node(name, "up", whole.cpus, whole.cpus - cpus, whole.mem, whole.mem - mem, len(whole.gpus), gpus, [], ["local"])]

    def queues(self) -> list[dialect.Queue]:
        (node,) = self.nodes()
        with self._locked():
            running, waiting = (len(self._entries(folder)) for folder in (self.running, self.waiting))
        free = int(node.free_cpus == node.cpus)
        return [dialect.Queue("local", "up", True, None, 1, free, node.cpus, node.free_cpus, running, waiting)]

    def cancel(self, ids: Sequence[str]) -> None:
        """End what runs, drop what waits."""
        with self._locked():
            for path, each in self._entries(self.waiting):
                if each.id in ids:
                    Folder(Path(each.folder)).write_exit(
                        Exit(128 + signal.SIGTERM, _now(), 0, reason="cancelled while it waited")
                    )
                    path.unlink()
            for _, each in self._entries(self.running):
                if each.id in ids and process.alive(each.pid, each.born):
                    os.kill(each.pid, signal.SIGTERM)
            self._start()

    def ended(self, job_id: str) -> None:
        with self._locked():
            (self.running / job_id).unlink(missing_ok=True)
            self._start()

    def _start(self) -> None:
        """Forget the dead, start what fits."""
        for path, each in self._entries(self.running):
            if not process.alive(each.pid, each.born):
                _sweep(Folder(Path(each.folder)))
                path.unlink(missing_ok=True)
        waiting = {each.id: path for path, each in self._entries(self.waiting)}
        running = [each for _, each in self._entries(self.running)]
        for each in fit([each for _, each in self._entries(self.waiting)], running, machine(), _now()):
            self._run(each, waiting[each.id])

    def _run(self, each: Entry, waiting: Path) -> None:
        """Start one job. The entries change first: a crash in between may lose a start, never double one."""
        self._put(self.running / each.id, each)
        waiting.unlink()
        folder = Folder(Path(each.folder))
        try:
            env = {name: os.environ[name] for name in _KEPT if name in os.environ}
            env[GPU_VARIABLE] = ",".join(each.given)
            log = folder.logs / "scheduler.log"
            child = process.start(process.python("noria.jobs.localq", "run", each.folder), log=log, env=env, cwd=each.folder)
            self._put(self.running / each.id, msgspec.structs.replace(each, pid=child.pid, born=process.born(child.pid)))
        except OSError as error:  # Its folder is gone or full: it must not hold up those behind it.
            (self.running / each.id).unlink(missing_ok=True)
            print(f"noria: job {each.id} cannot be started: {error}", file=sys.stderr)

    @staticmethod
    def _put(path: Path, entry: Entry) -> None:
        beside = path.parent / f".{path.name}"
        beside.write_bytes(msgspec.json.encode(entry))
        os.replace(beside, path)

    @staticmethod
    def _entries(folder: Path) -> list[tuple[Path, Entry]]:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
        return [(folder / name, msgspec.json.decode((folder / name).read_bytes(), type=Entry)) for name in names]


def _now() -> int:
    return int(time.time() * 1000)


def _why(each: Entry, now: int) -> str:
    """Why a job waits, where it is not for room."""
    return HELD if each.held else "Its start time has not come yet." if each.begin > now else ""


def _sweep(folder: Folder) -> None:
    """End the tasks of a launcher that was killed: nobody watches them, and their place is given away."""
    started = folder.started()
    if started is not None and folder.exit() is None:
        for task in started.tasks:
            if process.alive(task.pid, task.born):
                process.send(task.pid, signal.SIGKILL)


def main(argv: Sequence[str]) -> int:
    queue = Queue(config.load().folder / "local")
    verb, rest = argv[0], argv[1:]
    if verb == "submit":
        print(queue.submit(Folder(Path(rest[0]))))
    elif verb == "query":
        print(msgspec.json.encode(queue.query()).decode())
    elif verb in ("queues", "nodes"):
        print(msgspec.json.encode(queue.queues() if verb == "queues" else queue.nodes()).decode())
    elif verb in ("hold", "release"):
        queue.hold(rest, verb == "hold")
    elif verb == "cancel":
        queue.cancel(rest)
    elif verb == "run":
        code = launch(rest[0])
        queue.ended(Folder(Path(rest[0])).job().id)
        return code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
