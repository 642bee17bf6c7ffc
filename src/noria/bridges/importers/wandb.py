"""W&B's offline folders: `wandb/offline-run-*`, or one of them, or a `.wandb` file; read without W&B and without its server.

A run that was resumed lies in several folders and is one run. What is damaged is passed over and noted. Metrics are those of
the history, the summary for what is only there, and the system's under `system/`; media come along as files.
"""

from __future__ import annotations

import json
import math
import mmap
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from noria.bridges.leveldb import MAGIC, records
from noria.bridges.protobuf import Message
from noria.bridges.source import File, Run, Series, Source, here, info, key, local_files
from noria.errors import Invalid, NotFound
from noria.types import Experiment, Param, RunData, RunStatus, Tag
from noria.types import Run as Fields

# Fields of W&B's `Record`, by their numbers in wandb/proto/wandb_internal.proto.
_HISTORY, _SUMMARY, _CONFIG, _STATS, _ARTIFACT, _RUN, _EXIT, _ENVIRONMENT = 2, 3, 5, 7, 8, 17, 18, 26
_KEY, _NESTED, _BOOLEAN, _INTEGER, _NUMBER, _TEXT, _JSON, _VALUE = 1, 2, 4, 5, 6, 7, 8, 16
_IDS = UUID("6f0f3a52-8d0e-5d0b-9c5e-2a1f4b7c9e10")
_SILENT = 3600.0
"""Seconds without a new byte after which a run that never said its end counts as dead."""


def open(source: str) -> Source:
    return Offline(Path(source))


class Offline(Source):
    """One folder of folders, or less."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        if not root.exists():
            raise NotFound(f"There is nothing at '{root}'.", "Give W&B's folder `wandb`, or one `offline-run-…` in it.")
        found = [root] if root.is_file() else sorted({path.resolve() for path in root.rglob("*.wandb")})
        self._runs: dict[str, list[Log]] = {}
        for path in found:
            log = Log(path)
            if log.run_id:
                self._runs.setdefault(log.run_id, []).append(log)
            else:
                self.notes.append(f"{path} has no record of its run; it was passed over.")
        if not self._runs:
            raise Invalid(
                f"'{root}' holds no run of W&B that can be read.", "Give W&B's folder `wandb`, or one `offline-run-…` in it."
            )
        for logs in self._runs.values():
            logs.sort(key=lambda log: log.start)

    def total(self) -> int:
        return len(self._runs)

    def experiments(self) -> Iterable[Experiment]:
        return [Experiment("", name, "", "active", 0, 0) for name in sorted({logs[0].project for logs in self._runs.values()})]

    def runs(self) -> Iterator[Run]:
        other: Counter[str] = Counter()
        for run_id, logs in self._runs.items():
            whole = Content()
            for log in logs:
                places: list[int] = []
                whole.read(log, places)
                if places:
                    self.notes.append(
                        f"{log.path} is damaged at {len(places)} places, the first at byte {places[0]}; the rest came along."
                    )
            other.update(whole.other)
            yield whole.run(run_id, logs)
        if other:
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(other.items()))
            self.notes.append(f"Values that are no numbers are no metrics and were left out: {kinds}. Files of media came along.")

    def files(self, run: Run) -> Iterator[File]:
        found: dict[str, File] = {}
        for log in self._runs[run.fields.info.run_id]:
            found |= {file.path: file for file in local_files(log.path.parent / "files", follow=True)}
            found |= {file.path: file for file in log.artifacts()}
        yield from found.values()


class Log:
    """One `.wandb` file. Its first records say which run it is; the others are read when they are wanted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_id = self.project = ""
        self.start = 0
        for record in self.records([]):
            if record.has(_RUN):
                run = record.message(_RUN)
                self.project = run.text(3) or "uncategorized"
                self.run_id = uuid5(_IDS, f"wandb/{self.project}/{run.text(1)}").hex
                self.start = _milliseconds(run.message(17))
                break

    def records(self, damaged: list[int]) -> Iterator[Message]:
        """All records that can be read; `damaged` gets the places of those that cannot."""
        with self.path.open("rb") as file:
            if not file.read(len(MAGIC)).startswith(MAGIC[:4]):
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
                view = memoryview(mapped)
                try:
                    for payload in records(view, damaged.append):
                        try:
                            yield Message(payload)
                        except ValueError:
                            damaged.append(-1)
                finally:
                    view.release()

    def artifacts(self) -> Iterator[File]:
        """Files of artifacts that still lie where W&B has put them."""
        for record in self.records([]):
            if record.has(_ARTIFACT):
                artifact = record.message(_ARTIFACT)
                for entry in artifact.message(12).messages(4):
                    path = Path(entry.text(6))
                    if entry.text(6) and path.is_file():
                        yield File(f"artifacts/{artifact.text(5)}/{entry.text(1)}", path.stat().st_size, partial(here, path))


class Content:
    """What the logs of one run say, one after the other."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.series: dict[str, Series] = {}
        self.tags: dict[str, str] = {}
        self.other: Counter[str] = Counter()
        self.exit: int | None = None
        self.name = self.user = ""
        self.last = self.last_step = self.samples = 0

    def read(self, log: Log, damaged: list[int]) -> None:
        self.exit = None
        for record in log.records(damaged):
            try:
                self._record(record, log)
            except (ValueError, KeyError, TypeError):
                damaged.append(-1)

    def _record(self, record: Message, log: Log) -> None:
        if record.has(_HISTORY):
            self._history(record.message(_HISTORY))
        elif record.has(_SUMMARY):
            self._update(self.summary, record.message(_SUMMARY))
        elif record.has(_CONFIG):
            self._update(self.config, record.message(_CONFIG))
        elif record.has(_STATS):
            self._stats(record.message(_STATS))
        elif record.has(_RUN):
            self._run(record.message(_RUN))
        elif record.has(_ENVIRONMENT):
            self._environment(record.message(_ENVIRONMENT))
        elif record.has(_EXIT):
            end = record.message(_EXIT)
            self.exit = end.number(1)
            self.last = max(self.last, log.start + 1000 * end.number(2))

    def _run(self, run: Message) -> None:
        self.name = run.text(8) or self.name or run.text(1)
        self._update(self.config, run.message(4))
        self._update(self.summary, run.message(5))
        self._label({
            "wandb.run_id": run.text(1), "wandb.entity": run.text(2), "wandb.project": run.text(3), "wandb.group": run.text(6),
            "wandb.job_type": run.text(7), "mlflow.note.content": run.text(9), "wandb.sweep_id": run.text(12), "wandb.host": run.text(13),
            "wandb.tags": ", ".join(run.texts(10)), "mlflow.source.git.repoURL": run.message(21).text(1),
            "mlflow.source.git.commit": run.message(21).text(2),
        })  # fmt: skip

    def _environment(self, found: Message) -> None:
        self.user = found.text(13) or self.user
        self._label({"mlflow.source.name": found.text(6), "wandb.host": found.text(12), "mlflow.user": found.text(13)})

    def _label(self, tags: dict[str, str]) -> None:
        self.tags |= {name: text for name, text in tags.items() if text}

    @staticmethod
    def _update(into: dict[str, Any], record: Message) -> None:
        for item in record.messages(1):
            into[".".join(item.texts(_NESTED) or [item.text(_KEY)])] = _value(item)
        for item in record.messages(2):
            into.pop(".".join(item.texts(_NESTED) or [item.text(_KEY)]), None)

    def _history(self, record: Message) -> None:
        values: dict[str, Any] = {}
        for item in record.messages(1):
            values |= _flat(".".join(item.texts(_NESTED) or [item.text(_KEY)]), _value(item))
        values = _measured(values)
        step = int(values.get("_step", record.message(2).number(1)))
        moment = int(float(values.get("_timestamp") or self.last / 1000) * 1000)
        self.last, self.last_step = max(self.last, moment), max(self.last_step, step)
        for name, value in values.items():
            if not name.startswith("_"):
                self._point(name, value, moment, step)

    def _point(self, name: str, value: Any, moment: int, step: int) -> None:
        number = _number(value)
        if number is None:
            self.other[_kind(value)] += 1
            return
        name = key(name)
        series = self.series.setdefault(name, Series(name, [], [], []))
        series.values.append(number)
        series.timestamps.append(moment)
        series.steps.append(step)

    def _stats(self, record: Message) -> None:
        moment = _milliseconds(record.message(2))
        self.last = max(self.last, moment)
        for item in record.messages(3):
            self._point(f"system/{item.text(1)}", _value(item), moment, self.samples)
        self.samples += 1

    def run(self, run_id: str, logs: list[Log]) -> Run:
        for name, value in _measured({path: one for each in self.summary.items() for path, one in _flat(*each).items()}).items():
            if not name.startswith("_") and _number(value) is not None and key(name) not in self.series:
                self._point(name, value, self.last, self.last_step)
        status = self._status(logs[-1].path)
        end = None if status == "RUNNING" else max(self.last, logs[-1].start)
        params = {
            key(path): _text(one)
            for name, value in self.config.items()
            for path, one in _flat(name, value).items()
            if not name.startswith("_wandb")
        }
        fields = info(run_id, self.name, self.user or self.tags.get("wandb.entity", ""), status, logs[0].start, end)
        data = RunData([], [Param(*pair) for pair in params.items()], [Tag(*pair) for pair in self.tags.items()])
        return Run(logs[0].project, Fields(fields, data), list(self.series.values()))

    def _status(self, path: Path) -> RunStatus:
        if self.exit is not None:
            return "FAILED" if self.exit else "FINISHED"
        return "FAILED" if time.time() - path.stat().st_mtime > _SILENT else "RUNNING"


def _milliseconds(stamp: Message) -> int:
    """google.protobuf.Timestamp."""
    return stamp.number(1) * 1000 + stamp.number(2) // 1_000_000


def _value(item: Message) -> Any:
    """The value of an item: JSON text as a rule, and typed in newer releases."""
    if item.has(_VALUE) or item.has(_JSON):
        return json.loads(item.text(_VALUE) or item.text(_JSON) or "null")
    if item.has(_NUMBER):
        return item.double(_NUMBER)
    if item.has(_INTEGER):
        return item.number(_INTEGER)
    if item.has(_BOOLEAN):
        return bool(item.number(_BOOLEAN))
    return item.text(_TEXT) if item.has(_TEXT) else None


def _flat(name: str, value: Any) -> dict[str, Any]:
    """Nested values under names with dots, as W&B shows them; its media and tables stay whole."""
    if not isinstance(value, dict) or "_type" in value or not value:
        return {name: value}
    found: dict[str, Any] = {}
    for inner, one in value.items():
        found |= _flat(f"{name}.{inner}", one)
    return found


def _measured(values: dict[str, Any]) -> dict[str, Any]:
    """Without the inner fields of media, which newer releases write one by one: what has a `x._type` is an `x` of that type."""
    media = {name.removesuffix("._type"): value for name, value in values.items() if name.endswith("._type")}
    inner = tuple(f"{name}." for name in media)
    kept = {name: value for name, value in values.items() if not name.startswith(inner)} if inner else values
    return kept | {name: {"_type": value} for name, value in media.items()}


def _number(value: Any) -> float | None:
    if isinstance(value, (int, float)):
        return float(value)
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}.get(value) if isinstance(value, str) else None


def _kind(value: Any) -> str:
    if isinstance(value, dict) and "_type" in value:
        return str(value["_type"])
    return "texts" if isinstance(value, str) else "nothings" if value is None else "structures"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, (dict, list)) else str(value)
