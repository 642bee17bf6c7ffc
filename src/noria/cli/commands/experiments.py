"""noria experiments"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from noria.cli.group import Group
from noria.cli.show import json_option

if TYPE_CHECKING:
    from noria.client.http import Server
    from noria.types import Experiment

_INSTEAD = {
    "search": "noria experiments list --filter \"name LIKE 'vision-%'\"",
    "get": "noria experiments list --filter \"name = 'NAME'\" --json",
    "csv": "noria runs export --format csv --experiment NAME",
}


@click.group(cls=Group, instead=_INSTEAD)
def command() -> None:
    """Folders of runs: list, make, rename, delete.

    An experiment is named by its name or its id. Runs name theirs with noria.set_experiment("NAME"), or with mlflow's.
    """


@command.command("list")
@click.option("--filter", "text", default="", help="Such as: name LIKE 'vision-%' and tags.team = 'a'")
@click.option("--order-by", multiple=True, help="Such as: 'name ASC'; repeat for ties.", show_default="newest first")
@click.option("--limit", default=100, type=click.IntRange(1, 50_000), show_default=True, help="Experiments at most.")
@click.option("--deleted", is_flag=True, help="Only those that were deleted.")
@json_option
def list_(text: str, order_by: tuple[str, ...], limit: int, deleted: bool, as_json: bool) -> None:
    """List experiments."""
    from noria.cli import show
    from noria.cli.local import connect, settle
    from noria.wire import experiments as wire

    server = connect()
    settle(server)
    view: wire.ViewType = "DELETED_ONLY" if deleted else "ACTIVE_ONLY"
    found = server.call(wire.SEARCH, wire.Search(limit, "", text, list(order_by), view))
    if as_json:
        show.as_json({"experiments": found.experiments})
        return
    show.table(
        ("ID", "NAME", "CREATED", "CHANGED"),
        [
            (each.experiment_id, each.name, show.ago(each.creation_time), show.ago(each.last_update_time))
            for each in found.experiments
        ],
        "No experiment is deleted." if deleted else "No experiment matches.",
    )
    if found.next_page_token:
        click.echo(f"noria: the first {limit}; --limit shows more", err=True)


@command.command()
@click.argument("name")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag; repeat.")
@click.option("--artifacts", "location", default="", metavar="URI", help="Where its files go.", show_default="the server's place")
@json_option
def create(name: str, tags: tuple[str, ...], location: str, as_json: bool) -> None:
    """Make an experiment, and print its id."""
    from noria.cli.local import connect
    from noria.types import Tag
    from noria.wire import experiments as wire

    server = connect()
    pairs = [Tag(key, value) for key, _, value in (tag.partition("=") for tag in tags)]
    made = server.call(wire.CREATE, wire.Create(name, location, pairs)).experiment_id
    if as_json:
        _print(server, made)
    else:
        click.echo(made)


@command.command()
@click.argument("experiment")
@click.argument("new_name")
@json_option
def rename(experiment: str, new_name: str, as_json: bool) -> None:
    """Give an experiment another name."""
    from noria.wire import experiments as wire

    server, found = _find(experiment)
    server.call(wire.UPDATE, wire.Update(found.experiment_id, new_name))
    _say(server, found, f"is named '{new_name}' now", as_json)


@command.command()
@click.argument("experiment")
@json_option
def delete(experiment: str, as_json: bool) -> None:
    """Delete an experiment and its runs.

    Nothing is erased: `noria experiments restore` brings all of it back. Its name stays taken until it is renamed.
    """
    from noria.wire import experiments as wire

    server, found = _find(experiment)
    server.call(wire.DELETE, wire.Get(found.experiment_id))
    cure = f"`noria experiments restore {found.experiment_id}` undoes it"
    _say(server, found, f"and its runs are deleted; {cure}", as_json)


@command.command()
@click.argument("experiment")
@json_option
def restore(experiment: str, as_json: bool) -> None:
    """Bring a deleted experiment back, with all of its runs."""
    from noria.wire import experiments as wire

    server, found = _find(experiment)
    server.call(wire.RESTORE, wire.Get(found.experiment_id))
    _say(server, found, "and its runs are back", as_json)


def _find(text: str) -> tuple[Server, Experiment]:
    from noria.cli import find
    from noria.cli.local import connect

    server = connect()
    return server, find.experiment(server, text)


def _say(server: Server, found: Experiment, what: str, as_json: bool) -> None:
    if as_json:
        _print(server, found.experiment_id)
    click.echo(f"noria: experiment {found.experiment_id} '{found.name}' {what}", err=True)


def _print(server: Server, experiment_id: str) -> None:
    from noria.cli import show
    from noria.wire import experiments as wire

    show.as_json(server.call(wire.GET, wire.Get(experiment_id)).experiment)
