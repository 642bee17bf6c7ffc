"""From an importer to a server: runs in batches, then their files. What is there already is completed, never doubled."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from types import ModuleType
from typing import Any

from msgspec import Struct, structs

from noria.bridges.source import File, LoggedModel, Run, Series, Source
from noria.client.http import Server
from noria.errors import NoriaError, Unavailable
from noria.types import RunData
from noria.wire import artifacts
from noria.wire import imports as wire
from noria.wire.imports import Done

_HANDS = 4
"""Threads that carry files; each has a connection of its own."""
Progress = Callable[[int, int], None]


class Summary(Struct):
    """Runs by what became of them. failed: sentences about what did not come along; notes: about what was passed over."""

    imported: int = 0
    skipped: int = 0
    completed: int = 0
    failed: list[str] = []
    notes: list[str] = []


def bring(server: Server, importer: ModuleType, source: str, experiment: str | None, progress: Progress) -> Summary:
    """Import all that a source has."""
    opened: Source = importer.open(source)
    bringer = _Bringer(server, opened, experiment, progress)
    try:
        return bringer.all()
    finally:
        bringer.close()
        opened.close()


class _Bringer:
    """One import under way."""

    def __init__(self, server: Server, source: Source, experiment: str | None, progress: Progress) -> None:
        self.server, self.source, self.experiment, self.progress = server, source, experiment, progress
        self.states: dict[str, str] = {}
        self.failures: Counter[str] = Counter()
        self._own = local()
        self._servers: list[Server] = []

    def all(self) -> Summary:
        total = self.source.total()
        self.progress(0, total)
        if self.experiment is None:
            self.server.call(wire.IMPORT, wire.Import(experiments=list(self.source.experiments())))
        with ThreadPoolExecutor(_HANDS) as hands:
            for batch in batches(self._placed(self.source.runs())):
                self._runs(batch, hands)
                self.progress(min(len(self.states), total), total)
            for model in self.source.logged_models():
                self._model(model, hands)
            for registered in self.source.registered():
                answer = self.server.call(wire.IMPORT, wire.Import(registered=[registered]))
                self._refused(answer.registered, "version")
        states = Counter(self.states.values())
        return Summary(states["new"], states["same"], states["completed"], _sentences(self.failures), self.source.notes)

    def _placed(self, runs: Iterable[Run]) -> Iterator[Run]:
        return (structs.replace(each, experiment=self.experiment) if self.experiment else each for each in runs)

    def _runs(self, batch: list[Run], hands: ThreadPoolExecutor) -> None:
        batch = [
            run for run in batch if self.states.get(run.fields.info.run_id) != "refused"
        ]  # Parts of what is refused already.
        answer = self.server.call(wire.IMPORT, wire.Import(runs=batch))
        self._refused(answer.runs, "run")
        whole: dict[str, tuple[Run, Done]] = {}
        for run, done in zip(batch, answer.runs, strict=True):
            before = self.states.get(done.id)
            self.states[done.id] = done.state if before in (None, "same") else before
            if done.state != "refused" and run.fields.data is not _PART:
                whole[done.id] = run, done
        carried = hands.map(lambda pair: self._files(pair[1], lambda: self.source.files(pair[0])), whole.values())
        for run_id, new in zip(whole, list(carried), strict=True):
            if new and self.states[run_id] == "same":
                self.states[run_id] = "completed"

    def _model(self, model: LoggedModel, hands: ThreadPoolExecutor) -> None:
        placed = structs.replace(model, experiment=self.experiment) if self.experiment else model
        answer = self.server.call(wire.IMPORT, wire.Import(logged_models=[placed]))
        self._refused(answer.logged_models, "logged model")
        (done,) = answer.logged_models
        if done.state != "refused":
            self._files(done, lambda: self.source.model_files(model))

    def _refused(self, answers: Iterable[Done], what: str) -> None:
        for done in answers:
            if done.state == "refused":
                self.failures[f"{what} {done.id} was refused: {done.why}"] += 1

    def _files(self, done: Done, files: Callable[[], Iterable[File]]) -> int:
        """Upload what the server lacks of these. How many that were."""
        count = 0
        try:
            wanted = list(files())
            there = self._there(done) if wanted else {}
            for file in wanted:
                if there.get(file.path) != file.size:
                    self._carry(done, file)
                    count += 1
        except Unavailable:
            raise
        except NoriaError as error:
            self.failures[error.message] += 1
        except OSError as error:
            self.failures[f"{error.filename} cannot be read ({error.strerror})."] += 1
        return count

    def _carry(self, done: Done, file: File) -> None:
        with tempfile.TemporaryDirectory(prefix="noria-") as folder:
            self._server().upload(done.artifact_uri, file.path, file.fetch(Path(folder)))

    def _server(self) -> Server:
        """This thread's own connection."""
        server: Server | None = getattr(self._own, "server", None)
        if server is None:
            server = self._own.server = Server(self.server.url, self.server.token, self.server.timeout)
            self._servers.append(server)
        return server

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def _there(self, done: Done) -> dict[str, int]:
        """The files that the server has, with their sizes."""
        return {} if done.state == "new" else dict(_listed(self._server(), done.artifact_uri))


def _listed(server: Server, root: str, path: str = "") -> Iterator[tuple[str, int]]:
    where = "/".join(part for part in (root.removeprefix(artifacts.SCHEME), path) if part)
    for file in server.call(artifacts.LIST_ROOT, artifacts.ListRoot(where)).files:
        below = f"{path}/{file.path}" if path else file.path
        if file.is_dir:
            yield from _listed(server, root, below)
        else:
            yield below, file.file_size if isinstance(file.file_size, int) else -1


def _sentences(failures: Counter[str]) -> list[str]:
    return [sentence if count == 1 else f"{sentence} ({count:,} times)" for sentence, count in failures.items()]


_PART = RunData()
"""The data of what follows when a run is too much for one request."""


def batches(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Runs as requests bring them: not too many, and not too many points; a run with more comes in parts."""
    batch: list[Run] = []
    points = 0
    for run in runs:
        for part, size in _parts(run):
            if batch and (len(batch) == wire.RUNS or points + size > wire.POINTS):
                yield batch
                batch, points = [], 0
            batch.append(part)
            points += size
    if batch:
        yield batch


def _parts(run: Run) -> Iterator[tuple[Run, int]]:
    part: list[Series] = []
    size, fields = 0, run.fields
    for series in run.series:
        for piece in _pieces(series):
            if size and size + len(piece.steps) > wire.POINTS:
                yield structs.replace(run, fields=fields, series=part), size
                part, size, fields = [], 0, structs.replace(run.fields, data=_PART)
            part.append(piece)
            size += len(piece.steps)
    yield structs.replace(run, fields=fields, series=part), size


def _pieces(series: Series) -> Iterator[Series]:
    for start in range(0, max(len(series.steps), 1), wire.POINTS):
        columns: Any = (column[start : start + wire.POINTS] for column in (series.values, series.timestamps, series.steps))
        yield Series(series.key, *columns)
