"""Registered models and their versions."""

from noria.server.route import read, signed
from noria.store import changes, registering, registry, registry_search, stages
from noria.wire import registry as wire

ROUTES = [
    signed(wire.CREATE, registering.create),
    read(wire.GET, registry.get),
    signed(wire.RENAME, registering.rename),
    signed(wire.UPDATE, registering.change),
    signed(wire.DELETE, registering.remove),
    read(wire.SEARCH, registry_search.search),
    read(wire.LATEST, registry.latest),
    read(wire.LATEST_GET, registry.latest),
    signed(wire.SET_TAG, registering.set_tag),
    signed(wire.DELETE_TAG, registering.delete_tag),
    signed(wire.SET_ALIAS, registering.set_alias),
    signed(wire.DELETE_ALIAS, registering.delete_alias),
    read(wire.GET_ALIAS, registry.get_alias),
    signed(wire.CREATE_VERSION, registering.create_version),
    read(wire.GET_VERSION, registry.get_version),
    signed(wire.UPDATE_VERSION, registering.change_version),
    signed(wire.DELETE_VERSION, registering.remove_version),
    read(wire.SEARCH_VERSIONS, registry_search.search_versions),
    signed(wire.TRANSITION, stages.transition),
    read(wire.DOWNLOAD_URI, registry.download_uri),
    signed(wire.SET_VERSION_TAG, registering.set_version_tag),
    signed(wire.DELETE_VERSION_TAG, registering.delete_version_tag),
    signed(wire.PROMOTE, stages.promote),
    signed(wire.REFUSE, stages.refuse),
    signed(wire.APPROVE, stages.approve),
    signed(wire.ROLLBACK, stages.rollback),
    signed(wire.NOTE, stages.note),
    read(wire.HISTORY, changes.history),
]
