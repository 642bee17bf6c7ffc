"""noria lineage"""

from __future__ import annotations

import click

from noria.cli.show import json_option


@click.command()
@click.argument("what", metavar="ID_OR_URI")
@click.option("--up", is_flag=True, help="Only what it was made of.")
@click.option("--down", is_flag=True, help="Only what became of it.")
@click.option("--depth", default=20, type=click.IntRange(0, 100), show_default=True, help="Steps to go in each direction.")
@click.option("--max-nodes", default=200, type=click.IntRange(1, 2000), show_default=True, help="Things to show at most.")
@click.option("--dot", is_flag=True, help="Print it for Graphviz, as in: noria lineage RUN --dot | dot -Tsvg > run.svg")
@json_option
def command(what: str, up: bool, down: bool, depth: int, max_nodes: int, dot: bool, as_json: bool) -> None:
    """Show where something comes from and what became of it.

    Data and code, job, run, model, version, endpoint and predictions, whichever of them is named:

    \b
    noria lineage 3fa91c                      a run, by the beginning of its id or its name
    noria lineage models:/digits/Production   a version; digits/3 is one too
    noria lineage m-0f3c…                     a logged model; runs:/RUN/model is one in a run's folder
    noria lineage data/train.csv              a file or folder: it is hashed, and looked up by its content
    noria lineage 9d2e…                       a digest of data, a commit of git, a job, an endpoint
    noria lineage http://node7:4141           an endpoint, by its address
    noria lineage run:digits                  one kind alone, where several things have a name
    """
    from noria.cli import family, show
    from noria.cli.local import connect, settle
    from noria.cli.paths import trace
    from noria.wire import lineage

    server = connect()
    settle(server)
    direction: lineage.Direction = "both" if up == down else "up" if up else "down"
    graph = trace(server, lineage.Trace(what, direction=direction, depth=depth, max_nodes=max_nodes))
    if as_json:
        show.as_json(graph)
    elif dot:
        click.echo(family.dot(graph))
    else:
        family.tell(graph, up=direction != "down", down=direction != "up")
    if graph.truncated:
        click.echo(f"noria: there is more than these {len(graph.nodes)}; --max-nodes shows more", err=True)
