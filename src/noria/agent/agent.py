"""One user's hands on one cluster: claim what was asked for, submit it, watch it, relay what it says.

The agent keeps nothing that it could lose: jobs are folders, offsets are the server's. It is killed and started again
without a trace.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from noria import process
from noria.agent.relay import Relay
from noria.client import disk
from noria.client.http import Server
from noria.door import job_token
from noria.errors import NoriaError, Unavailable
from noria.jobs import carry, localq
from noria.jobs.dialect import Dialect, Seen, words
from noria.jobs.folder import Exit, Folder
from noria.jobs.frameworks import CLIENT
from noria.jobs.submit import folder_of, forget, submit
from noria.jobs.watch import judge, look
from noria.plugins import Kind
from noria.process import Answer
from noria.projects import code
from noria.types import ENDED, Job
from noria.wire import jobs as wire

SCHEDULERS: Kind[Dialect] = Kind("noria.jobs.schedulers")
TICK = 0.2
"""Seconds between two passes while there is something to watch, and `_IDLE` while there is not."""
_IDLE = 0.5
_CLAIM = 2.0
_LAG = 30.0
"""Seconds after a job's end that its node's last writes are waited for, if they are not seen from here yet."""
_BLIND = 5.0
"""The same where the launcher did not say how much it wrote."""
_ASK_FIRST, _ASK_MOST = 2.0, 30.0
_REFUSED = 2.0
"""Seconds until a scheduler is asked again for what it did not take."""


class Asked(Struct):
    """How one scheduler is asked: with growing pauses, and what it said last."""

    every: float = _ASK_FIRST
    next: float = 0.0
    seen: dict[str, Seen] = {}
    missing: dict[str, int] = {}


class Agent:
    """Runs in a thread of a local server, or alone beside a cluster."""

    def __init__(self, url: str, token: str, home: Path, user: str | None = None) -> None:
        """home: where job folders and spools are; on a cluster, on a file system that the nodes share."""
        self.server = Server(url, token)
        self.relay = Relay(self.server)
        self.home, self.user = home, user or process.whoami()
        self._open: dict[str, Job] = {}
        self._met, self._claimed = False, 0.0
        self._asked: dict[str, Asked] = {}
        self._wake, self._stop = threading.Event(), threading.Event()
        self._passes, self._wanted, self._passed = 0, 0, threading.Condition()
        self._cancelled: set[str] = set()
        self._requeued: set[str] = set()
        self._sites: dict[str, dict[str, str]] = {}
        self._refusing: dict[str, float] = {}
        self._complaints: dict[str, str] = {}
        self._lock = -1
        self._thread = threading.Thread(target=self._forever, name="noria-agent", daemon=True)
        self._env = {**os.environ, "NORIA_HOME": str(home)}

    @property
    def name(self) -> str:
        """Who claims: of several agents at one home only the one that holds its lock, so that no job is submitted twice."""
        if self._lock < 0:
            self._lock = _hold(self.home / "agent.lock")
        return f"{socket.gethostname()}:{self.home}" if self._lock >= 0 else ""

    @cached_property
    def schedulers(self) -> list[str]:
        """The schedulers that answer here. Asked for once, by the agent's thread: a server does not wait for them."""
        return [name for name in SCHEDULERS.names() if process.run(SCHEDULERS.get(name).PROBE, timeout=10).code == 0]

    def __enter__(self) -> Agent:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(5)
        if not self._thread.is_alive():
            self.server.close()

    def flush(self, timeout: float) -> bool:
        """Wait for a pass that began after this call: what lay in the spools by now is shipped then."""
        with self._passed:
            wanted = self._wanted = self._passes + 2  # The pass under way may have looked already.
            self._wake.set()
            return self._passed.wait_for(lambda: self._passes >= wanted, timeout)

    def wake(self) -> None:
        """There is new work: look now. Any thread may call this."""
        self._claimed = 0.0
        self._wake.set()

    def _forever(self) -> None:
        pause, complained = TICK, ""
        while not self._stop.is_set():
            self._wake.wait(pause)
            self._wake.clear()
            try:
                busy = self.tick()
                pause, complained = TICK if busy else _IDLE, ""
            except Exception as error:  # Whatever it was, the jobs of tomorrow still need their agent.
                sentence = error.message if isinstance(error, NoriaError) else f"{type(error).__name__}: {error}"
                if sentence != complained and not self._stop.is_set():
                    print(f"noria: agent: {sentence}", file=sys.stderr, flush=True)
                complained, pause = sentence, min(pause * 2, 5.0)
                continue
            with self._passed:
                self._passes += 1
                self._passed.notify_all()
                if self._passes < self._wanted:
                    self._wake.set()

    def _complain(self, about: str, sentence: str) -> None:
        """On stderr, once for each new sentence about the same thing."""
        if self._complaints.get(about) != sentence:
            print(f"noria: agent: {sentence}", file=sys.stderr, flush=True)
            self._complaints[about] = sentence

    def run(self) -> None:
        """Run in this thread until interrupted."""
        self._forever()

    def tick(self) -> bool:
        """One pass: new work, cancellations, open jobs, spools of scripts. Whether there is something to watch."""
        if self._open or time.monotonic() - self._claimed > _CLAIM:
            self._claimed = time.monotonic()
            self._claim()
        for job in list(self._open.values()):
            try:
                self._watch(job)
            except (OSError, ValueError) as error:  # One job's broken folder must not hold up the others.
                self._complain(job.id, f"job {job.id} in {job.folder} cannot be watched: {error}")
        return self._relay_scripts() or bool(self._open)

    def _claim(self) -> None:
        work = self.server.call(wire.CLAIM, wire.Claim(self.user, self.schedulers, self.name, all_open=not self._met))
        self._open |= {job.id: job for job in work.open}
        self._met = True
        for job in work.claimed:
            self._submit(job)
        self._requeued = {job_id for job_id in work.requeue if job_id in self._open}
        for name in self.schedulers:
            self._cancel(name, [job_id for job_id in (*work.cancel, *work.requeue) if self._scheduler_of(job_id) == name])
            for verb, ids in (("hold", work.hold), ("release", work.release)):
                self._tell(name, verb, [self._open[job_id] for job_id in ids if self._scheduler_of(job_id) == name])
            self._ask(name)

    def _scheduler_of(self, job_id: str) -> str:
        return self._open[job_id].spec.scheduler if job_id in self._open else ""

    def _run(self, argv: Sequence[str]) -> Answer:
        if argv[:3] == localq.COMMAND:
            return localq.answer(argv[3:], self.home)
        return process.run(argv, env=self._env)

    def _site(self, scheduler: str) -> dict[str, str]:
        """What this site calls things, asked for until it says so."""
        if not self._sites.get(scheduler):
            self._sites[scheduler] = SCHEDULERS.get(scheduler).learn(self._run)
        return self._sites[scheduler]

    def _submit(self, job: Job) -> None:
        """Submit a job. A scheduler that takes none just now, be it that the site's limit is reached, is left alone for a while."""
        name = job.spec.scheduler
        if time.monotonic() < self._refusing.get(name, 0.0):
            return
        dialect, folder = SCHEDULERS.get(name), folder_of(self.home, job.id)
        job = replace(job, spec=replace(job.spec, site={**self._site(name), **job.spec.site}))
        try:
            if job.spec.code is not None:
                job = replace(job, spec=replace(job.spec, cwd=str(code.thaw(job.spec.code, folder.path / "code"))))
            scheduler_id = submit(job, folder, dialect, self._job_env(job, folder), self._run)
        except (Unavailable, OSError) as error:
            self._refusing[name] = time.monotonic() + _REFUSED
            sentence = (
                error.message
                if isinstance(error, Unavailable)
                else f"its folder {folder.path} cannot be written: {error.strerror}"
            )
            if sentence != job.reason:
                self._report(job, wire.Report(job.id, "QUEUED", reason=sentence))
            return
        except NoriaError as error:
            self._report(job, wire.Report(job.id, "FAILED", ended=_now(), exit_code=1, reason=error.message))
            return
        self._report(job, wire.Report(job.id, "SUBMITTED", folder=str(folder.path), scheduler_id=scheduler_id, reason=""))

    def _job_env(self, job: Job, folder: Folder) -> dict[str, str]:
        """What makes Noria's and mlflow's clients work in the job, whichever environment it has.

        An unmodified mlflow script speaks to the server from this machine; on a cluster's node, where a loopback address would
        lead nowhere and there may be no network at all, to the job's spools.
        """
        env = {"NORIA_HOME": str(self.home), "MLFLOW_RUN_ID": job.run_id, "MLFLOW_EXPERIMENT_NAME": job.spec.experiment}
        env |= {CLIENT: str(carry.carry(self.home))}
        if job.spec.scheduler != "local":
            return env | {"MLFLOW_TRACKING_URI": f"noria-spool://{quote(str(folder.spool))}"}
        token = job_token(self.server.token, job.id)
        here = {"MLFLOW_TRACKING_URI": self.server.url, "NORIA_SERVER": self.server.url}
        return env | here | {"MLFLOW_TRACKING_TOKEN": token, "NORIA_TOKEN": token}

    def _report(self, job: Job, report: wire.Report) -> None:
        """Tell the server, and take its word for what the job is now."""
        self.server.call(wire.REPORT, report)
        job = self.server.call(wire.GET, wire.Key(job.id)).job
        if job.state in ("QUEUED", "COMPLETED", "FAILED", "CANCELLED"):
            self._open.pop(job.id, None)
            self._cancelled.discard(job.id)
        else:
            self._open[job.id] = job

    def _cancel(self, scheduler: str, ids: Sequence[str]) -> None:
        wanted = [self._open[job_id].scheduler_id for job_id in ids if job_id not in self._cancelled]
        if wanted:
            self._run(SCHEDULERS.get(scheduler).cancel(wanted))
            self._cancelled.update(ids)

    def _tell(self, scheduler: str, verb: str, jobs: Sequence[Job]) -> None:
        """Hold or release jobs that wait in the queue, and look at it anew. What fails is told, and tried again after a while."""
        about = f"{scheduler} {verb}"
        if not jobs or time.monotonic() < self._refusing.get(about, 0.0):
            return
        dialect = SCHEDULERS.get(scheduler)
        command = dialect.hold if verb == "hold" else dialect.release
        answer = self._run(command([job.scheduler_id for job in jobs]))
        if answer.code != 0:
            self._refusing[about] = time.monotonic() + _REFUSED
            self._complain(about, f"{verb}: {words(answer)}")
            for job in jobs:
                self._report(job, wire.Report(job.id, job.state, reason=f"noria {verb} has not worked yet: {words(answer)}"))
            return
        for job in jobs:
            self._report(job, wire.Report(job.id, job.state, done=verb))
        self._asked[scheduler] = Asked()

    def _ask(self, scheduler: str) -> None:
        """One query for all open jobs of a scheduler, with pauses that grow while nothing changes."""
        asked = self._asked.setdefault(scheduler, Asked())
        mine = [job for job in self._open.values() if job.spec.scheduler == scheduler and not _spoke(self._folder(job))]
        if not mine or time.monotonic() < asked.next:
            return
        dialect = SCHEDULERS.get(scheduler)
        try:
            seen = dialect.states(self._run(dialect.query(self.user)))
            lost = [job.scheduler_id for job in mine if job.scheduler_id not in seen]
            accounting = dialect.final(lost) if lost else None
            if accounting is not None:
                seen = {**dialect.finals(self._run(accounting)), **seen}
        except NoriaError as error:
            self._complain(scheduler, error.message)
            seen, lost = asked.seen, []
        # An id counts as gone only after three queries without it: schedulers forget for moments.
        asked.missing = {key: asked.missing.get(key, 0) + 1 for key in lost if key not in seen}
        asked.every = _ASK_FIRST if seen != asked.seen else min(asked.every * 1.5, _ASK_MOST)
        asked.seen, asked.next = seen, time.monotonic() + asked.every

    def _folder(self, job: Job) -> Folder:
        return Folder(Path(job.folder)) if job.folder else folder_of(self.home, job.id)

    def _watch(self, job: Job) -> None:
        """Look first, ship then, report last: whatever was written before a job's end is readable once the end is."""
        folder, asked = self._folder(job), self._asked[job.spec.scheduler]
        view = look(folder)
        spools = sorted(folder.spool.glob("*.spool"))
        self.relay.ship(spools)
        if view.exit is not None and job.spec.scheduler != "local" and _lags(view.exit, spools):
            return
        report = judge(job, view, asked.seen.get(job.scheduler_id), asked.missing.get(job.scheduler_id, 0) >= 3, _now())
        if report is None or (report.state in ENDED and not self._settled(spools)):
            return
        if job.id in self._requeued and report.state in ("FAILED", "CANCELLED"):
            forget(
                folder
            )  # First: if we die now, a job is found that left its queue without a word, and is submitted all the same.
        self._report(job, report)
        if job.id not in self._open:
            for path in spools:
                self.relay.forget(path)

    def _settled(self, spools: Sequence[Path]) -> bool:
        """Ship what is left of spools that nobody writes any more. Whether no file of theirs is still being offered again."""
        for path in spools:
            self.relay.finish(path, over=True)
        return not any(self.relay.retries(path) for path in spools)

    def _relay_scripts(self) -> bool:
        """Spools of scripts outside of jobs; one that is done is put aside. Whether there are any."""
        folder = self.home / "spool"
        spools = sorted(folder.glob("*.spool"))
        for path in spools:
            try:
                self.relay.ship([path])
                if self.relay.finish(path):
                    self._put_aside(path, folder / "shipped")
            except OSError as error:  # One spool that cannot be moved must not hold up the others.
                self._complain(str(path), f"spool {path} cannot be put aside: {error.strerror}")
        return bool(spools)

    def _put_aside(self, path: Path, shipped: Path) -> None:
        """Files that the server has are removed; those that it did not take are kept."""
        files = path.with_suffix(".files")
        if self.relay.keeps_files(path):
            disk.move(files, shipped)
        else:
            shutil.rmtree(files, ignore_errors=True)
        disk.move(path, shipped)
        self.relay.forget(path)


def _hold(path: Path) -> int:
    """A lock that is held until this process ends; -1 if another one holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    except OSError:  # A file system without locks: whoever set it up so runs one agent.
        pass
    return descriptor


def _lags(exit: Exit, spools: Sequence[Path]) -> bool:
    """Whether something that was written on a node before this end has yet to be seen here."""
    since = time.time() - exit.ended / 1000
    if exit.spools is None:
        return since < _BLIND
    seen = {path.name: path.stat().st_size for path in spools}
    return since < _LAG and any(seen.get(name, -1) < size for name, size in exit.spools.items())


def _spoke(folder: Folder) -> bool:
    return folder.exit() is not None


def _now() -> int:
    return int(time.time() * 1000)
