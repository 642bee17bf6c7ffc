"""What the tasks of a job have printed, read where their folder is: here, or behind a login node."""

from __future__ import annotations

import base64
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from noria.jobs import clusters
from noria.jobs.folder import Folder
from noria.types import Job

_MOST = 8 << 20
"""Bytes of one task that are fetched at a time from elsewhere."""


def since(job: Job, positions: Mapping[int, int], only: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Of each task, or of one, its rank and what stands behind this position of its log. Raises Unavailable without a connection."""
    if not job.folder:
        return iter(())
    if job.spec.agent and not Path(job.folder).exists() and clusters.named(job.spec.agent).profile.ssh:
        return _there(job, positions, only)
    return _here(job, positions, only)


def _here(job: Job, positions: Mapping[int, int], only: int | None) -> Iterator[tuple[int, bytes]]:
    for rank, path in Folder(Path(job.folder)).rank_logs():
        if only in (None, rank):
            with path.open("rb") as file:
                file.seek(positions.get(rank, 0))
                yield rank, file.read()


def _there(job: Job, positions: Mapping[int, int], only: int | None) -> Iterator[tuple[int, bytes]]:
    """All of it by one command, which prints a task's rank and new bytes on a line."""
    starts = " ".join(f"{rank}) at={position};;" for rank, position in positions.items())
    which = "rank*.log" if only is None else f"rank{only}.log"
    script = (
        f"cd {shlex.quote(job.folder)}/logs && for file in {which}; do test -e $file || continue; rank=${{file#rank}}; rank=${{rank%.log}}; "
        f"at=0; case $rank in {starts} esac; printf '%s ' $rank; tail -c +$((at + 1)) $file | head -c {_MOST} | base64 | tr -d '\\n'; echo; done"
    )
    answer = clusters.named(job.spec.agent).connection().run(["sh", "-c", script])
    found = [line.partition(" ") for line in answer.out.splitlines()]
    return iter(sorted((int(rank), base64.b64decode(text)) for rank, _, text in found if rank.isdecimal()))
