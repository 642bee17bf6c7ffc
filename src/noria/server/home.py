"""A server's home: its token, who holds it, and where it answers."""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from pathlib import Path

import msgspec
from msgspec import Struct

from noria import atomic, door
from noria.errors import Conflict, Unavailable
from noria.process import alive, born


class Holder(Struct, frozen=True):
    """The server process of a home, as it wrote itself into `server.json`."""

    pid: int
    born: str
    host: str
    url: str
    auth: bool

    @property
    def here(self) -> bool:
        return self.host == socket.gethostname() and alive(self.pid, self.born)


def prepare(home: Path) -> None:
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        token(home)
    except OSError as error:
        raise Unavailable(
            f"The home {home} cannot be used ({error.strerror}).", "Give another folder with --home or NORIA_HOME."
        ) from None


def token(home: Path) -> str:
    """The home's token, made at first; readable by its owner alone."""
    path = home / "token"
    if not path.exists():
        beside = home / f".token.{os.getpid()}"
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
        try:
            os.link(beside, path)  # Unlike a rename, this leaves the token of whoever was faster.
        except FileExistsError:
            pass
        beside.unlink()
    return path.read_text().strip()


def holder(home: Path) -> Holder | None:
    """Who wrote server.json last; it may have died since."""
    try:
        return msgspec.json.decode((home / "server.json").read_bytes(), type=Holder)
    except (OSError, msgspec.DecodeError):
        return None


def lock(home: Path) -> int:
    """Hold the home until this process ends, however it ends. Raises Conflict with the name of who holds it."""
    descriptor = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        who = holder(home)
        held = f"process {who.pid} on {who.host}, which answers at {who.url}" if who else "another process"
        raise Conflict(
            f"The home {home} is held by {held}.", "Use that one, stop it with `noria server stop`, or give another --home."
        ) from None
    return descriptor


def record(home: Path, url: str, auth: bool) -> None:
    me = Holder(os.getpid(), born(os.getpid()), socket.gethostname(), url, auth)
    atomic.write(home / "server.json", msgspec.json.encode(me))


def bind(host: str, port: int, home: Path) -> socket.socket:
    """The listening socket. Port 0: the one that this home had last, so that addresses stay good, or a free one."""
    last = holder(home)
    if port == 0 and last is not None:
        try:
            return door.listen(host, int(last.url.rpartition(":")[2]))
        except Unavailable:
            pass  # Somebody else has it now.
    return door.listen(host, port)
