"""What programs that start other programs say of them: mpirun, torchrun and srun name the one that ended first."""

from __future__ import annotations

import re
import signal

from msgspec import Struct


class Inner(Struct, frozen=True):
    """The first process that ended badly, as who started it numbers it. code: 128 + n after signal n, None if it is not told."""

    starter: str
    rank: int
    host: str = ""
    code: int | None = None


_TORCHRUN = re.compile(
    r"Root Cause \(first observed failure\).*?host\s*: (?P<host>\S+).*?rank\s*: (?P<rank>\d+).*?exitcode\s*: (?P<code>-?\d+)",
    re.DOTALL,
)
_OPEN_MPI = (
    re.compile(r"(?:mpi\w+|prte?run) noticed that process rank (?P<rank>\d+) with PID \d+ on node (?P<host>\S+) exited on\s+signal (?P<signal>\d+)"),
    re.compile(r"Process name: \[[^\]]*\],(?P<rank>\d+)\]\s+Exit code:\s+(?P<code>\d+)"),
    re.compile(r"MPI_ABORT was invoked on rank (?P<rank>\d+)[^\n]*(?:\n[^\n]*)?\n?with errorcode (?P<code>\d+)"),
)  # fmt: skip
_MPICH = re.compile(
    r"RANK (?P<rank>\d+) PID \d+ RUNNING AT (?P<host>\S+)\s*\n=\s+(?:KILLED BY SIGNAL: (?P<signal>\d+)|EXIT STATUS: (?P<code>\d+))"
)
_SRUN = re.compile(
    r"srun: error: (?P<host>\S+): tasks? (?P<rank>\d+)[^:\n]*: (?P<how>Exited with exit code (?P<code>\d+)|[A-Z][a-z ]+)"
)
_STARTERS = [("torchrun", _TORCHRUN), *(("mpirun", each) for each in _OPEN_MPI), ("mpiexec", _MPICH), ("srun", _SRUN)]
_HOW = {"Killed": signal.SIGKILL, "Segmentation fault": signal.SIGSEGV, "Aborted": signal.SIGABRT, "Bus error": signal.SIGBUS,
        "Terminated": signal.SIGTERM, "Out Of Memory": signal.SIGKILL}  # fmt: skip


def inner(text: str) -> Inner | None:
    """The process that a starter names, in the end of its log."""
    for starter, pattern in _STARTERS:
        if found := pattern.search(text):
            said = {name: value or "" for name, value in found.groupdict().items()}
            return Inner(starter, int(said["rank"]), said.get("host", ""), _code(said))
    return None


def _code(said: dict[str, str]) -> int | None:
    if number := said.get("signal") or _HOW.get(said.get("how", "").strip()):
        return 128 + int(number)
    if not said.get("code"):
        return None
    code = int(said["code"])
    return 128 - code if code < 0 else code
