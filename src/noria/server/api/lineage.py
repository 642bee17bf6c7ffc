"""Lineage, and the data sets by their content."""

from noria.server.route import read
from noria.store import datasets, lineage
from noria.wire import lineage as wire

ROUTES = [read(wire.TRACE, lineage.trace), read(wire.LIST_DATA, datasets.list_)]
