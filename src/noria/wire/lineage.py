"""Lineage: what a thing was made of and what was made of it, as a graph that is walked in both directions."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from noria.wire.endpoint import OWN, Endpoint

Kind = Literal["data", "code", "job", "run", "model", "version", "evaluation", "endpoint", "predictions"]
KINDS: tuple[Kind, ...] = ("data", "code", "job", "run", "model", "version", "evaluation", "endpoint", "predictions")
"""In the order in which one is made of the other."""
Direction = Literal["up", "down", "both"]
DEPTH, NODES = 20, 200
MOST_DEPTH, MOST_NODES = 100, 2000
DELETED, GONE = "deleted", "gone"
"""States of what can be restored, and of what is only known because something names it."""


class Node(Struct, frozen=True, omit_defaults=True):
    """One thing. `key` is what edges call it, `<kind>:<id>`. where: the place in which it is kept. time: when it came to be, in
    milliseconds since 1970; 0 if nobody knows.

    Ids: data by digest, code by the hash of what was frozen or by commit, versions as NAME/7, models as m-… or runs:/RUN/path, predictions by their endpoint.
    """

    key: str
    kind: Kind
    id: str
    title: str
    state: str = ""
    time: int = 0
    where: str = ""
    facts: dict[str, str] = {}


class Edge(Struct, frozen=True):
    """`source` came first. The verb reads from it: "run:ab" "logged" "model:m-cd"."""

    source: str
    target: str
    verb: str


class Trace(Struct, frozen=True):
    """Where to begin, and how far to go. kind: "" finds out what `id` names, whatever people write for it. depth: edges from it at most."""

    id: str
    kind: Kind | Literal[""] = ""
    direction: Direction = "both"
    depth: Annotated[int, Meta(ge=0, le=MOST_DEPTH)] = DEPTH
    max_nodes: Annotated[int, Meta(ge=1, le=MOST_NODES)] = NODES


class Graph(Struct, frozen=True):
    """`root` is the key of what was asked for, the first of the nodes. truncated: there is more that was left out."""

    root: str
    nodes: list[Node]
    edges: list[Edge]
    truncated: bool = False


class Data(Struct, frozen=True):
    """A data set by its content: what it was called, where it was read from last, how many runs read it, and when the first and the last did."""

    digest: str
    names: list[str]
    source: str
    runs: int
    first: int
    last: int


class ListData(Struct, frozen=True):
    """name: of this name only; "" for all, those read last first."""

    name: str = ""
    max_results: Annotated[int, Meta(ge=1, le=10_000)] = 100


class DataSets(Struct, frozen=True):
    data: list[Data]


TRACE = Endpoint("GET", f"{OWN}/lineage", Trace, Graph)
LIST_DATA = Endpoint("GET", f"{OWN}/data", ListData, DataSets)


def key(kind: Kind, name: str) -> str:
    """What edges call a thing."""
    return f"{kind}:{name}"


def split(key: str) -> tuple[Kind, str]:
    """The kind and the id of a key."""
    kind, _, name = key.partition(":")
    return kind, name  # type: ignore[return-value]  # Keys are made by `key` alone.
