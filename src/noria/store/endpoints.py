"""Served models."""

from __future__ import annotations

import msgspec
from sqlalchemy import Connection, select, update

from noria.errors import NotFound
from noria.store import rows
from noria.store.schema import endpoint
from noria.types import Endpoint
from noria.wire import serving as wire

_decode = msgspec.json.Decoder(Endpoint).decode


def put(conn: Connection, request: wire.Put) -> wire.Put:
    """What is known of its log stays, whoever tells what else is new of it."""
    served = request.endpoint
    if served.log is None and (known := _body(conn, served.endpoint_id)) is not None:
        served = msgspec.structs.replace(served, log=known.log)
    values = {
        "id": served.endpoint_id, "model": served.model_name, "version": served.version, "run_id": served.run_id,
        "body": msgspec.json.encode(served),
    }  # fmt: skip
    rows.upsert(conn, endpoint, [values])
    return wire.Put(served)


def logged(conn: Connection, request: wire.Logged) -> None:
    known = _body(conn, request.endpoint_id)
    if known is None:
        raise NotFound(f"There is no endpoint '{request.endpoint_id[:64]}'.", "It is told of when it starts to serve.")
    body = msgspec.json.encode(msgspec.structs.replace(known, log=request.log))
    conn.execute(update(endpoint).where(endpoint.c.id == request.endpoint_id).values(body=body))


def _body(conn: Connection, name: str) -> Endpoint | None:
    found = conn.execute(select(endpoint.c.body).where(endpoint.c.id == name)).scalar()
    return None if found is None else _decode(found)


def list_(conn: Connection, request: wire.List) -> wire.Listed:
    found = [_decode(body) for body in conn.execute(select(endpoint.c.body)).scalars()]
    return wire.Listed(sorted(found, key=lambda each: -each.started))
