"""Nodes that jobs may have failed for."""

from noria.jobs import health
from noria.server.route import read, write
from noria.store import nodes
from noria.store.experiments import now
from noria.store.store import Connection
from noria.wire import nodes as wire


def _suspects(conn: Connection, request: wire.List) -> wire.Suspects:
    moment = now()
    places = nodes.records(conn, health.BLAMED, health.WELL, moment - health.LOOKED_BACK)
    found = [
        each
        for place, told in places.items()
        if request.place in ("", place)
        for each in health.suspects(place, told, moment, nodes.forgiven(conn, place))
    ]
    return wire.Suspects(sorted(found, key=lambda each: -each.score))


ROUTES = [read(wire.SUSPECTS, _suspects), write(wire.FORGIVE, nodes.forgive)]
