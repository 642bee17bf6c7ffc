"""What the Linux kernel lets a process give up for good, without root: files (Landlock), sockets (seccomp), memory (limits).

Sources: landlock(7); Documentation/userspace-api/landlock.rst and seccomp_filter.rst of the kernel; bpf and audit headers.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
from collections.abc import Iterable

_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_ALL = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights on files that a version of Landlock knows; versions between are as the one before."""
_ON_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | (1 << 14) | (1 << 15)
_TCP, _SCOPES = 3, 3
_libc = ctypes.CDLL(None, use_errno=True)


def version() -> int:
    """Of Landlock in the running kernel; 0 where there is none, or where it is switched off."""
    return max(0, int(_libc.syscall(_CREATE, None, 0, 1)))


def limit(memory: int) -> None:
    """Bound this process's memory to so many bytes, and let it leave no core."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def give_up(read: Iterable[str], write: Iterable[str]) -> tuple[bool, bool]:
    """Leave this process, and all that it starts, nothing but these folders and files, and no socket. For a process of one thread.

    Returns whether files are closed off (there is Landlock), and whether sockets are (the machine is one whose calls are known here).
    """
    _libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    files = _landlock(version(), read, write)
    return files, _seccomp()


def _landlock(found: int, read: Iterable[str], write: Iterable[str]) -> bool:
    if not found:
        return False
    rights = _ALL[max(each for each in _ALL if each <= found)]
    # Fields that an older kernel does not know must not be handed to it.
    rules = struct.pack("QQQ", rights, _TCP, _SCOPES)[: 24 if found >= 6 else 16 if found >= 4 else 8]
    ruleset = int(_libc.syscall(_CREATE, rules, len(rules), 0))
    if ruleset < 0:
        return False
    for paths, given in ((read, _READ), (write, rights)):
        for path in paths:
            _allow(ruleset, path, given & rights)
    done = int(_libc.syscall(_RESTRICT, ruleset, 0))
    os.close(ruleset)
    return done == 0


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # What is not there needs no leave.
    given = rights if os.path.isdir(path) else rights & _ON_FILES
    _libc.syscall(_ADD, ruleset, 1, struct.pack("=Qi", given, place), 0)
    os.close(place)


_MACHINES = {
    # audit's number of the machine, and of its calls: socket, connect, ptrace, process_vm_readv, process_vm_writev, io_uring_setup.
    "x86_64": (0xC000003E, (41, 42, 101, 310, 311, 425)),
    "aarch64": (0xC00000B7, (198, 203, 117, 270, 271, 425)),
}
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOWED, _REFUSED, _X32 = 0x7FFF0000, 0x00050000 | 13, 0x40000000
"""Of what is refused, the program hears EACCES."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def _seccomp() -> bool:
    """Refuse calls that make sockets or look into other processes; io_uring too, which could do the former unseen."""
    if platform.machine() not in _MACHINES:
        return False
    machine, calls = _MACHINES[platform.machine()]
    ends = len(calls) + 1  # How far the refusal is from the first comparison, which is that with x32's calls.
    lines = [(_LOAD, 0, 0, 4), (_EQUAL, 0, ends + 2, machine), (_LOAD, 0, 0, 0), (_AT_LEAST, ends, 0, _X32)]
    lines += [(_EQUAL, ends - 1 - place, 0, number) for place, number in enumerate(calls)]
    lines += [(_RETURN, 0, 0, _ALLOWED), (_RETURN, 0, 0, _REFUSED)]
    code = b"".join(struct.pack("HBBI", *line) for line in lines)
    program = _Program(len(lines), code)
    return int(_libc.prctl(_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)) == 0
