"""The workstation's own queue: files, a lock, and no daemon.

Waiting and running jobs are entries in folders below `<home>/local`; the names of those that wait sort as they go first, so that a
long queue costs no more than a short one. Whoever changes something (a submission, a job that ends, a cancellation) takes the lock
and starts what fits. So jobs outlive the server, and the queue moves on without it.

Each job has a runner, which is its launcher and then starts the next job. It does that by forking: a fresh interpreter, which needs
ten times as long, is for the first of a row.

    python -m noria.jobs.localq submit FOLDER | query | cancel ID… | hold ID… | release ID… | why ID | queues | nodes |
        run FOLDER
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from noria import atomic, config, process
from noria.jobs import dialect
from noria.jobs.dialect import Node, Other, Seen, Wait
from noria.jobs.folder import Exit, Folder
from noria.jobs.idioms import HELD
from noria.jobs.launch import main as launch
from noria.jobs.machine import gpus
from noria.jobs.neighbours import Ledger, Taken, Wanted
from noria.process import Answer
from noria.types import JobSpec

GPU_VARIABLE = "NORIA_LOCAL_GPUS"
K = TypeVar("K")
COMMAND = process.python("noria.jobs.localq")
_KEPT = ("HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "PATH")
_ROW = 100
"""Runners that are forked from each other, one after the other; then comes a fresh one, which knows the release that is installed."""


class Entry(Struct, frozen=True):
    """A job in the queue and what it takes; once it runs, also who it is and which GPUs it was given.

    The greater `priority` goes first. `begin` is the time, in milliseconds since 1970, before which it does not start. `attempt` is the
    first try of this submission.
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
    attempt: int = 1


class Machine(Struct, frozen=True):
    """What there is to give away. Memory in bytes."""

    cpus: int
    mem: int
    gpus: list[str]


def machine() -> Machine:
    return Machine(len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), gpus())


def needs(spec: JobSpec) -> tuple[int, int, int]:
    """CPUs, bytes of memory and GPUs that a job takes from this machine."""
    return machine().cpus if spec.exclusive else spec.tasks_per_node * spec.cpus, spec.mem, spec.gpus


def fit(waiting: Iterable[tuple[K, Entry]], running: Sequence[Entry], whole: Machine) -> Iterator[tuple[K, Entry]]:
    """Who starts now, each with the key it came with: in the order given, and nobody overtakes one that waits for room.

    running: what is not free; one that was given no GPUs yet keeps as many free as it is to have.
    """
    cpus = whole.cpus - sum(each.cpus for each in running)
    mem = whole.mem - sum(each.mem for each in running)
    taken = {gpu for each in running for gpu in each.given}
    kept = sum(each.gpus for each in running if not each.given)
    free = [gpu for gpu in whole.gpus if gpu not in taken][kept:]
    for key, each in waiting if cpus else ():
        # A job that asks for more than there is was refused at submission; what fits the empty machine runs when it is empty.
        if each.cpus > cpus or each.mem > mem or each.gpus > len(free):
            return
        given, free = free[: each.gpus], free[each.gpus :]
        cpus, mem = cpus - each.cpus, mem - each.mem
        yield key, msgspec.structs.replace(each, given=given)
        if not cpus:
            return


class Queue:
    """The folders. Every method holds the lock while it works. Held jobs, those whose time has not come, and those whose last try still
    cleans up behind itself, stand aside."""

    def __init__(self, root: Path, row: int = _ROW) -> None:
        """row: how many runners were forked before this process; from _ROW on it starts fresh ones."""
        self._home, self._row, self._crowd = root.parent, row, ""
        self.waiting, self.aside, self.running = root / "waiting", root / "aside", root / "running"
        for folder in (self.waiting, self.aside, self.running):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = root / "lock"
        self._machine = config.load().machine
        self._ledger = Ledger(Path(self._machine), self._home)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def submit(self, folder: Folder) -> str:
        """Queue a job once, however often it is asked for."""
        job = folder.job()
        with self._locked():
            runs = [each.attempt for _, each in self._entries(self.running, [job.id])]  # An earlier try may be there yet.
            known = any(_id(name) == job.id for place in (self.waiting, self.aside) for name in _names(place))
            if not (known or job.tries + 1 in runs or folder.exit() or folder.started()):
                (cpus, mem, gpus), spec = needs(job.spec), job.spec
                entry = Entry(job.id, str(folder.path), cpus, mem, gpus, priority=spec.priority - spec.nice, begin=spec.begin,
                              attempt=job.tries + 1)  # fmt: skip
                self._put((self.aside if entry.begin or runs else self.waiting) / name(entry, time.time_ns()), entry)
            self._start()
        return job.id

    def query(self) -> dict[str, Seen]:
        """What waits and what runs; who is in neither has ended."""
        with self._locked():
            self._start()
            now = _now()
            states = {_id(name): Seen("SUBMITTED") for name in _names(self.waiting)}
            for job_id in list(states)[:1]:
                states[job_id] = Seen("SUBMITTED", None, self._crowd)  # Of the first alone: the others wait for it.
            states |= {each.id: Seen("SUBMITTED", None, _why(each, now)) for _, each in self._entries(self.aside)}
            return states | {_id(name): Seen("RUNNING") for name in _names(self.running)}

    def hold(self, ids: Sequence[str], held: bool = True) -> None:
        """Keep waiting jobs from starting, or let them."""
        with self._locked():
            for path, each in [*self._entries(self.waiting, ids), *self._entries(self.aside, ids)]:
                self._put(path, msgspec.structs.replace(each, held=held))
                os.replace(path, self.aside / path.name)
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
            running, waiting = len(_names(self.running)), len(_names(self.waiting)) + len(_names(self.aside))
        free = int(node.free_cpus == node.cpus)
        return [dialect.Queue("local", "up", True, None, 1, free, node.cpus, node.free_cpus, running, waiting)]

    def why(self, job_id: str) -> Wait:
        """Why a job waits: who runs here and in other queues of this machine, and who goes before it."""
        with self._locked():
            aside = next((each for _, each in self._entries(self.aside, [job_id])), None)
            ahead = list(takewhile(lambda each: each.id != job_id, (each for _, each in self._ready())))
            running = [each for _, each in self._entries(self.running)]
            with self._ledger.open() as ledger:
                theirs = ledger.taken()
        others = [_known(each) for each in (*running, *ahead)]
        others += [Other(str(each.pid), user, True, 1, each.cpus, len(each.gpus)) for user, each in theirs]
        if aside is not None:
            return Wait(_why(aside, _now()))
        return Wait(
            "Jobs that came first, or are of higher priority, wait before it."
            if ahead
            else "Waits until enough of this machine is free.",
            [],
            others,
        )

    def cancel(self, ids: Sequence[str]) -> None:
        """End what runs, drop what waits."""
        with self._locked():
            for path, each in [*self._entries(self.waiting, ids), *self._entries(self.aside, ids)]:
                _cancelled(Folder(Path(each.folder)))
                path.unlink()
            for _, each in self._entries(self.running, ids):
                if process.alive(each.pid, each.born):
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
        now, here = _now(), _names(self.running)
        for path, each in self._entries(self.aside):
            if not each.held and each.begin <= now and each.id not in here:
                os.replace(path, self.waiting / path.name)
        with self._ledger.open() as ledger:
            whole, theirs = machine(), ledger.taken()
            others = [Entry("", "", each.cpus, each.mem, 0, given=each.gpus) for _, each in theirs]
            others += [Entry("", "", each.cpus, each.mem, each.gpus) for each in ledger.first()]
            for path, each in fit(self._ready(), [*(each for _, each in self._entries(self.running)), *others], whole):
                self._run(each, path)
            taken = [Taken(each.cpus, each.mem, each.given, each.pid, each.born) for _, each in self._entries(self.running)]
            waits = next((Wanted(each.cpus, each.mem, each.gpus) for _, each in self._ready()), None)
            ledger.write(taken, waits, Wanted(whole.cpus, whole.mem, len(whole.gpus)))
            self._crowd = _crowd(theirs) if waits else ""

    def _ready(self) -> Iterator[tuple[Path, Entry]]:
        """Who may start, in order. Whoever held one of them may have died before it stood aside."""
        return (pair for pair in self._one_by_one(self.waiting) if not pair[1].held)

    def _run(self, each: Entry, waiting: Path) -> None:
        """Start one job. The entries change first: a crash in between may lose a start, never double one."""
        self._put(self.running / each.id, each)
        waiting.unlink()
        folder = Folder(Path(each.folder))
        try:
            env = {name: os.environ[name] for name in _KEPT if name in os.environ} | {
                "NORIA_HOME": str(self._home),
                "NORIA_MACHINE": self._machine,
            }
            env[GPU_VARIABLE] = ",".join(each.given)
            pid = self._runner(each.folder, folder.logs / "scheduler.log", env)
            self._put(self.running / each.id, msgspec.structs.replace(each, pid=pid, born=process.born(pid)))
        except OSError as error:  # Its folder is gone or full: it must not hold up those behind it.
            (self.running / each.id).unlink(missing_ok=True)
            print(f"noria: job {each.id} cannot be started: {error}", file=sys.stderr)

    def _runner(self, folder: str, log: Path, env: dict[str, str]) -> int:
        if self._row < _ROW and threading.active_count() == 1:  # A fork has one thread, and none of what the others held.
            return process.fork(lambda: run(folder, self._row + 1), log=log, env=env, cwd=folder)
        return process.start([*COMMAND, "run", folder], log=log, env=env, cwd=folder).pid

    @staticmethod
    def _put(path: Path, entry: Entry) -> None:
        atomic.write(path, msgspec.json.encode(entry))

    @classmethod
    def _entries(cls, folder: Path, ids: Sequence[str] | None = None) -> list[tuple[Path, Entry]]:
        """All that is in a folder, or these alone."""
        return list(cls._one_by_one(folder, ids))

    @staticmethod
    def _one_by_one(folder: Path, ids: Sequence[str] | None = None) -> Iterator[tuple[Path, Entry]]:
        """Read as they are asked for: of a long queue few are."""
        for name in _names(folder):
            if ids is None or _id(name) in ids:
                yield folder / name, msgspec.json.decode((folder / name).read_bytes(), type=Entry)


def _names(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


_MOST = 10**9


def name(entry: Entry, moment: int) -> str:
    """By priority, and then by when it came."""
    return f"{_MOST - max(-_MOST, min(_MOST, entry.priority)):010d}-{moment:020d}-{entry.id}"


def _id(name: str) -> str:
    return name.rpartition("-")[2]


def _now() -> int:
    return int(time.time() * 1000)


def _why(each: Entry, now: int) -> str:
    """Why a job waits, where it is not for room."""
    return (
        HELD if each.held else "Its start time has not come yet." if each.begin > now else "Its last try cleans up behind itself."
    )


def _known(each: Entry) -> Other:
    """A job of this queue, by what its folder says of it."""
    try:
        folder = Folder(Path(each.folder))
        job, started = folder.job(), folder.started()
    except OSError:
        return Other(each.id, "", bool(each.pid), 1, each.cpus, each.gpus)
    left = max(0, job.spec.time - (_now() - started.started) // 1000) if job.spec.time and started and each.pid else None
    return Other(each.id, job.user, bool(each.pid), 1, each.cpus, each.gpus, left, job.spec.name)


def _crowd(theirs: Sequence[tuple[str, Taken]]) -> str:
    """What others have of this machine, as a sentence."""
    users = sorted({user for user, _ in theirs})
    if not users:
        return ""
    cpus, gpus = sum(each.cpus for _, each in theirs), sum(len(each.gpus) for _, each in theirs)
    what = f"{cpus} CPUs and {gpus} GPUs" if gpus else f"{cpus} CPUs"
    return f"Waits for room: {' and '.join(users)} {'has' if len(users) == 1 else 'have'} {what} of this machine in other queues."


def _cancelled(folder: Folder) -> None:
    folder.write_exit(Exit(128 + signal.SIGTERM, _now(), folder.current(), reason="cancelled while it waited", cause="cancelled"))


def _sweep(folder: Folder) -> None:
    """End the tasks of a launcher that was killed: nobody watches them, and their place is given away."""
    started = folder.started()
    if started is not None and folder.exit() is None:
        for task in started.tasks:
            if process.alive(task.pid, task.born):
                process.send(task.pid, signal.SIGKILL)


def run(folder: str, row: int) -> int:
    """A runner, from begin to end; its exit code is the job's."""
    code = launch(folder)
    Queue(config.load().folder / "local", row).ended(Path(folder).name)  # Which is its id, also when the folder is gone.
    return code


def answer(argv: Sequence[str], home: Path) -> Answer:
    """What `python -m noria.jobs.localq` would print: whoever has this module need not start a process to ask."""
    verb, rest, queue = argv[0], argv[1:], Queue(home / "local")
    try:
        if verb == "submit":
            return Answer(0, queue.submit(Folder(Path(rest[0]))), "")
        if verb in ("query", "queues", "nodes"):
            return Answer(0, msgspec.json.encode(getattr(queue, verb)()).decode(), "")
        if verb == "why":
            return Answer(0, msgspec.json.encode(queue.why(rest[0])).decode(), "")
        if verb in ("hold", "release"):
            queue.hold(rest, verb == "hold")
        elif verb == "cancel":
            queue.cancel(rest)
        return Answer(0, "", "")
    except OSError as error:
        return Answer(1, "", str(error))


def main(argv: Sequence[str]) -> int:
    if argv[0] == "run":
        return run(argv[1], 0)
    said = answer(argv, config.load().folder)
    print(said.out or said.err, file=sys.stderr if said.code else sys.stdout)
    return said.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
