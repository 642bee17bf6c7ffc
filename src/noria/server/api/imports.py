"""Whole runs, in and out."""

from noria.server.live import CHANGED, Hub
from noria.server.route import read, write
from noria.store import imports
from noria.wire import imports as wire


def _arrived(hub: Hub, request: wire.Import, result: wire.Imported) -> None:
    for done in result.runs:
        if done.state in ("new", "completed"):
            hub.tell(done.id, lambda: [CHANGED])


ROUTES = [write(wire.IMPORT, imports.take, _arrived), read(wire.EXPORT, imports.give)]
