"""Served models."""

from noria.server.live import CHANGED, Hub
from noria.server.route import read, write
from noria.store import endpoints
from noria.wire import serving as wire


def _served(hub: Hub, request: wire.Put, _: object) -> None:
    hub.tell(request.endpoint.run_id, lambda: [CHANGED])


ROUTES = [write(wire.PUT, endpoints.put, _served), read(wire.LIST, endpoints.list_), write(wire.LOGGED, endpoints.logged)]
