"""A login node that OpenSSH reaches: one connection, opened where a person can answer its questions, and used by everything after.

OpenSSH does all of it (ssh_config(5): ControlMaster), with the user's own keys, hosts, jumps and second factors.
"""

from __future__ import annotations

import os
import shlex
import stat
import tarfile
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from msgspec.structs import replace

from noria import process
from noria.errors import Unavailable
from noria.process import Answer

_ALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
"""A minute without a sign of life ends the connection."""
_BEGIN = "noria: here it begins"
_LOST = 255
"""How ssh itself fails, and not what it runs."""


class Connection:
    """The connection to one login node. address: as `ssh` takes it, options such as -p 2222 included."""

    def __init__(self, address: str, home: Path) -> None:
        """home: that of this side; one of several has its own connections."""
        self.address = address
        name = sha256(f"{home} {address}".encode()).hexdigest()[:16]
        self._socket = _sockets() / name  # A socket's path must be short, so that it cannot lie in the home.
        self._ssh = ["ssh", "-S", str(self._socket)]
        self._where = shlex.split(address)

    def is_open(self) -> bool:
        return process.run([*self._ssh, "-O", "check", *self._where], timeout=20).code == 0

    def open(self, *, ask: bool) -> None:
        """Open it if it is not. ask: a person is there, whom ssh may ask for a password or a code. Raises Unavailable."""
        if self.is_open():
            return
        self._socket.unlink(missing_ok=True)
        batch = () if ask else ("-o", "BatchMode=yes")
        argv = [*self._ssh, "-M", "-f", "-N", *_ALIVE, *batch, "-o", "ControlPersist=yes", *self._where]
        if process.within(argv, env=os.environ) != 0 or not self.is_open():
            raise Unavailable(f"`ssh {self.address}` does not get in.", "Try it by hand; what works there works here.")

    def close(self) -> None:
        process.run([*self._ssh, "-O", "exit", *self._where], timeout=20)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` there, as after logging in: sites set PATH and modules in login shells."""
        inner = shlex.join(["bash", "-lc", f"echo {_BEGIN}; exec {shlex.join(argv)}"])
        return [*self._ssh, "-o", "ControlMaster=no", "-o", "BatchMode=yes", *self._where, "--", inner]

    def run(self, argv: Sequence[str], timeout: float = 60) -> Answer:
        """Run a command there to its end. Raises Unavailable if the connection is not there."""
        answer = _said(process.run(self.command(argv), timeout=timeout))
        if answer.code == _LOST and not self.is_open():
            raise Unavailable(f"There is no connection to {self.address}.", "`noria cluster connect` opens it.")
        return answer

    def forward(self, host: str, port: int) -> int:
        """A port of the login node that leads to one that is reached from here."""
        answer = process.run([*self._ssh, "-O", "forward", "-R", f"127.0.0.1:0:{host}:{port}", *self._where], timeout=20)
        words = answer.out.split()
        if answer.code or not words or (not words[-1].isdecimal() and not words[0].isdecimal()):
            raise Unavailable(f"{self.address} forwards no port: {' '.join((answer.err or answer.out).split())}.",
                              "Ask the site for AllowTcpForwarding, or run `noria agent --server` there.")  # fmt: skip
        return int(next(word for word in words if word.isdecimal()))

    def copy(self, folder: Path, target: str) -> str:
        """A folder of this machine as `target` there, whole or not at all, unless it is there already; its absolute path."""
        name = _path(target)
        unpack = f"umask 077 && mkdir -p {name}.$$ && tar -xf - -C {name}.$$ && mv {name}.$$ {name}"
        with tempfile.TemporaryFile() as packed:
            with tarfile.open(fileobj=packed, mode="w") as tar:
                tar.add(folder, ".", filter=lambda each: None if each.name.endswith("__pycache__") else each)
            packed.seek(0)
            script = f"test -e {name} || {{ {unpack}; }} && cd {name} && pwd"
            answer = _said(process.run(self.command(["sh", "-c", script]), timeout=300, given=packed))
        if answer.code:
            said = " ".join(answer.err.split())[-200:]
            raise Unavailable(
                f"{self.address} does not take {target}: {said}", "Is there room, and a `home` that can be written?"
            )
        return answer.out.rstrip("\n")


def _said(answer: Answer) -> Answer:
    """What the command itself said: files that a login shell reads may have said something before it."""
    before, begun, said = answer.out.partition(f"{_BEGIN}\n")
    return replace(answer, out=said if begun else before)


def _path(text: str) -> str:
    """A path for a shell there, whose home may be meant."""
    return '"$HOME"' + shlex.quote(text[1:]) if text == "~" or text.startswith("~/") else shlex.quote(text)


def _sockets() -> Path:
    folder = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"noria-ssh-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise Unavailable(f"{folder} is not yours alone, and connections are kept there.", "Remove it, or set XDG_RUNTIME_DIR.")
    return folder
