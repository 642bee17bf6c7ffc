"""One user's hands on one cluster: claim what was asked for, submit it, watch it, relay what it says.

The agent keeps nothing that it could lose: jobs are folders, offsets are the server's. It is killed and started again
without a trace.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from msgspec import Struct
from msgspec.structs import replace

from noria import process
from noria.agent.going_on import GoingOn
from noria.agent.relay import Relay
from noria.agent.scripts import Scripts
from noria.client.http import Server
from noria.door import job_token
from noria.errors import NoriaError, Unavailable
from noria.jobs import carry, clusters, localq
from noria.jobs.dialect import SCHEDULERS, Seen
from noria.jobs.folder import Exit, Folder
from noria.jobs.frameworks import CLIENT
from noria.jobs.idioms import words
from noria.jobs.say import say
from noria.jobs.submit import folder_of, submit
from noria.jobs.watch import judge, look, needs_word
from noria.process import Answer
from noria.projects import code
from noria.types import ENDED, Code, Job, JobSpec
from noria.wire import jobs as wire

TICK = 0.2
"""Seconds between two passes while there is something to watch, and `_IDLE` while there is not."""
_IDLE = 0.5
_CLAIM = 2.0
_LAG = 30.0
"""Seconds after a job's end that its node's last writes are waited for, if they are not seen from here yet."""
_BLIND = 5.0
"""The same where the launcher did not say how much it wrote."""
_ASK_FIRST, _ASK_MOST = 2.0, 30.0
_PROBE = 60.0
_GONE = 3
"""Queries in a row that do not know a job, after which its scheduler has lost it."""
_AGAIN = 60.0
"""Seconds after which the end of a job is asked for once more that is still there."""
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

    def __init__(self, url: str, token: str, home: Path, user: str | None = None, cluster: str = "") -> None:
        """home: where job folders and spools are; on a cluster, on a file system that the nodes share.
        user: whose jobs these are, by the server's name for them; the one of this machine otherwise.
        cluster: take the jobs of this profile alone, instead of those of every scheduler that answers here.
        """
        self.server = Server(url, token)
        self.relay = Relay(self.server)
        self.home, self.user, self._cluster = home, user or process.whoami(), cluster
        self._open: dict[str, Job] = {}
        self._met, self._claimed = False, 0.0
        self._asked: dict[str, Asked] = {}
        self._wake, self._stop = threading.Event(), threading.Event()
        self._passes, self._wanted, self._passed = 0, 0, threading.Condition()
        self._cancelled: dict[str, float] = {}
        self._going_on = GoingOn(self.server, self._run)
        self._scripts = Scripts(self.relay, home / "spool", self._complain)
        (home / "spool").mkdir(
            parents=True, exist_ok=True, mode=0o700
        )  # Where it is, capsules need not come before their job ends.
        self._sites: dict[str, dict[str, str]] = {}
        self._reached: list[str] = []
        self._probe = 0.0
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

    @property
    def takes(self) -> list[str]:
        """Its own cluster, or the schedulers that answer here. Asked for by the agent's thread: a server does not wait for them. One
        that does not answer is asked again after a minute."""
        if self._cluster:
            return [self._cluster]
        if time.monotonic() >= self._probe:
            missing = [name for name in SCHEDULERS.names() if name not in self._reached]
            self._reached += filter(clusters.answers, missing)
            self._probe = time.monotonic() + _PROBE
        return self._reached

    def __enter__(self) -> Agent:
        with suppress(OSError):  # On a full disk, say: it is tried again with each claim.
            _ = self.name  # Taken before anybody is told that there is a server; schedulers may take long to answer.
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
                    say(f"agent: {sentence}")
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
            say(f"agent: {sentence}")
            self._complaints[about] = sentence

    def run(self) -> None:
        """Run in this thread until interrupted."""
        self._forever()

    def once(self) -> None:
        """For a site where nothing may stay: submit what is new, see what has become of the rest, ship what it has said."""
        for _ in range(_GONE):
            self._claimed = 0.0
            self.tick()
            if not any(asked.missing for asked in self._asked.values()):
                return
            for asked in self._asked.values():
                asked.next = 0.0
            time.sleep(_ASK_FIRST)  # A job that its scheduler does not know may be known in a moment.

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
        return self._scripts.ship() or bool(self._open)

    def _claim(self) -> None:
        work = self.server.call(wire.CLAIM, wire.Claim(self.user, self.takes, self.name, all_open=not self._met))
        self._open |= {job.id: job for job in work.open}
        self._met = True
        for job in work.claimed:
            self._submit(job)
        places = {job.spec.place: job.spec for job in self._open.values()}
        for spec in places.values():
            self._cancel(spec, self._of(spec, (*work.cancel, *work.requeue)))
            for verb, ids in (("hold", work.hold), ("release", work.release)):
                self._tell(spec, verb, self._of(spec, ids))
            for job in self._of(spec, list(work.drill)):
                self._folder(job).write("drill", f"{work.drill[job.id]} {job.tries}")
                self._report(job, wire.Report(job.id, job.state, done=f"drill {work.drill[job.id]}"))
            self._ask(spec)

    def _of(self, spec: JobSpec, ids: Sequence[str]) -> list[Job]:
        """Those of these jobs that are open at the place of this one."""
        found = [self._open[job_id] for job_id in ids if job_id in self._open]
        return [job for job in found if job.spec.place == spec.place]

    def _run(self, spec: JobSpec) -> Callable[[Sequence[str]], Answer]:
        """Runs the commands of a job's scheduler."""

        def run(argv: Sequence[str]) -> Answer:
            if argv[:3] == localq.COMMAND:
                return localq.answer(argv[3:], self.home)
            return process.run(argv, env={**self._env, **spec.variables})

        return run

    def _site(self, spec: JobSpec) -> dict[str, str]:
        """What this site calls things, asked for until it says so."""
        if not self._sites.get(spec.place):
            self._sites[spec.place] = SCHEDULERS.get(spec.scheduler).learn(self._run(spec))
        return self._sites[spec.place]

    def _submit(self, job: Job) -> None:
        """Submit a job. A scheduler that takes none just now, be it that the site's limit is reached, is left alone for a while."""
        name = job.spec.place
        if time.monotonic() < self._refusing.get(name, 0.0):
            return
        dialect, folder = SCHEDULERS.get(job.spec.scheduler), self._folder(job)
        job = replace(job, spec=replace(job.spec, site={**self._site(job.spec), **job.spec.site}))
        try:
            job = replace(job, spec=self._going_on.placed(job, folder))
            if job.spec.code is not None:
                job = replace(job, spec=replace(job.spec, cwd=str(self._thawed(job.spec.code, folder))))
            scheduler_id = submit(job, folder, dialect, self._job_env(job, folder), self._run(job.spec))
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

    def _thawed(self, frozen: Code, folder: Folder) -> Path:
        """The code of a job, unpacked. For a cluster of its own it was frozen on another machine, and is fetched from the server."""
        if self._cluster and not (folder.path / "code").exists():
            name = frozen.file.rpartition("/")[2]
            here = self.home / "code" / name
            if not here.exists():
                self.server.download(code.ROOT, name, here)
                code.compare(here)
            frozen = replace(frozen, file=str(here), links={}, objects="")  # What they lead to is not on this machine.
        return code.thaw(frozen, folder.path / "code")

    def _job_env(self, job: Job, folder: Folder) -> dict[str, str]:
        """What makes Noria's and mlflow's clients work in the job, whichever environment it has.

        An unmodified mlflow script speaks to the server from this machine; on a cluster's node, where a loopback address would
        lead nowhere and there may be no network at all, to the job's spools.
        """
        home = self._home(job)
        env = {"NORIA_HOME": str(home), "MLFLOW_RUN_ID": job.run_id, "MLFLOW_EXPERIMENT_NAME": job.spec.experiment}
        env |= {CLIENT: str(carry.carry(home))}
        if job.spec.scheduler != "local":
            return env | {"MLFLOW_TRACKING_URI": f"noria-spool://{quote(str(folder.spool))}"}
        token = job_token(self.server.token, job.id)
        here = {"MLFLOW_TRACKING_URI": self.server.url, "NORIA_SERVER": self.server.url}
        return env | here | {"MLFLOW_TRACKING_TOKEN": token, "NORIA_TOKEN": token}

    def _report(self, job: Job, report: wire.Report) -> None:
        """Tell the server, and take its word for what the job is now."""
        job = self.server.call(wire.REPORT, report).job
        if job.state in ("QUEUED", "COMPLETED", "FAILED", "CANCELLED"):
            self._open.pop(job.id, None)
            self._cancelled.pop(job.id, None)
            if job.state == "QUEUED" and report.again:
                self._claimed = 0.0  # It is to go on now.
        else:
            self._open[job.id] = job

    def _cancel(self, spec: JobSpec, jobs: Sequence[Job]) -> None:
        """End jobs that somebody wants no more: until they are gone, for a scheduler may be away, or lose a word."""
        now = time.monotonic()
        wanted = [job for job in jobs if now >= self._cancelled.get(job.id, now)]
        if wanted:
            answer = self._run(spec)(SCHEDULERS.get(spec.scheduler).cancel([job.scheduler_id for job in wanted]))
            if answer.code:
                self._complain(f"{spec.place} cancel", f"cancel: {words(answer)}")
            self._cancelled |= dict.fromkeys([job.id for job in wanted], now + (_REFUSED if answer.code else _AGAIN))

    def _tell(self, spec: JobSpec, verb: str, jobs: Sequence[Job]) -> None:
        """Hold or release jobs that wait in the queue, and look at it anew. What fails is told, and tried again after a while."""
        about = f"{spec.place} {verb}"
        if not jobs or time.monotonic() < self._refusing.get(about, 0.0):
            return
        dialect = SCHEDULERS.get(spec.scheduler)
        command = dialect.hold if verb == "hold" else dialect.release
        answer = self._run(spec)(command([job.scheduler_id for job in jobs]))
        if answer.code != 0:
            self._refusing[about] = time.monotonic() + _REFUSED
            self._complain(about, f"{verb}: {words(answer)}")
            for job in jobs:
                self._report(job, wire.Report(job.id, job.state, reason=f"noria {verb} has not worked yet: {words(answer)}"))
            return
        for job in jobs:
            self._report(job, wire.Report(job.id, job.state, done=verb))
        self._asked[spec.place] = Asked()

    def _ask(self, spec: JobSpec) -> None:
        """One query for all open jobs of a place, with pauses that grow while nothing changes."""
        asked = self._asked.setdefault(spec.place, Asked())
        mine = [job for job in self._of(spec, list(self._open)) if not self._said_all(job)]
        if not mine or time.monotonic() < asked.next:
            return
        dialect, run = SCHEDULERS.get(spec.scheduler), self._run(spec)
        try:
            seen = dialect.states(run(dialect.query(process.whoami())))
            lost = [job.scheduler_id for job in mine if _unclear(seen.get(job.scheduler_id))]
            accounting = dialect.final(lost) if lost else None
            if accounting is not None:
                seen |= dialect.finals(run(accounting))
        except NoriaError as error:
            self._complain(spec.place, error.message)
            seen, lost = asked.seen, []
        # An id counts as gone only after several queries without it: schedulers forget for moments.
        asked.missing = {key: asked.missing.get(key, 0) + 1 for key in lost if key not in seen}
        asked.every = _ASK_FIRST if seen != asked.seen or spec.scheduler == "local" else min(asked.every * 1.5, _ASK_MOST)
        asked.seen, asked.next = seen, time.monotonic() + asked.every

    def _folder(self, job: Job) -> Folder:
        return Folder(Path(job.folder)) if job.folder else folder_of(self._home(job), job.id)

    def _home(self, job: Job) -> Path:
        """Where its folder is made, and what its nodes are to see."""
        return Path(job.spec.home).expanduser() if job.spec.home else self.home

    def _watch(self, job: Job) -> None:
        """Look first, ship then, report last: whatever was written before a job's end is readable once the end is."""
        folder, asked = self._folder(job), self._asked.setdefault(job.spec.place, Asked())
        view = look(folder)
        spools = sorted(folder.spool.glob("*.spool"))
        self.relay.ship(spools)
        if view.exit is not None and job.spec.scheduler != "local" and _lags(view.exit, spools):
            return
        seen, cancelled = asked.seen.get(job.scheduler_id), job.id in self._cancelled
        if self._going_on.awaits_word(job, view, seen, cancelled=cancelled):
            return
        often = 1 if job.spec.scheduler == "local" else _GONE  # Our own queue does not forget.
        gone = asked.missing.get(job.scheduler_id, 0) >= often
        report = judge(job, view, seen, gone, _now())
        if report is None and (lost := self._going_on.lost(job, folder, seen)):
            self._run(job.spec)(SCHEDULERS.get(job.spec.scheduler).cancel([job.scheduler_id]))
            seen, report = lost, judge(job, view, lost, gone, _now())
        if report is None or (report.state in ENDED and not self._settled(spools)):
            return
        if report.state in ENDED:
            report = self._going_on.concluded(job, folder, view, seen, report, cancelled=cancelled)
            asked.missing.pop(job.scheduler_id, None)  # Some schedulers give the same id once more.
            asked.seen.pop(job.scheduler_id, None)
        self._report(job, report)
        if job.id not in self._open:
            for path in spools:
                self.relay.forget(path)

    def _said_all(self, job: Job) -> bool:
        """Whether the scheduler need not be asked about a job: its launcher has said how it ended, and why."""
        exit = self._folder(job).exit()
        return exit is not None and not needs_word(exit)

    def _settled(self, spools: Sequence[Path]) -> bool:
        """Ship what is left of spools that nobody writes any more. Whether no file of theirs is still being offered again."""
        for path in spools:
            self.relay.finish(path, over=True)
        return not any(self.relay.retries(path) for path in spools)


def _hold(path: Path) -> int:
    """A lock that is held until this process ends; -1 if another one holds it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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


def _unclear(seen: Seen | None) -> bool:
    """Whether accounting is asked about a job: the queue knows it not, or not how it ended."""
    return seen is None or (seen.state in ENDED and seen.exit_code is None)


def _now() -> int:
    return int(time.time() * 1000)
