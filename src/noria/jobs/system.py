"""System metrics of a job: each node's launcher logs them to a spool of its own, on the time axis of the job's run."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from noria import config, process
from noria.client import gpus
from noria.client.spool import Spool, now
from noria.client.system import Recorder, Sampler, kernel, limit
from noria.errors import NoriaError
from noria.jobs.dialect import Placement
from noria.jobs.folder import Folder
from noria.jobs.say import say
from noria.types import Job
from noria.wire.spools import FORMAT, Header, Log


class Lazy:
    """A spool that is made with its first record: many jobs are over before their first sample."""

    def __init__(self, folder: Path, job: Job, node: int) -> None:
        self.folder, self.job, self.node = folder, job, node
        self.spool: Spool | None = None

    def append(self, record: Log) -> None:
        if self.spool is None:
            me, rank = os.getpid(), self.job.spec.world_size + self.node  # After all ranks: the launchers of the nodes.
            header = Header(
                FORMAT, uuid4().hex, self.job.run_id, self.job.id, 0, rank, socket.gethostname(), me, process.born(me), now()
            )
            self.spool = Spool(self.folder, header)
        self.spool.append(record)

    def close(self) -> None:
        if self.spool is not None:
            self.spool.close()


@contextmanager
def recorded(folder: Folder, job: Job, placement: Placement, ranks: Callable[[], Mapping[int, int]]) -> Iterator[None]:
    """Record meanwhile. Nothing that goes wrong with it is the job's concern: it is said, and the job goes on without."""
    interval, node = _interval(folder), placement.node_rank
    if interval <= 0:
        yield
        return
    spool = Lazy(folder.spool, job, node)
    where = Path(job.spec.cwd) if os.path.isdir(job.spec.cwd) else folder.path
    sampler = Sampler(where, gpus.reader(placement.gpus), ranks, f"node_{node}" if job.spec.nodes > 1 else "")
    recorder = Recorder(sampler, spool.append, interval, min(job.created / 1000, time.time()))
    try:
        yield
    finally:
        recorder.stop()
        spool.close()


def _interval(folder: Folder) -> float:
    try:
        return config.load(env={**os.environ, **folder.environment()}).system_metrics_interval
    except NoriaError as error:
        say(f"no system metrics: {error.message}")
        return 0.0


def oom_kills() -> int:
    """How many processes of our control group, or of one around it whose memory is limited, the kernel has killed for want of memory."""
    found = limit(kernel(Path("/proc/self/cgroup")), Path("/sys/fs/cgroup"))
    lines = (kernel(found[0] / "memory.events") or kernel(found[0] / "memory.oom_control")).splitlines() if found else []
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
