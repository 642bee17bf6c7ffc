"""Which nodes a job is kept from when it is submitted: what its owner left out, and those that jobs of all users failed on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from noria.client.http import Server
from noria.errors import NoriaError
from noria.jobs.dialect import SCHEDULERS, Node
from noria.jobs.health import avoided, parted
from noria.process import Answer
from noria.types import JobSpec
from noria.wire import nodes as wire

_FRESH = 5.0
"""Seconds for which the same is known of a place: an array of many jobs asks once."""


class Known(Struct, frozen=True):
    since: float
    suspects: list[wire.Suspect]
    nodes: list[Node]


class Avoid:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: dict[str, Known] = {}

    def nodes(self, spec: JobSpec, run: Callable[[Sequence[str]], Answer], blamed: Sequence[str] = ()) -> list[str]:
        """`exclude` for this job, with what it leaves out already. run: runs a command of its scheduler. blamed: nodes on which it failed
        itself, the worst first. Never raises: what cannot be known, or said to this scheduler, keeps a job from no node."""
        try:
            known = self._known.get(spec.place)
            if known is None or time.monotonic() - known.since > _FRESH or (blamed and not known.nodes):
                known = self._known[spec.place] = self._ask(spec, run, bool(blamed))
            own = parted(spec, blamed, known.nodes)
            rest = [node for node in known.nodes if node.name not in own]
            found = [*own, *avoided(spec, known.suspects, rest)]
            if found:
                SCHEDULERS.get(spec.scheduler).check(replace(spec, exclude=[*spec.exclude, *found]))
            return [*spec.exclude, *found]
        except NoriaError:
            return spec.exclude

    def _ask(self, spec: JobSpec, run: Callable[[Sequence[str]], Answer], blamed: bool) -> Known:
        """The scheduler is asked only where some node is in question."""
        suspects = [each for each in self._server.call(wire.SUSPECTS, wire.List(spec.place)).nodes if each.avoided]
        dialect = SCHEDULERS.get(spec.scheduler)
        return Known(time.monotonic(), suspects, dialect.nodes(run(dialect.NODES)) if suspects or blamed else [])
