"""Registered models and their versions."""

from noria.server.route import read, write
from noria.store import registry
from noria.wire import registry as wire

ROUTES = [
    write(wire.CREATE, registry.create),
    read(wire.GET, registry.get),
    write(wire.RENAME, registry.rename),
    write(wire.UPDATE, registry.change),
    write(wire.DELETE, registry.remove),
    read(wire.SEARCH, registry.search),
    read(wire.LATEST, registry.latest),
    read(wire.LATEST_GET, registry.latest),
    write(wire.SET_TAG, registry.set_tag),
    write(wire.DELETE_TAG, registry.delete_tag),
    write(wire.SET_ALIAS, registry.set_alias),
    write(wire.DELETE_ALIAS, registry.delete_alias),
    read(wire.GET_ALIAS, registry.get_alias),
    write(wire.CREATE_VERSION, registry.create_version),
    read(wire.GET_VERSION, registry.get_version),
    write(wire.UPDATE_VERSION, registry.change_version),
    write(wire.DELETE_VERSION, registry.remove_version),
    read(wire.SEARCH_VERSIONS, registry.search_versions),
    write(wire.TRANSITION, registry.transition),
    read(wire.DOWNLOAD_URI, registry.download_uri),
    write(wire.SET_VERSION_TAG, registry.set_version_tag),
    write(wire.DELETE_VERSION_TAG, registry.delete_version_tag),
]
