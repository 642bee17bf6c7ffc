"""Where each task is, when no steps are made: `stacks/rank<N>.txt`, of every process of a rank its state and, if it tells, its Python stacks.

A process that has called `noria` prints them at QUIT into its log (`client/fluent.py`), from where they are copied; of others py-spy
tells, where it is installed and allowed to.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from noria import process

if TYPE_CHECKING:
    from noria.jobs.folder import Folder
    from noria.jobs.launch import Launcher
    from noria.types import Job

_PRINT = 1.0
"""Seconds that processes have to print."""
_LAG = 5.0


def sign(folder: Folder, job: Job) -> int:
    """A number that is another one after a step: what ranks have logged, and when they saved."""
    size = 0
    for path in folder.spool.glob("*.spool"):
        if int(path.name.split("-", 2)[1]) < job.spec.world_size:
            size += path.stat().st_size
    mark = folder.mark()
    return size + (mark.at if mark else 0)


def take(launcher: Launcher) -> None:
    """Of the tasks of all nodes; those of others have some seconds for it."""
    launcher.folder.write(f"dump-{launcher.attempt}", str(time.time()))
    _dump(launcher)
    until = time.monotonic() + (_LAG if launcher.job.spec.nodes > 1 else 0)
    while time.monotonic() < until and len([*launcher.folder.stacks.glob("rank*.txt")]) < launcher.job.spec.world_size:
        time.sleep(0.2)


def wanted(launcher: Launcher) -> None:
    """On another node than the first: once for each time that it asks."""
    path = launcher.folder.path / f"dump-{launcher.attempt}"
    if launcher.placement.node_rank and path.exists() and (asked := path.read_text()) != launcher.dumped:
        launcher.dumped = asked
        _dump(launcher)


def _dump(launcher: Launcher) -> None:
    folder, spy = launcher.folder.stacks, shutil.which("py-spy")
    folder.mkdir(exist_ok=True, mode=0o700)
    logs = {rank: log for rank in launcher.ranks if (log := launcher.folder.logs / f"rank{rank}.log").exists()}
    said = {rank: log.stat().st_size for rank, log in logs.items()}
    texts = {rank: [f"rank {rank} of try {launcher.attempt} on {launcher.node.host}"] for rank in launcher.ranks}
    for rank, child in launcher.ranks.items():
        for pid in _group(child.pid):
            state = _state(pid)
            texts[rank].append(f"process {pid}: {state}")
            if "stopped" not in state and _catches(pid, signal.SIGQUIT):
                os.kill(pid, signal.SIGQUIT)
            elif "stopped" not in state and spy:
                texts[rank].append(process.run([spy, "dump", "--pid", str(pid)], timeout=10).out)
    time.sleep(_PRINT)
    for rank in texts:
        if rank in logs:
            with logs[rank].open("rb") as file:
                file.seek(said[rank])
                texts[rank].append(file.read(256 << 10).decode(errors="replace"))
        with (folder / f"rank{rank}.txt").open("a") as file:
            file.write("\n".join(texts[rank]) + "\n")


def _group(leader: int) -> Iterator[int]:
    """The processes of a task: those of its process group."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getpgid(int(entry)) == leader:
                    yield int(entry)
            except ProcessLookupError:
                pass


def _status(pid: int) -> dict[str, str]:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _state(pid: int) -> str:
    """As proc(5) has it, with what the process waits for in the kernel."""
    try:
        place = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        place = ""
    return f"{_status(pid).get('State', 'gone')}{f' in {place}' if place not in ('', '0') else ''}"


def _catches(pid: int, number: int) -> bool:
    return bool(int(_status(pid).get("SigCgt", "0"), 16) >> (number - 1) & 1)


def culprit(folder: Folder) -> int | None:
    """The rank that the others wait for, if one alone is elsewhere: it is stopped, or not in a call that ranks make together."""
    from noria.jobs.why.stuck import stack, waits  # Few jobs hang, and every launcher would read it.

    texts = {
        int(path.stem[4:]): path.read_text(errors="replace").rpartition("rank ")[2] for path in folder.stacks.glob("rank*.txt")
    }
    stopped = [rank for rank, text in texts.items() if re.search(r": [TtDZ] \(", text)]
    frames = {rank: frame for rank, text in texts.items() if (frame := stack(text))}
    elsewhere = stopped or [rank for rank, frame in frames.items() if not waits(frame)]
    return elsewhere[0] if len(elsewhere) == 1 else None
