"""Old versions that go: judged and deleted in one transaction, so that none goes that was promoted meanwhile."""

from __future__ import annotations

import msgspec
from sqlalchemy import Column, ColumnElement, Connection, Text, func, literal, or_, select, update

from noria.errors import Conflict
from noria.store import registering, registry
from noria.store.registry import VersionRow
from noria.store.schema import alias, endpoint, logged_model, model_version, run
from noria.types import Endpoint
from noria.wire import registry as wire

_version = model_version
_decode = msgspec.json.Decoder(Endpoint).decode


def collect(conn: Connection, request: wire.Collect, user: str = "") -> wire.Collected:
    """Delete a version that nobody needs. Raises Conflict with the reason for any other."""
    found = registry.version_row(conn, request.name, request.version, lock=True)
    needed = _needed(conn, found)
    if needed:
        raise Conflict(f"{found.name} {found.version} {needed}, so it is kept.", "Archive it first, or stop what serves it.")
    freed = wire.Collected(found.location, _free(conn, found))
    if not request.dry_run:
        if freed.free:  # Nobody makes a version of it any more, while its files go.
            conn.execute(
                update(logged_model)
                .where(_touching(logged_model.c.artifact_uri, found.location))
                .values(lifecycle_stage="deleted")
            )
        registering.remove_version(conn, wire.VersionKey(request.name, request.version), request.user or user, request.reason)
    return freed


def _needed(conn: Connection, found: VersionRow) -> str:
    """Why a version must stay; "" if it need not."""
    if found.stage in ("Staging", "Production"):
        return f"stands in {found.stage}"
    named = conn.execute(select(alias.c.alias).where(alias.c.version == found.id).order_by(alias.c.alias)).scalar()
    if named:
        return f"is @{named}"
    served = select(endpoint.c.body).where(endpoint.c.model == found.name, endpoint.c.version == str(found.version))
    running = [each for each in map(_decode, conn.execute(served).scalars()) if each.state == "RUNNING"]
    return f"is served at {running[0].url}" if running else ""


def _free(conn: Connection, found: VersionRow) -> bool:
    """Whether the files are in no run that is there, and in no other version. What encloses them, or lies in them, counts as well."""
    place = found.location.rstrip("/")
    others = select(_version.c.id).where(_version.c.id != found.id, _touching(_version.c.location, place))
    runs = select(run.c.id).where(or_(_touching(run.c.artifact_uri, place), run.c.uuid == found.run_id))
    # Of a logged model that no run has made, its versions are all that is known; one that was logged to a run goes with that.
    models = (
        select(logged_model.c.id).join(run, run.c.uuid == logged_model.c.run).where(_touching(logged_model.c.artifact_uri, place))
    )
    return not any(conn.execute(query.limit(1)).first() for query in (others, runs, models))


def _touching(column: Column[str], place: str) -> ColumnElement[bool]:
    """Places that are this one, enclose it or lie in it."""
    within = func.substr(column, 1, len(place) + 1) == f"{place}/"
    around = func.substr(literal(f"{place}/", Text()), 1, func.length(column) + 1) == column.concat("/")
    return or_(column == place, within, around)
