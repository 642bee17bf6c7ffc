"""Budgets."""

from noria.server.route import read, write
from noria.store import budgets
from noria.wire import budgets as wire

ROUTES = [write(wire.SET, budgets.set_), read(wire.LIST, budgets.list_), write(wire.REMOVE, budgets.remove)]
