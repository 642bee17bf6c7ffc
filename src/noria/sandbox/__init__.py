"""A scheduler in a box: the commands of Slurm, PBS and Grid Engine in front of PATH, over a queue on this machine."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from noria.errors import Invalid
from noria.sandbox.box import FOLDER, OPEN, Box, Node, flavor

KINDS = ("slurm", "pbs", "sge")
HOST = "127.0.0."
"""Nodes have names by which processes on them find each other, as training does: Linux answers to all of these."""
_FIRST = ("sinfo", "sbatch", "squeue", "pbsnodes", "qhost", "qsub", "qstat")


def open_(folder: Path, kind: str, *, nodes: int = 4, cpus: int = 4, mem: int = 4000, gpus: int = 2) -> dict[str, str]:
    """The variables by which a process is in the box of a folder; it is made if there is none yet. Memory in MiB.

    Raises Invalid if there is one of another kind.
    """
    box = Box(folder)
    if not box.is_there():
        Box.make(folder, kind, [Node(f"{HOST}{number}", cpus, mem, gpus) for number in range(1, nodes + 1)])
    elif box.look().flavor != kind:
        raise Invalid(f"The sandbox in {folder} is one of {box.look().flavor}.", "Name that, or another folder with --dir.")
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name in flavor(kind).COMMANDS:
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m noria.sandbox {name} "$@"\n')
        program.chmod(0o755)
    return {FOLDER: str(folder), "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}"}


def end(folder: Path) -> None:
    """End all jobs of a box, and wait until they are gone."""
    box = Box(folder)
    box.cancel(box.look().jobs)
    while any(job.state in OPEN for job in box.look().jobs):
        time.sleep(0.1)


def hint(kind: str) -> str:
    """What to type first."""
    return f"Try: {', '.join(name for name in flavor(kind).COMMANDS if name in _FIRST)}."
