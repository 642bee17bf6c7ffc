"""Parquet: `runs.parquet` and `metrics.parquet` in a folder, or a file and `<file>.metrics.parquet`."""

from __future__ import annotations

import os
from typing import Any

from noria.bridges import tables
from noria.bridges.send import Sink, State
from noria.client.http import Server
from noria.errors import Invalid
from noria.wire.imports import Run

_GROUP = 1 << 20
"""Points in one row group."""


def open(target: str, server: Server) -> Sink:
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise Invalid("Parquet needs the package pyarrow, which is not installed.", "pip install 'noria[parquet]'") from None
    if target == "-":
        raise Invalid("Parquet cannot be written to stdout.", "Name a folder or a file, or use csv.")
    return ToFiles(target)


class ToFiles(Sink):
    """Both tables, written beside and renamed when they are whole."""

    def __init__(self, target: str) -> None:
        import pyarrow
        from pyarrow import parquet

        super().__init__()
        self._arrow, self._parquet = pyarrow, parquet
        self._paths = tables.places(target, ".parquet")
        self._rows: list[dict[str, Any]] = []
        self._moment = pyarrow.timestamp("ms", "UTC")
        kinds = (
            pyarrow.string(),
            pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
            pyarrow.int64(),
            self._moment,
            pyarrow.float64(),
        )
        self._schema = pyarrow.schema(list(zip(tables.POINTS, kinds, strict=True)))
        self._columns: list[list[Any]] = [[] for _ in tables.POINTS]
        try:
            self._writer = parquet.ParquetWriter(tables.beside(self._paths[1]), self._schema)
        except OSError as error:
            raise Invalid(f"'{target}' cannot be written ({error.strerror or error}).", "Name another target.") from None

    def run(self, run: Run) -> State:
        for series in run.series:
            size = len(series.steps)
            own: tuple[list[Any], ...] = (
                [run.fields.info.run_id] * size,
                [series.key] * size,
                series.steps,
                series.timestamps,
                series.values,
            )
            for column, values in zip(self._columns, own, strict=True):
                column += values
            if len(self._columns[0]) >= _GROUP:
                self._flush()
        self._rows.append(tables.row(run))
        return "new"

    def _flush(self) -> None:
        arrays = [self._arrow.array(column, field.type) for column, field in zip(self._columns, self._schema, strict=True)]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._columns = [[] for _ in tables.POINTS]

    def finish(self) -> None:
        self._flush()
        self._writer.close()
        names = tables.columns(self._rows)
        table = self._arrow.table({name: self._column(name) for name in names})
        self._parquet.write_table(table, tables.beside(self._paths[0]))
        for path in self._paths:
            os.replace(tables.beside(path), path)

    def _column(self, name: str) -> Any:
        number = name.startswith("metrics.")
        kind = (
            self._moment
            if name.endswith("_time") and name in tables.FIELDS
            else self._arrow.float64()
            if number
            else self._arrow.string()
        )
        return self._arrow.array([row.get(name) for row in self._rows], kind)

    def close(self) -> None:
        if self._writer.is_open:
            self._writer.close()
        for path in self._paths:
            tables.beside(path).unlink(missing_ok=True)
