"""What a node makes ready before the first task of a job starts, and takes away after the last."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from noria import process
from noria.errors import NoriaError, Unavailable
from noria.jobs import scratch
from noria.jobs.activate import activated, contained
from noria.jobs.dialect import Placement
from noria.jobs.frameworks import first, spare_port
from noria.jobs.say import say
from noria.jobs.scratch import Stopped
from noria.jobs.unpack import relocated, unpack
from noria.types import Job, JobSpec

STAGED = "NORIA_STAGE_"
"""Begins the variable that says where a copy is; then comes its name."""


class Settled(Struct, frozen=True):
    """What tasks are told and start with. usual: what a job's own variables may set otherwise. active: the job's own, with what its environments set."""

    usual: dict[str, str]
    active: dict[str, str]
    command: list[str]


def settle(job: Job, node: int, given: Mapping[str, str], seen: Sequence[str], until: ExitStack, stopped: Stopped) -> Settled:
    """given: the job's own variables. seen: folders that an image must show. until: who takes away what is made here.

    Raises Unavailable, or an OSError, where the job cannot run on this node.
    """
    spec = job.spec
    usual = {**_scratch(job, node, until), **_staged(spec, until, stopped)}
    spec, own = _unpacked(spec, given, until, stopped)
    active = activated(spec, {**os.environ, **usual, **own}, own, lambda argv, env: process.run(argv, env=env))
    return Settled(usual, {**own, **active}, contained(spec, {**own, **active}, [*seen, *usual.values()]))


def sound(job: Job, placement: Placement, folder: Path, env: Mapping[str, str], attempt: int) -> None:
    """Raises BadNode if one of the job's nodes is broken; takes ten seconds at most. env: what tasks start with."""
    from noria.hardware import nodecheck  # Few jobs ask for it.

    spec = job.spec
    here = nodecheck.Place(
        placement.nodes[placement.node_rank], placement.node_rank, spec.nodes, first(placement), spare_port(job, attempt), folder
    )
    python = nodecheck.interpreter(spec.command, env, is_contained=bool(spec.environment.image))
    own = next(each for each in nodecheck.check(here, spec.gpus, python, env) if each.rank == here.rank)
    say("; ".join([f"this node is sound, {own.seconds:.1f} s", *own.skipped]))


def _unpacked(spec: JobSpec, given: Mapping[str, str], until: ExitStack, stopped: Stopped) -> tuple[JobSpec, Mapping[str, str]]:
    """A job with its environment on this node's disk, if that was packed."""
    file, was, began = spec.environment.packed, spec.environment.folder, time.monotonic()
    if not file:
        return spec, given
    if not os.path.exists(file):
        raise Unavailable(f"There is no {file}, this job's environment.", "Submit it again.")
    size, key = os.path.getsize(file), Path(file).stem
    at = until.enter_context(scratch.kept(scratch.root(spec.site, os.environ), key, size, unpack(file, was), stopped))
    say(f"{was} ({size / 1e9:,.2f} GB) is at {at}, {time.monotonic() - began:.1f} s")
    return relocated(spec, given, str(at))


def _scratch(job: Job, node: int, until: ExitStack) -> dict[str, str]:
    """The job's own folder on this node. Without one it runs all the same, unless it asked for more."""
    try:
        place = str(until.enter_context(scratch.folder(scratch.root(job.spec.site, os.environ), f"{job.id}-{node}")))
    except (NoriaError, OSError) as error:
        say(f"no scratch folder: {error}")
        return {}
    return {"NORIA_SCRATCH": place, **({} if job.spec.as_is else {"TMPDIR": place})}


def _staged(spec: JobSpec, until: ExitStack, stopped: Stopped) -> dict[str, str]:
    return {f"{STAGED}{name}": str(_copied(source, spec, until, stopped)) for name, source in spec.stage.items()}


def _copied(source: str, spec: JobSpec, until: ExitStack, stopped: Stopped) -> Path:
    """Where the copy of a file or folder is; the name of what it is a copy of is kept, because programs look at its ending."""
    from noria.jobs import stage  # Threads and digests are 10 ms of each launcher's start, which few need.

    if not os.path.exists(source):
        raise Unavailable(f"There is no {source} to stage.", "Keep it in a folder that the nodes see.")
    files, began = stage.listed(source), time.monotonic()
    bytes_, key = stage.size(files), stage.key(source, files)
    at, name = scratch.root(spec.site, os.environ), os.path.basename(source)
    copy = until.enter_context(scratch.kept(at, key, bytes_, stage.copy(source, files, name, stopped), stopped))
    say(f"{source} ({bytes_ / 1e9:,.2f} GB) is at {copy / name}, {time.monotonic() - began:.1f} s")
    return copy / name
