"""What a job's folder says, fetched from here or from behind a login node, as the pure parts of this room want it."""

from __future__ import annotations

import base64
import os
import re
import shlex
import stat
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from noria.client.read import name
from noria.jobs import clusters
from noria.jobs.dialect import Seen
from noria.jobs.folder import Exit, Node
from noria.jobs.why.death import Death
from noria.jobs.why.stuck import SILENT, Pace
from noria.types import Job
from noria.wire.spools import FRAME, Log, Points, decode, resume, tagged, whole

TAIL = 64 << 10
"""Bytes at the end of each file that are read: the last of a log, and all of what is small."""
_POINTS = 50
_FILES = ("exit.json", "node-*.json", "logs/scheduler.log", "logs/rank*.log", "stacks/rank*.txt", "spool/*.spool")
_STEPS = (Log.__struct_config__.tag, Points.__struct_config__.tag)
T = TypeVar("T")


class Found(Struct, frozen=True):
    """The ends of a job's files, by their names below its folder."""

    files: dict[str, bytes]

    def text(self, name: str) -> str:
        return self.files.get(name, b"").decode(errors="replace")

    def ranks(self, form: str) -> dict[int, str]:
        """The files whose names are `form` with a rank in it."""
        pattern = re.compile(re.escape(form).replace("RANK", r"(\d+)"))
        return {int(found[1]): self.text(name) for name in self.files if (found := pattern.fullmatch(name))}

    @property
    def exit(self) -> Exit | None:
        return _decoded(self.files.get("exit.json"), Exit)

    @property
    def nodes(self) -> list[Node]:
        found = [_decoded(body, Node) for name, body in self.files.items() if name.startswith("node-")]
        return sorted((each for each in found if each is not None), key=lambda each: each.node)


def _decoded(body: bytes | None, kind: type[T]) -> T | None:
    try:
        return msgspec.json.decode(body, type=kind) if body else None
    except msgspec.MsgspecError:
        return None


def gather(job: Job) -> Found:
    """Raises Unavailable if its folder lies behind a login node that cannot be reached."""
    if not job.folder:
        return Found({})
    folder = Path(job.folder)
    if job.spec.agent and not folder.exists() and clusters.named(job.spec.agent).profile.ssh:
        return _there(job)
    paths = sorted(path for pattern in _FILES for path in folder.glob(pattern) if _is_of_this_try(path, folder))
    return Found({str(path.relative_to(folder)): body for path in paths if (body := _tail(path)) is not None})


def _is_of_this_try(path: Path, folder: Path) -> bool:
    """Stacks of an earlier try say nothing of this one, whose beginning is that of state.json."""
    try:
        return path.parent.name != "stacks" or path.stat().st_mtime > (folder / "state.json").stat().st_mtime
    except OSError:
        return True


def _tail(path: Path) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return None
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            return file.read()
    except OSError:
        return None


def _there(job: Job) -> Found:
    """All of it by one command, which prints a file's name and its end on a line."""
    names = " ".join(_FILES)
    script = (
        f"cd {shlex.quote(job.folder)} && for file in {names}; do test -f $file || continue; "
        "case $file in stacks/*) test $file -nt state.json || continue;; esac; "
        f"printf '%s ' $file; tail -c {TAIL} $file | base64 | tr -d '\\n'; echo; done"
    )
    answer = clusters.named(job.spec.agent).connection().run(["sh", "-c", script])
    lines = [line.partition(" ") for line in answer.out.splitlines()]
    return Found({name: base64.b64decode(body) for name, _, body in lines})


def death(job: Job, found: Found, word: Seen | None) -> Death:
    """How its last try ended."""
    nodes, exit = found.nodes, found.exit
    last = max([exit.ended if exit else 0, job.ended or 0, *(node.seen for node in nodes)])
    lost = [node.host for node in nodes if last - node.seen > SILENT * 1000 and any(each.ended is None for each in node.ranks)]
    return Death(
        job,
        exit,
        word,
        found.ranks("logs/rankRANK.log"),
        found.text("logs/scheduler.log"),
        nodes,
        lost,
        asked_stop=job.state == "CANCELLED",
    )


def paces(found: Found) -> dict[int, Pace]:
    """The last steps that each rank has logged, by its newest spool; the launchers' own come after all ranks."""
    newest: dict[int, tuple[int, str]] = {}
    for path in found.files:
        if path.endswith(".spool"):
            _, rank, created, _ = name(Path(path))
            newest[rank] = max(newest.get(rank, (0, "")), (created, path))
    ranks = {each.rank for node in found.nodes for each in node.ranks}
    points = {rank: _points(found.files[path]) for rank, (_, path) in newest.items() if rank in ranks}
    return {rank: Pace(each[-_POINTS:]) for rank, each in points.items() if each}


def _points(data: bytes) -> list[tuple[int, float]]:
    """(step, time) of the metrics in the end of a spool, which may begin within a frame."""
    found, at = [], 0
    while 0 <= at < len(data):
        size = whole(data[at:])
        for tag, begin, end in tagged(data[at : at + size]):
            if tag in _STEPS:
                found += _steps(decode(data[at + begin + FRAME.size : at + end]))
        at = at + size if size else resume(data, at + 1)
    return found


def _steps(record: object) -> list[tuple[int, float]]:
    """Of what the program logs; what its machine does has steps of its own."""
    if isinstance(record, Log):
        return [] if any(key.startswith("system/") for key in record.metrics) else [(record.step, record.timestamp)]
    points = record.points if isinstance(record, Points) else []
    return [(step, moment / 1000) for key, _, moment, step in points if not key.startswith("system/")]
