"""Served models, and the way from data to them."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select

from noria.store import registry, rows, runs
from noria.store.schema import endpoint
from noria.types import Endpoint
from noria.wire import runs as runs_wire
from noria.wire import serving as wire

_decode = msgspec.json.Decoder(Endpoint).decode


def put(conn: Connection, request: wire.Put) -> wire.Put:
    served = request.endpoint
    values = {
        "id": served.endpoint_id, "model": served.model_name, "version": served.version, "run_id": served.run_id,
        "body": msgspec.json.encode(served),
    }  # fmt: skip
    rows.upsert(conn, endpoint, [values])
    return request


def list_(conn: Connection, request: wire.List) -> wire.Listed:
    found = [_decode(body) for body in conn.execute(select(endpoint.c.body)).scalars()]
    return wire.Listed(sorted(found, key=lambda each: -each.started))


def lineage(conn: Connection, request: wire.Trace) -> wire.Lineage:
    run = runs.get(conn, runs_wire.Get(request.run_id)).run
    served = [
        _decode(body) for body in conn.execute(select(endpoint.c.body).where(endpoint.c.run_id == request.run_id)).scalars()
    ]
    data = [each.dataset for each in run.inputs.dataset_inputs]
    return wire.Lineage(
        request.run_id, data, registry.of_run(conn, request.run_id), sorted(served, key=lambda each: each.started)
    )
