"""What things were made of and what was made of them, by walking over the tables: nothing is kept twice for it.

A walk goes level by level and asks once for each kind of edge, however many nodes a level has (see lineage_ties.py).
"""

from __future__ import annotations

from sqlalchemy import Connection

from noria.store.lineage_facts import nodes
from noria.store.lineage_names import named
from noria.store.lineage_ties import neighbours
from noria.wire import lineage as wire


class _Asked:
    """What leads away from the nodes of a level: asked for once, since both walks begin alike."""

    def __init__(self, conn: Connection, most: int) -> None:
        """most: nodes in the whole graph, so that no tie need ever give more edges than one more."""
        self._conn, self._most = conn, most
        self._known: dict[tuple[bool, tuple[str, ...]], tuple[list[wire.Edge], bool]] = {}

    def __call__(self, level: list[str], up: bool) -> tuple[list[wire.Edge], bool]:
        asked = (up, tuple(level))
        if asked not in self._known:
            self._known[asked] = neighbours(self._conn, level, up=up, most=self._most + 1)
        return self._known[asked]


def trace(conn: Connection, request: wire.Trace) -> wire.Graph:
    """Raises NotFound if nothing has that name, Invalid if several things have."""
    root, ask = named(conn, request.kind, request.id), _Asked(conn, request.max_nodes)
    edges, cut = _both(ask, root, request, fair=False)
    if cut:
        edges, _ = _both(ask, root, request, fair=True)
    keys = list(dict.fromkeys([root, *(key for edge in edges for key in (edge.source, edge.target))]))
    found = nodes(conn, keys)
    return wire.Graph(root, [found[key] for key in keys], edges, cut)


def _both(ask: _Asked, root: str, request: wire.Trace, *, fair: bool) -> tuple[list[wire.Edge], bool]:
    seen, edges, cut = {root}, dict[wire.Edge, None](), False
    for up in (True, False):
        if request.direction in ("both", "up" if up else "down"):
            cut |= _walk(ask, root, request, seen, edges, up=up, fair=fair)
            if cut and not fair:
                break  # It is walked again, more fairly.
    return list(edges), cut


def _walk(
    ask: _Asked, root: str, request: wire.Trace, seen: set[str], edges: dict[wire.Edge, None], *, up: bool, fair: bool
) -> bool:
    """Add what lies on one side of the root; whether there was more than fits.

    fair: a level takes at most half of the room that is left, so that ten thousand runs of one data set do not hide what came of them.
    """
    level, gone, cut = [root], {root}, False
    for _ in range(request.depth):
        room = request.max_nodes - len(seen)
        most = room // 2 if fair else room
        found, more = ask(level, up)
        fresh = list(dict.fromkeys(_far(edge, up) for edge in found))
        new = [key for key in fresh if key not in seen]
        cut |= more or len(new) > most
        if cut and not fair:
            break
        seen.update(new[:most])
        edges.update(dict.fromkeys(edge for edge in found if _far(edge, up) in seen))
        level = [key for key in fresh if key in seen and key not in gone]
        gone.update(level)
        if not level:
            break
    return cut


def _far(edge: wire.Edge, up: bool) -> str:
    return edge.source if up else edge.target
