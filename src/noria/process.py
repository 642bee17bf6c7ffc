"""The one module that starts processes, and the one that says whether a process still lives."""

from __future__ import annotations

import os
import pwd
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from msgspec import Struct

Popen = subprocess.Popen
Late = subprocess.TimeoutExpired


class Answer(Struct, frozen=True):
    """What a command printed, and its exit code (127: there is no such program)."""

    code: int
    out: str
    err: str


def run(
    argv: Sequence[str], *, timeout: float = 60, env: Mapping[str, str] | None = None, cwd: str | None = None, given: IO[bytes] | None = None
) -> Answer:  # fmt: skip
    """Run a command to its end, without a shell. given: the file that it reads; nothing otherwise."""
    try:
        done = subprocess.run(argv, stdin=given or subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              timeout=timeout, env=dict(env) if env is not None else None, cwd=cwd)  # fmt: skip
    except FileNotFoundError as error:
        return Answer(127, "", f"{argv[0]}: {error.strerror}")
    except subprocess.TimeoutExpired:
        return Answer(124, "", f"{argv[0]} did not answer within {timeout:g} s")
    return Answer(done.returncode, done.stdout, done.stderr)


def start(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    keep: Sequence[int] = (),
    umask: int = -1,
) -> Popen[bytes]:
    """Start a command in a session of its own: it outlives the caller, holds none of its file descriptors but those to `keep`, and
    appends to `log`. umask: what its files may not allow; the caller's if it is -1."""
    with log.open("ab") as out:
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, close_fds=True, pass_fds=keep,
                                start_new_session=True, env=dict(env) if env is not None else None, cwd=cwd, umask=umask)  # fmt: skip


def leave(argv: Sequence[str]) -> int:
    """Start a command that is no child of the caller's, in a session of its own, and that says nothing. A descriptor to read from, which
    ends when the command does; -1 if it could not be started."""
    over, until = os.pipe()
    try:
        # The shell ends at once, and what it started in the background is the system's to bury.
        subprocess.run(["/bin/sh", "-c", '"$@" &', "sh", *argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, start_new_session=True, pass_fds=(until,), check=False)  # fmt: skip
    except OSError:
        os.close(over)
        return -1
    finally:
        os.close(until)
    return over


def left(over: int, seconds: float) -> None:
    """Wait for a command that was left, no longer than so many seconds. over: what `leave` gave."""
    if over >= 0:
        select.select([over], [], [], seconds)
        os.close(over)


def fork(work: Callable[[], int], *, log: Path, env: Mapping[str, str], cwd: str) -> int:
    """Do `work` in a child as `start` would have it, with a copy of this interpreter; its pid. For processes of one thread."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # Or both would write what is in it.
    pid = os.fork()
    if pid:
        os.close(out)
        return pid
    code = 1
    try:
        os.setsid()
        os.chdir(cwd)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (out, 1), (out, 2)):
            os.dup2(source, target)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))  # Locks too, which would be held for as long as this lives.
        os.environ.clear()
        os.environ.update(env)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def beside(argv: Sequence[str], *, env: Mapping[str, str]) -> Popen[bytes]:
    """Start a command in the caller's own group, that says where the caller says it."""
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=dict(env))


def talking(argv: Sequence[str], *, log: Path) -> Popen[bytes]:
    """Start a command that is told things on its standard input, in a session of its own; what it says goes to `log`."""
    with log.open("ab") as out:
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=out, start_new_session=True)


def asked(argv: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: str) -> Popen[bytes]:
    """Start a command that is told things on its standard input and answers on its output, in a session of its own, with no other
    descriptor of ours; what it says besides goes to `log`."""
    with log.open("ab") as said:
        return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, close_fds=True,
                                start_new_session=True, env=dict(env), cwd=cwd, pipesize=_PIPE)  # fmt: skip


_PIPE = 2**20
"""Bytes that a pipe holds before its writer waits; what Linux lets anybody have."""


def within(argv: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None) -> int:
    """Let a command have the terminal until it ends; its return code."""
    return subprocess.run(argv, env=dict(env), cwd=cwd).returncode


def python(module: str, *args: str) -> list[str]:
    """The command that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", module, *args]


def born(pid: int) -> str:
    """When a process started, as an opaque text that differs when the pid was used again; empty if it does not live.

    Linux: field 22 of /proc/PID/stat (proc(5)). A zombie counts as dead.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def alive(pid: int, birth: str) -> bool:
    """Whether the process that had this pid and this birth still lives."""
    return pid > 0 and birth != "" and born(pid) == birth


def send(pid: int, number: int) -> None:
    """Signal a process, and its whole group if it leads one; silent if it is gone."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def send_group(leader: int, number: int) -> None:
    """Signal what is left of the group of a process that was started by `start`, be the leader alive or not."""
    try:
        os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass


def end(pid: int, birth: str, grace: float = 5.0) -> None:
    """End a process and its group: TERM, and after `grace` seconds KILL."""
    if not alive(pid, birth):
        return
    send(pid, signal.SIGTERM)
    until = time.monotonic() + grace
    while alive(pid, birth) and time.monotonic() < until:
        time.sleep(0.02)
    if alive(pid, birth):
        send(pid, signal.SIGKILL)


def whoami() -> str:
    """The Unix user, or the uid where it has no name, as in containers."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def exit_code(status: int) -> int:
    """A shell's exit code of what Popen calls a return code: 128 + n after signal n."""
    return 128 - status if status < 0 else status
