"""Which versions an endpoint answers with, and what it wrote down of its answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import ColumnElement, Connection, or_, select

from noria.store.lineage_versions import artifact
from noria.store.schema import endpoint, logged_model
from noria.types import Endpoint
from noria.wire.lineage import Edge, Kind, key

_decode = msgspec.json.Decoder(Endpoint).decode
_LOGGED = re.compile(r"models:/+(m-[^/@]+)")


def edges(conn: Connection, ids: Mapping[Kind, Sequence[str]], *, up: bool, most: int) -> list[Edge]:
    """The edges around endpoints and what they predicted; endpoints are few, so that `most` counts for nothing."""
    own = load(conn, ids.get("endpoint", []))
    if up:
        return [edge for each in own for edge in _served(each)] + [_answered(name) for name in ids.get("predictions", [])]
    asked = {key(kind, name) for kind, names in ids.items() for name in names}
    found = [edge for each in _of(conn, ids) for edge in _served(each) if edge.source in asked]
    return found + [_answered(each.endpoint_id) for each in own if each.log is not None]


def load(conn: Connection, names: Sequence[str]) -> list[Endpoint]:
    """The endpoints of these ids that are there."""
    if not names:
        return []
    return [_decode(body) for body in conn.execute(select(endpoint.c.body).where(endpoint.c.id.in_(names))).scalars()]


def _answered(name: str) -> Edge:
    return Edge(key("endpoint", name), key("predictions", name), "answered")


def _of(conn: Connection, ids: Mapping[Kind, Sequence[str]]) -> list[Endpoint]:
    """The endpoints that may serve one of these versions or models; which of them do is in their records."""
    names = {name.rpartition("/")[0] for name in ids.get("version", [])}
    models = ids.get("model", [])
    maybe: list[ColumnElement[bool]] = [endpoint.c.model.in_(names)] if names else []
    if models:
        makers = [place[0] for name in models if (place := artifact(name))]
        makers += conn.execute(select(logged_model.c.run).where(logged_model.c.id.in_(models))).scalars()
        maybe.append(endpoint.c.run_id.in_(makers))
    if not maybe:
        return []
    return [_decode(body) for body in conn.execute(select(endpoint.c.body).where(or_(*maybe))).scalars()]


def _served(each: Endpoint) -> list[Edge]:
    """What it answers with now, and what it answered with before, as far as its log tells."""
    numbers = [each.version, *(each.log.versions if each.log is not None else [])]
    made = [key("version", f"{each.model_name}/{number}") for number in numbers if each.model_name and number]
    if not made and (match := _LOGGED.fullmatch(each.model_uri)):
        made = [key("model", match[1])]
    elif not made and each.run_id and each.model_uri.startswith("runs:/"):
        made = [key("model", f"runs:/{each.run_id}/{each.model_uri.removeprefix('runs:/').partition('/')[2]}")]
    return [Edge(of, key("endpoint", each.endpoint_id), "served by") for of in dict.fromkeys(made)]
