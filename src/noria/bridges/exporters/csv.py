"""CSV: `runs.csv` and `metrics.csv` in a folder, or a file and `<file>.metrics.csv`; `-` is the table of runs on stdout."""

from __future__ import annotations

import csv
import os
import sys
from datetime import UTC, datetime
from typing import Any

from noria.bridges import tables
from noria.bridges.send import Sink, State
from noria.client.http import Server
from noria.errors import Unavailable
from noria.wire.imports import Run


def open(target: str, server: Server) -> Sink:
    return ToStdout() if target == "-" else ToFiles(target)


class ToStdout(Sink):
    """The table of runs alone."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: list[dict[str, Any]] = []

    def run(self, run: Run) -> State:
        self._rows.append(tables.row(run))
        return "new"

    def finish(self) -> None:
        _write(sys.stdout, self._rows)


class ToFiles(Sink):
    """Both tables, written beside and renamed when they are whole."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self._paths = tables.places(target, ".csv")
        self._rows: list[dict[str, Any]] = []
        try:
            self._points = tables.beside(self._paths[1]).open("w", newline="", encoding="utf-8")
        except OSError as error:
            raise Unavailable(f"'{target}' cannot be written ({error.strerror}).", "Name another target.") from None
        self._writer = csv.writer(self._points)
        self._writer.writerow(tables.POINTS)

    def run(self, run: Run) -> State:
        own = run.fields.info.run_id
        for series in run.series:
            points = zip(series.steps, series.timestamps, series.values, strict=True)
            self._writer.writerows((own, series.key, *point) for point in points)
        self._rows.append(tables.row(run))
        return "new"

    def finish(self) -> None:
        self._points.close()
        with tables.beside(self._paths[0]).open("w", newline="", encoding="utf-8") as file:
            _write(file, self._rows)
        for path in self._paths:
            os.replace(tables.beside(path), path)

    def close(self) -> None:
        self._points.close()
        for path in self._paths:
            tables.beside(path).unlink(missing_ok=True)


def _write(file: Any, rows: list[dict[str, Any]]) -> None:
    writer = csv.DictWriter(file, tables.columns(rows))
    writer.writeheader()
    for row in rows:
        times = {name: _time(row[name]) for name in ("start_time", "end_time")}
        writer.writerow({**row, **times})


def _time(milliseconds: int | None) -> str:
    """ISO 8601, in UTC."""
    if milliseconds is None:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
