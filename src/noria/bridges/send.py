"""From a server to an exporter: whole runs, some at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Literal, Protocol

from noria.bridges.bring import Summary, sentences
from noria.client.http import Server
from noria.errors import NoriaError, NotFound, Unavailable
from noria.types import Experiment
from noria.wire import experiments, imports, runs
from noria.wire.imports import Run

_PAGE = 1000
State = Literal["new", "same", "completed"]


class Exporter(Protocol):
    """A file in `exporters/`: the format that a user names."""

    def open(self, target: str, server: Server) -> Sink:
        """Make ready to write. Raises Invalid, with one sentence, for a target of a wrong kind or a package that is missing."""


class Sink:
    """A target that was opened. Writing the same again doubles nothing."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def run(self, run: Run) -> State:
        """Write one run, with all that it has. Raises NoriaError for this one alone; Unavailable if the target is gone."""
        raise NotImplementedError

    def finish(self) -> None:
        """All runs are written."""

    def close(self) -> None:
        """Let go of what is held open; without `finish` before it, what is half done is dropped or completed by the next call."""


def send(
    server: Server, exporter: ModuleType, target: str, names: list[str] | None, filter: str, progress: Callable[[int, int], None]
) -> Summary:
    """Export the runs that a filter finds, in some experiments or in all."""
    wanted = _wanted(server, names, filter)
    states: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    sink: Sink = exporter.open(target, server)
    try:
        progress(0, len(wanted))
        for count, run in enumerate(_whole(server, wanted), 1):
            try:
                states[sink.run(run)] += 1
            except Unavailable:
                raise
            except NoriaError as error:
                failures[error.message] += 1
            progress(count, len(wanted))
        sink.finish()
    finally:
        sink.close()
    return Summary(states["new"], states["same"], states["completed"], sentences(failures), sink.notes)


def _wanted(server: Server, names: list[str] | None, filter: str) -> list[str]:
    """The runs' ids, oldest first."""
    known = {each.name: each for each in _experiments(server)}
    for name in names or []:
        if name not in known:
            raise NotFound(f"There is no experiment '{name[:80]}'.", "`noria experiments list` shows what there is.")
    ids = [known[name].experiment_id for name in (names if names is not None else known)]
    found: list[str] = []
    token = ""
    while ids:
        page = server.call(runs.SEARCH, runs.Search(ids, filter, "ACTIVE_ONLY", _PAGE, ["attributes.start_time ASC"], token))
        found += [each.info.run_id for each in page.runs]
        token = page.next_page_token
        if not token:
            break
    return found


def _experiments(server: Server) -> Iterator[Experiment]:
    token = ""
    while True:
        page = server.call(experiments.SEARCH, experiments.Search(_PAGE, token))
        yield from page.experiments
        token = page.next_page_token
        if not token:
            return


def _whole(server: Server, ids: list[str]) -> Iterator[Run]:
    while ids:
        some = server.call(imports.EXPORT, imports.Export(ids[: imports.RUNS])).runs
        yield from some
        ids = ids[len(some) :]
