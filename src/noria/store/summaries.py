"""What a list of a run's metrics says of each: the row that `latest` keeps of it."""

from __future__ import annotations

import math

from sqlalchemy import Connection, select

from noria.store import runs
from noria.store.schema import latest
from noria.types import Number, number
from noria.wire import runs as wire


def summarise(conn: Connection, request: wire.Summarise) -> wire.Summaries:
    key = runs.row(conn, request.run_id).id
    found = conn.execute(select(latest).where(latest.c.run == key).order_by(latest.c.key))
    return wire.Summaries([
        wire.Summary(each.key, _number(each.value), each.step, each.timestamp, _number(each.first), each.first_step,
                     None if each.min is None else number(each.min), None if each.max is None else number(each.max))
        for each in found
    ])  # fmt: skip


def _number(value: float | None) -> Number:
    """NaN lies in the table as NULL."""
    return number(math.nan if value is None else value)
