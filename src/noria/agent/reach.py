"""From this machine to a cluster behind a login node: the connection, the copy of Noria, the way back to the server, and the agent there.

Nothing needs to be installed there but Python; nothing listens there but a port of the login node's own loopback, behind the server's
token.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from noria import process
from noria.agent.login import Order
from noria.client.http import Server
from noria.errors import NoriaError, Unavailable
from noria.jobs import carry
from noria.jobs.clusters import Cluster
from noria.jobs.say import say
from noria.jobs.ssh import Connection

_PAUSE, _LONGEST = 2.0, 300.0
"""Seconds before a connection that broke is tried again, and at most, since ssh may be asked for a code only by a person."""


class Reach:
    """Keeps the agent of one cluster alive, as one process of this machine."""

    def __init__(self, cluster: Cluster, home: Path) -> None:
        """home: that of this side."""
        self.cluster, self._home = cluster, home
        self.connection = Connection(cluster.profile.ssh, home)
        self.log = home / "clusters" / f"{cluster.name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)

    def held(self) -> int | None:
        """The lock that says who keeps it; None if somebody does."""
        lock = os.open(self.log.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        return lock

    def holder(self) -> int:
        """The process that keeps it; 0 if none does."""
        lock = self.held()
        if lock is not None:
            os.close(lock)
            return 0
        return int(self.log.with_suffix(".lock").read_text() or 0)

    def keep(self, where: Callable[[], Server]) -> None:
        """Until this process ends: an agent there, and another one when the connection broke. where: the server, asked for each time."""
        if self.held() is None:
            return
        pause = _PAUSE
        while True:
            began = time.monotonic()
            try:
                self.connection.open(ask=False)
                self._agent(where()).wait()
                why = f"the agent at {self.connection.address} has ended"
            except NoriaError as error:
                why = error.message
            pause = _PAUSE if time.monotonic() - began > 60 else min(2 * pause, _LONGEST)
            say(f"{why}; trying again in {pause:.0f} s")
            time.sleep(pause)

    def _agent(self, server: Server) -> process.Popen[bytes]:
        profile, copy = self.cluster.profile, carry.carry(self._home)
        home = profile.home or "~/.noria"
        self._check(profile.python)
        there = self.connection.copy(copy, f"{home}/client/{copy.name}")
        order = Order(self._seen_from_there(server.url), server.token, home, process.whoami(), self.cluster.name)
        variables = [f"{name}={value}" for name, value in profile.variables.items()]
        argv = ["env", f"PYTHONPATH={there}", *variables, profile.python, "-m", "noria.agent.login"]
        child = process.talking(self.connection.command(argv), log=self.log)
        assert child.stdin is not None
        child.stdin.write(msgspec.json.encode(order) + b"\n")
        child.stdin.flush()
        return child

    def _check(self, python: str) -> None:
        answer = self.connection.run([python, "-c", "import sys; print(*sys.version_info[:2])"])
        version = tuple(int(word) for word in answer.out.split() if word.isdecimal())
        if version < (3, 11):
            what = f"Python {'.'.join(map(str, version))}" if version else "no such program"
            raise Unavailable(f"{python} on {self.connection.address} is {what}, and Noria needs Python 3.11 or newer.",
                              f'Set python = "/path/to/python3.11" in [profiles.{self.cluster.name}].')  # fmt: skip

    def _seen_from_there(self, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme == "https":  # Its certificate is good for one name alone.
            return url
        port = self.connection.forward(parts.hostname or "127.0.0.1", parts.port or 80)
        return parts._replace(netloc=f"127.0.0.1:{port}").geturl()
