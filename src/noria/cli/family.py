"""A lineage as a terminal shows it: what was asked for, what it was made of, and what became of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from noria.cli import show
from noria.wire.lineage import DELETED, GONE, Edge, Graph, Node

if TYPE_CHECKING:
    from rich.tree import Tree

_COLOURS = {"data": "cyan", "code": "cyan", "job": "yellow", "run": "green", "model": "magenta", "version": "magenta", "evaluation": "yellow",
            "endpoint": "blue", "predictions": "blue"}  # fmt: skip
_SHORT = {"data": 12, "code": 12, "job": 8, "run": 8, "model": 10, "endpoint": 12}
"""How much of an id is shown; all of it for what is not listed."""
_BACK = {
    "answered": "answered by", "copied to": "copied from", "evaluated by": "evaluates", "evaluated in": "evaluates", "found": "found by",
    "frozen as": "frozen from", "logged": "logged by", "made": "made by", "read by": "reads", "registered as": "registered from",
    "run by": "runs", "served by": "serves", "started": "started by",
}  # fmt: skip
"""A tie's verb, read from what came of it."""
_UNCUT = 2000
"""The width where nobody looks: what reads lines wants them whole."""


def tell(graph: Graph, *, up: bool, down: bool) -> None:
    """Print a tree on stdout, the asked one at its root."""
    from rich.console import Console
    from rich.text import Text
    from rich.tree import Tree

    nodes = {node.key: node for node in graph.nodes}
    root = nodes[graph.root]
    tree = Tree(Text.from_markup(_line(root)))
    above, below = _sides(graph)
    for wanted, edges, title, beyond in ((up, above, "made of", _before), (down, below, "became", _after)):
        if wanted:
            branch = tree.add(Text(title if edges.get(root.key) else f"{title}: nothing that is known", style="bold"))
            _grow(branch, root.key, nodes, edges, beyond, {root.key})
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else _UNCUT, force_terminal=is_terminal, highlight=False)
    with console.capture() as captured:
        console.print(tree)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def _before(edge: Edge) -> tuple[str, str]:
    return _BACK.get(edge.verb, edge.verb), edge.source


def _after(edge: Edge) -> tuple[str, str]:
    return edge.verb, edge.target


def _sides(graph: Graph) -> tuple[dict[str, list[Edge]], dict[str, list[Edge]]]:
    """The edges that end in each node, and those that begin there."""
    above, below = dict[str, list[Edge]](), dict[str, list[Edge]]()
    for edge in graph.edges:
        above.setdefault(edge.target, []).append(edge)
        below.setdefault(edge.source, []).append(edge)
    return above, below


def _grow(
    tree: Tree, key: str, nodes: dict[str, Node], edges: dict[str, list[Edge]], beyond: Callable[[Edge], tuple[str, str]],
    shown: set[str],
) -> None:  # fmt: skip
    """Add what lies beyond a node, each with all that lies beyond it where it is met first."""
    from rich.text import Text

    for edge in edges.get(key, []):
        verb, other = beyond(edge)
        again = other in shown
        branch = tree.add(
            Text.from_markup(f"[dim]{verb}[/dim] {_line(nodes[other])}{' [dim](see above)[/dim]' if again else ''}")
        )
        if not again:
            shown.add(other)
            _grow(branch, other, nodes, edges, beyond, shown)


def _line(node: Node) -> str:
    """Its kind, its name, the beginning of its id, how it stands, and since when."""
    from rich.markup import escape

    short = node.id if node.id.startswith("runs:/") else node.id[: _SHORT.get(node.kind, len(node.id))]
    kind = "" if node.kind == "predictions" else f"[{_COLOURS[node.kind]}]{node.kind}[/] "
    words = [f"{kind}[bold]{escape(node.title)}[/]"]
    if short not in node.title and node.kind != "predictions":
        words.append(escape(short))
    if node.state:
        words.append(f"[red]{node.state}[/]" if node.state in (DELETED, GONE, "FAILED") else node.state.lower())
    if node.time:
        words.append(f"[dim]{show.ago(node.time)}[/]")
    if node.kind == "predictions" and node.where:
        words.append(escape(node.where))
    return "  ".join(words)


def dot(graph: Graph) -> str:
    """The graph as Graphviz reads it."""
    lines = ["digraph lineage {", "  rankdir=LR;", "  node [shape=box];"]
    for node in graph.nodes:
        state = f"\\n{node.state}" if node.state else ""
        style = ", style=bold" if node.key == graph.root else ", style=dashed" if node.state in (DELETED, GONE) else ""
        lines.append(f'  {_quoted(node.key)} [label="{_inside(node.kind)}\\n{_inside(node.title)}{state}"{style}];')
    lines += [f"  {_quoted(edge.source)} -> {_quoted(edge.target)} [label={_quoted(edge.verb)}];" for edge in graph.edges]
    return "\n".join([*lines, "}"])


def _inside(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')


def _quoted(text: str) -> str:
    return f'"{_inside(text)}"'
