"""What is needed to do a run again, as it is kept with the run: `noria/capsule.json` among its files.

A capsule is made when the run begins, by a process of its own (`capsule_make.py`), and comes through the spool. The tag `noria.capsule` has
the digest of its bytes, so that a capsule that was changed or cut is not believed. Code lies beside it once for all runs that had the same.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec import Struct

from noria.client.rows import Rows
from noria.errors import Invalid
from noria.types import JobSpec

FILE, PROCESS, PATCH, ROWS = "noria/capsule.json", "noria/process.json", "noria/uncommitted.patch", "noria/rows"
"""Where they lie among the run's files: the capsule, what a task of a job said of its own Python, what was not committed, and rows of data sets."""
TAG, OF, AGAIN = "noria.capsule", "noria.capsule.of", "noria.rerun"
"""The digest of the capsule, or why there is none; the run whose process this one shared; the run that this one repeats."""
NONE = "none: "
FORMAT = 1


class Package(Struct, frozen=True, omit_defaults=True):
    """An installed distribution. source: where it was installed from, if that is no index (PEP 610). digest: of what its RECORD says
    of its files, "" if it has none."""

    version: str
    source: str = ""
    digest: str = ""


class Library(Struct, frozen=True, omit_defaults=True):
    """Python files in a folder of sys.path that belong to no distribution. files: the digest of each, unless there are too many."""

    digest: str
    files: dict[str, str] = {}


class Software(Struct, frozen=True, omit_defaults=True):
    """The Python of a run. python, prefix: of its interpreter. driver, cuda: of the GPUs. packages by their names as indexes write them."""

    python: str = ""
    version: str = ""
    implementation: str = ""
    prefix: str = ""
    system: str = ""
    libc: str = ""
    driver: str = ""
    cuda: str = ""
    packages: dict[str, Package] = {}
    libraries: dict[str, Library] = {}


class Hardware(Struct, frozen=True, omit_defaults=True):
    """Memory in bytes."""

    host: str = ""
    machine: str = ""
    cpu: str = ""
    cpus: int = 0
    memory: int = 0
    gpus: list[str] = []


class Data(Struct, frozen=True, omit_defaults=True):
    """A file or folder that the run could read. digest: "" if it was too large to read; then size and time speak for it. why: what names
    it. changed: when it last was, in milliseconds since 1970."""

    path: str
    size: int = 0
    digest: str = ""
    rows: Rows | None = None
    why: Literal["command", "code", "variable", "beside"] = "code"
    changed: int = 0


class Kept(Struct, frozen=True, omit_defaults=True):
    """The code. digest: of the file that it was frozen to, "" if it was not. inside: the folder below `root` that the command was given
    in. left: what was too large to freeze, or may hold a secret ("secret"), by its path and what it is known by. over: only what differs from
    `commit` was frozen; gone: files of that which were not there. links: as in types.Code. reached: the files that the program imports."""

    root: str = ""
    inside: str = ""
    digest: str = ""
    commit: str = ""
    dirty: bool = False
    branch: str = ""
    remote: str = ""
    left: dict[str, str] = {}
    over: bool = False
    gone: list[str] = []
    links: dict[str, str] = {}
    reached: list[str] = []


class Capsule(Struct, frozen=True, omit_defaults=True):
    """made: milliseconds since 1970; seconds: what it took. threads: of torch, 0 if nobody asked it. spec: of a job, without those of its variables that may be secret.
    masked: whether a word of the command was left out for that. notes: what is missing, one sentence each."""

    format: int
    run_id: str
    kind: Literal["job", "script"]
    made: int
    command: list[str]
    cwd: str
    code: Kept = Kept()
    software: Software = Software()
    hardware: Hardware = Hardware()
    variables: dict[str, str] = {}
    seeds: dict[str, str] = {}
    data: list[Data] = []
    spec: JobSpec | None = None
    masked: bool = False
    threads: int = 0
    notes: list[str] = []
    seconds: float = 0.0


class Process(Struct, frozen=True, omit_defaults=True):
    """What a task of a job says of itself, which its launcher could only guess."""

    command: list[str]
    software: Software
    seeds: dict[str, str] = {}


def encoded(what: Capsule | Process) -> bytes:
    return msgspec.json.encode(what)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def decoded(content: bytes, expected: str) -> Capsule:
    """Raises Invalid for what is damaged, or of a later format. expected: what the run's tag says, "" if it says nothing."""
    if expected and digest(content) != expected:
        raise Invalid(
            "Its capsule is damaged: it is not what its digest says.", "A run cannot be done again without; start it anew."
        )
    try:
        found = msgspec.json.decode(content, type=Capsule)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Invalid(f"Its capsule is damaged ({error}).", "A run cannot be done again without; start it anew.") from None
    if found.format > FORMAT:
        raise Invalid(f"Its capsule has format {found.format}, and this Noria reads {FORMAT}.", "Upgrade Noria.")
    return found
