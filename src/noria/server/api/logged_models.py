"""Logged models. Their files are served by artifacts.py."""

from noria.server.route import read, write
from noria.store import logged_models as store
from noria.wire import logged_models as wire

ROUTES = [
    write(wire.CREATE, store.create),
    read(wire.SEARCH, store.search),
    read(wire.GET, store.get),
    write(wire.FINALIZE, store.finalize),
    write(wire.DELETE, store.remove),
    write(wire.SET_TAGS, store.set_tags),
    write(wire.DELETE_TAG, store.delete_tag),
    write(wire.LOG_PARAMS, store.log_params),
]
