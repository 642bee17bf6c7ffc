"""What a node of a cluster is like, seen by a job on it: `python -m noria.hardware.site FOLDER` prints it as one line of JSON.

FOLDER is in the file system that the nodes share. What takes long is bounded: 256 MiB are written and read, a name is asked for 3 s.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from noria import process
from noria.hardware import probe
from noria.mounts import kind

OUTSIDE = ("pypi.org", 443)
OWN = ("/scratch", "/local")
_DISKS = ("ext4", "xfs", "btrfs", "zfs", "ext3", "ext2", "f2fs")
SCRATCH = ("TMPDIR", "SLURM_TMPDIR", "PBS_JOBDIR", "SCRATCH", "WORK", "JOBTMP", "LOCAL_SCRATCH")
_BLOCK, _BLOCKS, _WAIT = 4 << 20, 64, 3.0
_FILES = 200


class Storage(Struct, frozen=True):
    """A folder, the kind of its file system, and how fast it is: bytes a second written to the disk and read, small files a second."""

    path: str
    kind: str
    free: int
    write: float
    read: float
    files: float


class Import(Struct, frozen=True):
    """Seconds that a fresh interpreter takes for `import`; None if it cannot."""

    module: str
    seconds: float | None


class Site(Struct, frozen=True):
    """cpus are those that the job may use. limits: 'unlimited', or a number. mpi: what `srun --mpi=list` names. outside: whether
    the node reaches the internet; why: if it does not."""

    host: str
    python: str
    cpus: int
    memory: int
    gpus: list[probe.Gpu]
    storage: list[Storage]
    imports: list[Import]
    limits: dict[str, str]
    mpi: list[str] = []
    modules: bool = False
    containers: list[str] = []
    outside: bool = False
    why: str = ""


def look(shared: Path) -> Site:
    machine = probe.probe()
    outside, why = _reaches(*OUTSIDE)
    return Site(
        socket.gethostname(), sys.version.split()[0], machine.cpus, machine.memory, machine.gpus,
        [storage(folder) for folder in [shared, *scratch(os.environ.get)]], [_import(module) for module in ("noria", "numpy", "torch", "tensorflow")],
        _limits(), _pmi(process.run(["srun", "--mpi=list"], timeout=10)), "MODULESHOME" in os.environ or "LMOD_CMD" in os.environ,
        [name for name in ("apptainer", "singularity", "podman", "enroot") if shutil.which(name)], outside, why)  # fmt: skip


def scratch(variable: Callable[[str], str | None]) -> list[Path]:
    """Folders of the node's own that may be written to: those that the site names, and the usual ones."""
    named = [Path(value) for name in SCRATCH if (value := variable(name))]
    found: dict[int, Path] = {}
    for folder in [*named, *map(Path, OWN), Path(tempfile.gettempdir()), Path("/dev") / "shm"]:
        if folder.is_dir() and os.access(folder, os.W_OK):
            found.setdefault(folder.stat().st_dev, folder)
    return list(found.values())


def own_disk(storage: Sequence[Storage]) -> str:
    """The folder of the node's own disk that outlives a job, where there is one besides /tmp; those of variables are the job's."""
    return next((each.path for each in storage if each.path in OWN and each.kind in _DISKS), "")


def storage(folder: Path) -> Storage:
    """Measured with random bytes, since file systems compress; what was written is read past the cache where that can be asked for."""
    block, free = os.urandom(_BLOCK), shutil.disk_usage(folder).free
    count = min(_BLOCKS, free // (4 * _BLOCK))
    place = folder / f".noria-probe-{os.getpid()}"
    try:
        start = time.perf_counter()
        with open(place, "wb", buffering=0) as file:
            for _ in range(count):
                file.write(block)
            os.fsync(file.fileno())
            wrote = time.perf_counter() - start
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        with open(place, "rb", buffering=0) as file:
            while file.read(_BLOCK):
                pass
        read = time.perf_counter() - start
    finally:
        place.unlink(missing_ok=True)
    return Storage(str(folder), kind(folder), free, count * _BLOCK / wrote, count * _BLOCK / read, _small(folder))


def _small(folder: Path) -> float:
    """Files of 4 KiB, made and read: what an import does many thousand times."""
    place = folder / f".noria-probe-{os.getpid()}.d"
    place.mkdir()
    try:
        start = time.perf_counter()
        for number in range(_FILES):
            (place / str(number)).write_bytes(bytes(4096))
        for number in range(_FILES):
            (place / str(number)).read_bytes()
        return 2 * _FILES / (time.perf_counter() - start)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _import(module: str) -> Import:
    start = time.perf_counter()
    done = process.run([sys.executable, "-c", f"import {module}"], timeout=120)
    return Import(module, time.perf_counter() - start if done.code == 0 else None)


def _reaches(name: str, port: int) -> tuple[bool, str]:
    """As far as a connection; nothing is sent."""
    try:
        with socket.create_connection((name, port), _WAIT):
            return True, ""
    except OSError as error:
        return False, f"{name}: {error.strerror or error}"


def _limits() -> dict[str, str]:
    kinds = {"open files": resource.RLIMIT_NOFILE, "locked memory": resource.RLIMIT_MEMLOCK, "address space": resource.RLIMIT_AS,
             "processes": resource.RLIMIT_NPROC, "stack": resource.RLIMIT_STACK}  # fmt: skip
    return {name: _number(resource.getrlimit(kind)[0]) for name, kind in kinds.items()}


def _number(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def _pmi(answer: process.Answer) -> list[str]:
    """MPI plugin types, one on a line after the first."""
    lines = (answer.out or answer.err).splitlines() if answer.code == 0 else []
    return [word for line in lines if ":" not in line and "types are" not in line for word in line.split()]


def read(text: str) -> Site | None:
    """What `look` printed, among what else a job said."""
    for line in reversed(text.splitlines()):
        if line.startswith('{"host"'):
            return msgspec.json.decode(line, type=Site)
    return None


if __name__ == "__main__":
    print(msgspec.json.encode(look(Path(sys.argv[1]))).decode(), flush=True)
