"""What this machine has. Looks at files and one command; imports no framework."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from noria.process import Answer, run


class Gpu(Struct, frozen=True):
    """Memory in bytes."""

    name: str
    memory: int


class Machine(Struct, frozen=True):
    """CPUs that this process may use; memory and free disk in bytes."""

    cpus: int
    memory: int
    gpus: list[Gpu]


_QUERY = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]


def probe(run: Callable[[Sequence[str]], Answer] = run) -> Machine:
    return Machine(len(os.sched_getaffinity(0)), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), gpus(run(_QUERY)))


def gpus(answer: Answer) -> list[Gpu]:
    """The GPUs in nvidia-smi's answer; none if it failed."""
    lines = [line.rpartition(",") for line in answer.out.splitlines()] if answer.code == 0 else []
    return [Gpu(name.strip(), int(memory) * 2**20) for name, _, memory in lines if memory.strip().isdigit()]


def free(path: Path) -> int:
    """Free bytes of the file system that holds `path`, or will."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free
