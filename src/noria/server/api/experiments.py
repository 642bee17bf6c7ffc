"""Experiments."""

from noria.server.route import read, write
from noria.store import experiments
from noria.wire import experiments as wire

ROUTES = [
    write(wire.CREATE, experiments.create),
    read(wire.GET, experiments.get),
    read(wire.GET_BY_NAME, experiments.get_by_name),
    read(wire.SEARCH, experiments.search),
    read(wire.LIST, experiments.search),
    write(wire.UPDATE, experiments.rename),
    write(wire.DELETE, experiments.remove),
    write(wire.RESTORE, experiments.restore),
    write(wire.SET_TAG, experiments.set_tag),
    write(wire.DELETE_TAG, experiments.delete_tag),
]
